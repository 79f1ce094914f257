"""A `mongod` of a test's own, also one that is no replica set."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from collector.local import Mongod

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Standalone(Mongod):
    """A `mongod` that is no replica set."""

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/"

    def _command(self) -> list[str]:
        return [argument for argument in super()._command() if not argument.startswith("--replSet")]

    def _answers(self) -> bool:
        try:
            self._connected().close()
        except OSError:
            return False
        return True


@contextmanager
def own(kind: type[Mongod], parameters: Mapping[str, object]) -> Iterator[Mongod]:
    with TemporaryDirectory(prefix="mongod-") as folder, kind(Path(folder), parameters=parameters) as server:
        yield server
        server.kill()
