"""When entries become visible: a change stream that notes the moment at which each number is seen.

A change stream shows what is majority-committed, so what any reader with majority read concern sees. It has a delay
of its own, which the latency group measures with plain inserts and reports as the floor.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from bench.errors import NotAsExpected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymongo.change_stream import ChangeStream
    from pymongo.collection import Collection
    from pymongo.database import Database

_AWAIT_MS = 100
_LOOK = 0.001
_PATIENCE = 30.0
_INSERTS: list[dict[str, Any]] = [
    {"$match": {"operationType": "insert"}},
    {"$project": {"number": "$fullDocument.number"}},
]


class Reader:
    """Notes, on the clock of `time.perf_counter`, when each number was seen; read by the thread that published."""

    def __init__(self, changes: ChangeStream[Any]) -> None:
        self.seen: dict[int, float] = {}
        self._changes = changes
        self._stopping = Event()
        self._thread = Thread(target=self._read, name="change stream", daemon=True)

    def wait(self, number: int) -> float:
        """Return when a number was seen, after waiting until it is."""
        deadline = time.perf_counter() + _PATIENCE
        while number not in self.seen:
            if time.perf_counter() > deadline:
                raise NotAsExpected(f"expected entry {number} to be visible within {_PATIENCE:.0f} s")
            time.sleep(_LOOK)
        return self.seen[number]

    def latencies(self, sent: Sequence[tuple[int, float]]) -> list[float]:
        """Return the seconds from each sending to its being seen, after waiting for all, sorted."""
        return sorted(self.wait(number) - moment for number, moment in sent)

    def _read(self) -> None:
        while not self._stopping.is_set():
            change = self._changes.try_next()
            if change is not None:
                self.seen[change["number"]] = time.perf_counter()


@contextmanager
def reading(target: Collection[dict[str, Any]] | Database[dict[str, Any]]) -> Iterator[Reader]:
    """Note what is inserted while the block lasts."""
    with target.watch(_INSERTS, max_await_time_ms=_AWAIT_MS) as changes:
        reader = Reader(changes)
        reader._thread.start()  # noqa: SLF001 - it belongs to this block
        try:
            yield reader
        finally:
            reader._stopping.set()  # noqa: SLF001
            reader._thread.join()  # noqa: SLF001


def quantile(ordered: Sequence[float], part: float) -> float:
    """Return the value below which that part of the sorted values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def quantiles_ms(ordered: Sequence[float]) -> dict[str, float]:
    """Return p50 and p99 in milliseconds."""
    return {"p50 ms": quantile(ordered, 0.5) * 1000, "p99 ms": quantile(ordered, 0.99) * 1000}
