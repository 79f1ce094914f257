"""A connection to a scripted server that notes what happens to it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from anyio import fail_after

from collector.jetstream.link import BulkLink
from transfer.jetstream.connection import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.transfer.scripted import Scripted


class Noted:
    """A connection, and what it told its callbacks."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.errors: list[Exception] = []
        self.lost: list[Exception | None] = []
        self.back = 0
        self.closed = 0

    async def on_error(self, error: Exception) -> None:
        self.errors.append(error)

    async def on_lost(self) -> None:
        self.lost.append(self.connection.why_lost)

    async def on_back(self) -> None:
        self.back += 1

    async def on_closed(self) -> None:
        self.closed += 1


@asynccontextmanager
async def connected(server: Scripted, *, bulk: bool = False, **options: Any) -> AsyncIterator[Noted]:
    noted = Noted(Connection())
    policy = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.01, **options}
    callbacks = {
        "error_cb": noted.on_error,
        "disconnected_cb": noted.on_lost,
        "reconnected_cb": noted.on_back,
        "closed_cb": noted.on_closed,
    }
    with fail_after(20):
        await noted.connection.connect(server.url, **policy, **callbacks)  # type: ignore[arg-type]
    if bulk:
        BulkLink(noted.connection)
    try:
        yield noted
    finally:
        await noted.connection.close()


async def works(server: Scripted, noted: Noted) -> None:
    """Fail when the connection does not hear the server, or is not read."""
    await server.until(lambda: noted.connection.is_connected)
    with fail_after(20):
        await noted.connection.flush()
    assert noted.connection._reading_task is not None
    assert not noted.connection._reading_task.done()


class Broken(Exception):
    """A fault that nobody foresaw."""
