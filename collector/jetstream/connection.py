"""The connection to NATS: opened until it works, kept for ever, closed with a deadline; who hears of a reconnect."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nats.errors
from anyio import CancelScope, Event, move_on_after

from collector import events
from collector.errors import ConnectionClosed
from collector.jetstream.link import open_link
from transfer.jetstream.connection import Connection, harmless, why
from transfer.jetstream.permissions import missing_permission

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nats.aio.client import Client

    from collector.events import Report
    from collector.jetstream.link import Link
    from transfer.nats_settings import NatsSettings

_CLOSE_TIMEOUT = 5.0
_INBOX = "_INBOX.collector"
"""Where messages come: who may only hear what is answered to its publishing has no permission to listen here."""


class Reconnects:
    """Tells listeners that the connection is a new one, on which nothing of the old one is known."""

    def __init__(self) -> None:
        self._listeners: set[Callable[[], None]] = set()

    @contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` after each reconnect while the block lasts; it must not block or raise."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    def tell(self) -> None:
        """Call all listeners."""
        for listener in list(self._listeners):
            listener()


@dataclass(frozen=True, slots=True)
class NatsConnection:
    """An open connection and what the collector builds on it."""

    connection: Client
    link: Link
    reconnects: Reconnects
    closed: Event
    """Set when nats-py has given the connection up for good."""

    async def watch(self) -> None:
        """Raise ConnectionClosed when the connection is closed for good; wait until then."""
        await self.closed.wait()
        raise ConnectionClosed(f"expected the NATS connection to last, but it was closed: {self.connection.last_error}")


async def connect(settings: NatsSettings, report: Report) -> NatsConnection:
    """Connect, trying for ever; reconnects go on for ever too. Whoever has the connection closes it with `close`."""
    connection, reconnects, closed = Connection(settings), Reconnects(), Event()

    async def on_error(exc: Exception) -> None:
        if connection.is_closed:
            return
        if not connection.is_connected:
            report(events.ConnectionChanged("nats", connected=False, why=why(exc)))
            return
        action, error = "going on", f"NATS: {why(exc)}"
        if missing := missing_permission(str(exc)):
            action, error = "waiting until it is granted", str(missing)
        report(events.Failed("", events.Stage.CONTROL, events.Failure.UNAVAILABLE, error, action))

    async def on_disconnect() -> None:
        connection.fail_requests()
        if not connection.is_closed:  # by us
            lost = f"the connection was lost: {why(connection.why_lost)}"
            report(events.ConnectionChanged("nats", connected=False, why=lost))

    async def on_reconnect() -> None:
        connection.why_lost = None
        report(events.ConnectionChanged("nats", connected=True, why="connected again", again=True))
        reconnects.tell()

    async def on_closed() -> None:
        closed.set()

    try:
        await connection.connect(
            **settings.keywords(),
            error_cb=on_error,
            disconnected_cb=harmless(on_disconnect),
            reconnected_cb=harmless(on_reconnect),
            closed_cb=harmless(on_closed),
            name="collector",
            inbox_prefix=_INBOX,
        )
    except BaseException:
        await close(connection)
        raise
    report(events.ConnectionChanged("nats", connected=True, why="connected"))
    return NatsConnection(connection, open_link(connection), reconnects, closed)


async def close(connection: Client) -> None:
    """Send what is still to be sent and close, within a few seconds; nats-py's own drain raises while reconnecting."""
    with CancelScope(shield=True), move_on_after(_CLOSE_TIMEOUT):
        try:
            if connection.is_connected:
                await connection.flush(timeout=2)
        except (nats.errors.Error, OSError):
            pass  # the server is gone: what was not answered comes again
        finally:
            await connection.close()
