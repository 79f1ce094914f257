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
    from collections.abc import Callable, Iterator

    from nats.aio.client import Client

_TRICKLE = 800 * 1024
"""Bytes a second of messages that are part of no backlog: a read that brings more in the time of a wait is large."""
_LARGE = 32 * 1024
"""Bytes of a read that is large after any wait: nats-py reads no more at once."""


class GatheredReads:
    """Waits after the reads of one connection, as long as it is told then; 0: not at all."""

    def __init__(self, connection: Client, seconds: Callable[[], float]) -> None:
        self._connection = connection
        self._seconds = seconds

    async def wait(self, size: int) -> None:
        """Wait before the next read, unless the last one was large, or somebody here waits for an answer."""
        connection, seconds = self._connection, self._seconds()
        small = 0 < size < min(_TRICKLE * seconds, _LARGE)
        if small and not (connection._resp_map or connection._pongs):  # noqa: SLF001
            with self._unread():
                await sleep(seconds)

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
