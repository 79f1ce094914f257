"""Replicas without MongoDB, and readers of what they write: files and standard output."""

from __future__ import annotations

import json
import os
import resource
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from collector.local import Replica

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collector.local import NatsServer

SETTINGS = {"COLLECTOR_LAG_PERIOD": "500ms", "COLLECTOR_ACK_WAIT": "2s", "COLLECTOR_WRITE_TIMEOUT": "1s"}


@contextmanager
def replicas_without_mongodb(nats: NatsServer, namespace: str) -> Iterator[Callable[..., Replica]]:
    """Make `start(stdout=None, **settings)`: a replica that knows no MongoDB and ends with the block."""
    with ExitStack() as stack:

        def start(stdout: int | None = None, **settings: str) -> Replica:
            folder = stack.enter_context(TemporaryDirectory(prefix="replica-"))
            made = Replica(Path(folder), namespace, nats, None, {**SETTINGS, **settings})
            made.stdout = stdout
            return stack.enter_context(made)

        yield start


def lines_of(folder: Path, key: str) -> list[dict[str, Any]]:
    """Return the entries in all files of a logger, the last file without a torn line."""
    found: list[dict[str, Any]] = []
    for path in (*sorted(folder.glob(f"{key}.*Z.ndjson")), folder / f"{key}.ndjson"):
        content = path.read_bytes() if path.exists() else b""
        found += map(json.loads, content[: content.rfind(b"\n") + 1].splitlines())
    return found


def rotated(folder: Path, key: str) -> int:
    """Return how many files of a logger are complete."""
    return len(list(folder.glob(f"{key}.*Z.ndjson")))


def numbers(entries: list[dict[str, Any]]) -> list[int]:
    """Return the numbers of the entries that `tests.support.ancestor.entry` makes, in ascending order."""
    return sorted(entry["number"] for entry in entries)


class Reader:
    """Reads a pipe to its end, in a thread; `pause` makes it a reader that hangs."""

    def __init__(self) -> None:
        self._from, self.to = os.pipe()
        self.content = b""
        self._reads = threading.Event()
        self._reads.set()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self.let_go()
        self._thread.join(10)

    def let_go(self) -> None:
        """Close our copy of the end that is written to: what remains is the replica's."""
        if self.to >= 0:
            os.close(self.to)
            self.to = -1

    def pause(self) -> None:
        """Read no more."""
        self._reads.clear()

    def resume(self) -> None:
        """Read again."""
        self._reads.set()

    def go(self) -> None:
        """Close the pipe, as a reader that ends."""
        self._gone = True
        os.close(self._from)

    def entries(self) -> list[dict[str, Any]]:
        """Return what came in whole lines; a line that is no entry fails."""
        content = self.content
        return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]

    def _read(self) -> None:
        while True:
            self._reads.wait()
            chunk = os.read(self._from, 65536)
            if not chunk:
                os.close(self._from)
                return
            self.content += chunk


@contextmanager
def largest_file(replica: Replica, size: int) -> Iterator[None]:
    """Have no file of a replica grow beyond a size while the block lasts: a disk that is full."""
    before = resource.prlimit(replica.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(replica.pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(replica.pid, resource.RLIMIT_FSIZE, before)
