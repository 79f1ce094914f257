"""The traffic of one logger: producers that publish at a steady rate, and a gate that holds them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from anyio import Event, create_task_group, current_time, fail_after, sleep_until

from transfer import CollectionSpec, Logger, StreamSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.chaos.ledger import Source
    from tests.chaos.ways import Way

_TICK = 0.02
_GATE_TIMEOUT = 30.0


class Form(StrEnum):
    """What entries arrive in, and how they come."""

    PLAIN = "plain"
    SERIES = "series"
    BUNDLES = "bundles"

    def logger(self, key: str, replicas: int) -> Logger:
        """Return the spec of a logger of this form."""
        kind = CollectionSpec(kind="timeseries" if self is Form.SERIES else "plain")
        return Logger(key, f"chaos, {self}", collection=kind, stream=StreamSpec(replicas=replicas))


class Gate:
    """Lets publishing through unless it is closed."""

    def __init__(self) -> None:
        self._open = Event()
        self._open.set()
        self._under_way = 0
        self._idle = Event()
        self._idle.set()

    @property
    def is_open(self) -> bool:
        """Whether anything may be published."""
        return self._open.is_set()

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Wait until it is open, and be counted while the block lasts."""
        while not self._open.is_set():
            await self._open.wait()
        self._under_way += 1
        self._idle = Event()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Have nothing published while the block lasts. Raises TimeoutError when what is under way does not end."""
        self._open = Event()
        try:
            with fail_after(_GATE_TIMEOUT):
                while self._under_way:
                    await self._idle.wait()
            yield
        finally:
            self._open.set()


class Traffic:
    """The producers of one logger, so many entries a second each."""

    def __init__(self, key: str, form: Form, producers: Sequence[tuple[Way, float]]) -> None:
        self.key = key
        self.form = form
        self.gate = Gate()
        self._producers = producers

    @property
    def rate(self) -> float:
        """Entries a second."""
        return sum(rate for _, rate in self._producers)

    async def run(self, stopping: Event) -> None:
        """Publish until asked to stop; what is under way then is still published."""
        async with create_task_group() as group:
            for way, rate in self._producers:
                group.start_soon(self._produce, way, rate, stopping, name=f"{way.source.name}")

    async def burst(self, entries: int) -> tuple[Source, range]:
        """Publish many at once, past the rate and the gate; return which they were when all were tried."""
        way = self._producers[0][0]
        numbers = way.source.take(entries)
        async with create_task_group() as group:
            for first in range(0, entries, way.entries):
                group.start_soon(way.send, numbers[first : first + way.entries])
        return way.source, numbers

    async def _produce(self, way: Way, rate: float, stopping: Event) -> None:
        tick = max(_TICK, way.entries / rate)
        messages = max(1, round(rate * tick / way.entries))
        while not stopping.is_set():
            due = current_time() + tick
            async with self.gate.passing(), create_task_group() as group:
                for _ in range(messages):
                    group.start_soon(way.send, way.source.take(way.entries))
            await sleep_until(due)
