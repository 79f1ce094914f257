"""A wait between two reads of the socket while messages trickle, so that one read brings several of them.

Each read costs a turn of the event loop, a wake-up of nats-py's reading task and a parse, however little it brings. The
wait needs names that nats-py calls private; see `link.py`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from anyio import sleep

if TYPE_CHECKING:
    from asyncio import Transport
    from collections.abc import Iterator

    from nats.aio.client import Client

LONGEST = 0.01
"""Seconds of a wait at most: an answer of JetStream that comes meanwhile is late by as much."""
_SMALL = 8 * 1024
"""Bytes of a read that is part of no backlog."""


class GatheredReads:
    """Waits after the reads of one connection, as long as it is told; 0: never."""

    def __init__(self, connection: Client, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds

    async def wait(self, size: int) -> None:
        """Wait before the next read, unless the last one was large, or somebody here waits for an answer."""
        connection = self._connection
        if self._seconds and 0 < size < _SMALL and not (connection._resp_map or connection._pongs):  # noqa: SLF001
            with self._unread():
                await sleep(self._seconds)

    @contextmanager
    def _unread(self) -> Iterator[None]:
        """Leave the bytes that come in the kernel, where they wake nobody; a websocket is read all the same."""
        writer = getattr(self._connection._transport, "_bare_io_writer", None)  # noqa: SLF001
        transport: Transport | None = None if writer is None else writer.transport
        if transport is None or not transport.is_reading():
            yield
            return
        transport.pause_reading()
        try:
            yield
        finally:
            transport.resume_reading()
