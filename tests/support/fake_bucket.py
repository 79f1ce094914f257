"""A bucket whose watch a test feeds."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from anyio import Event, create_memory_object_stream

from collector.jetstream.bucket import Life

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from collector.jetstream.bucket import Change


class FakeBucket:
    """A bucket of loggers that is played by the test; each watch gives what it is sent."""

    def __init__(self) -> None:
        self.watches = 0
        self.life = "made at 1"
        self.last = 1_000_000
        self.opened = Event()
        self.failures: list[Exception] = []

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[FakeWatch]:
        """Open a watch."""
        self.watches += 1
        failure = self.failures.pop(0) if self.failures else None
        self.opened.set()
        self.opened = Event()
        if failure is not None:
            raise failure
        send, receive = create_memory_object_stream[Any](100)
        with send, receive:
            self.says = send.send_nowait
            yield FakeWatch(receive, Life(self.life, self.last))


class FakeWatch:
    """An open watch."""

    def __init__(self, receive: Any, life: Life) -> None:
        self.life = life
        self._receive = receive

    async def next(self) -> Change:
        """Wait for the next change."""
        change: Change | Exception = await self._receive.receive()
        if isinstance(change, Exception):
            raise change
        return change
