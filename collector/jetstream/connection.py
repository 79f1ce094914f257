"""The connection to NATS: tried until it opens, kept for ever, closed with a deadline; reconnects have listeners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nats.errors
from anyio import CancelScope, Event, move_on_after

from collector import events
from collector.errors import ConnectionClosed
from collector.events import lifecycle
from collector.jetstream.link import no_wait, open_link
from collector.runtime.lasting import Lasting
from transfer.jetstream.connection import Connection, harmless, why
from transfer.jetstream.permissions import missing_permission

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from nats.aio.client import Client

    from collector.events import Report
    from collector.jetstream.link import Link
    from transfer.nats_settings import NatsSettings

_CLOSE_TIMEOUT = 5.0
FLUSH_TIMEOUT = 2.0
"""Seconds that nats-py waits for the server to read before more is written than its buffer should take."""
_INBOX = "_INBOX.collector"
"""Inbox prefix for deliveries, separate from `_INBOX.transfer` so that publishers' permissions do not include it."""


class Reconnects:
    """Notifies listeners of a new connection: the server knows none of the requests that were made on the old one."""

    def __init__(self) -> None:
        self._listeners: set[Callable[[], None]] = set()
        self._begin, self._end = self._listeners.add, self._listeners.discard

    def listening(self, listener: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `listener` after each reconnect while the block lasts; it must not block or raise."""
        return Lasting(self._begin, self._end, listener, None)

    def notify(self) -> None:
        """Call all listeners."""
        for listener in list(self._listeners):
            listener()


@dataclass(frozen=True, slots=True)
class NatsConnection:
    """An open connection, with the link and the listeners that the collector puts on it."""

    connection: Client
    link: Link
    reconnects: Reconnects
    closed: Event
    """Set when nats-py has given the connection up for good."""

    async def watch(self) -> None:
        """Wait until the connection is closed for good, then raise ConnectionClosed."""
        await self.closed.wait()
        raise ConnectionClosed(f"expected the NATS connection to last, but it was closed: {self.connection.last_error}")


class Callbacks:
    """Reports the state of a connection; each method is a callback of nats-py."""

    def __init__(self, connection: Connection, report: Report) -> None:
        self._connection = connection
        self._report = report
        self.reconnects = Reconnects()
        self.closed = Event()

    def keywords(self) -> dict[str, Any]:
        """Return the callbacks by the names that nats-py has for them."""
        return {
            "error_cb": self.on_error,
            "disconnected_cb": harmless(self.on_disconnect),
            "reconnected_cb": harmless(self.on_reconnect),
            "closed_cb": harmless(self.on_closed),
        }

    async def on_error(self, exc: Exception) -> None:
        """Report an error: of the connection while it is lost, else of one request."""
        if self._connection.is_closed:
            return
        if not self._connection.is_connected:
            self._report(lifecycle.ConnectionChanged("nats", connected=False, why=why(exc)))
            return
        failure, action, error = events.Failure.UNAVAILABLE, "going on", f"NATS: {why(exc)}"
        if missing := missing_permission(str(exc)):
            failure, action, error = events.Failure.REFUSED, "waiting until it is granted", str(missing)
        self._report(events.Failed("", events.Stage.CONTROL, failure, error, action))

    async def on_disconnect(self) -> None:
        """Report that the connection was lost, unless we closed it, and drop its requests and unsent messages."""
        self._connection.forget_unsent()
        self._connection.fail_requests()
        if not self._connection.is_closed:
            lost = f"the connection was lost: {why(self._connection.why_lost)}"
            self._report(lifecycle.ConnectionChanged("nats", connected=False, why=lost))

    async def on_reconnect(self) -> None:
        """Report that the connection is there again, and notify the listeners."""
        self._connection.why_lost = None
        self._report(lifecycle.ConnectionChanged("nats", connected=True, why="connected again", again=True))
        self.reconnects.notify()

    async def on_closed(self) -> None:
        """Note that nats-py has given the connection up."""
        self.closed.set()


async def connect(
    settings: NatsSettings, report: Report, between_reads: Callable[[], float] = no_wait
) -> NatsConnection:
    """Connect, trying for ever; reconnects go on for ever too. The caller closes the connection with `close`.

    See `open_link` for `between_reads`.
    """
    connection = Connection(settings)
    callbacks = Callbacks(connection, report)
    try:
        ours: dict[str, Any] = {"name": "collector", "inbox_prefix": _INBOX, "flush_timeout": FLUSH_TIMEOUT}
        await connection.connect(**settings.keywords(), **callbacks.keywords(), **ours)
    except BaseException:
        await close(connection)
        raise
    report(lifecycle.ConnectionChanged("nats", connected=True, why="connected"))
    return NatsConnection(connection, open_link(connection, between_reads), callbacks.reconnects, callbacks.closed)


async def close(connection: Client) -> None:
    """Send the unsent messages and close, within a few seconds.

    nats-py's own `drain` is not used: it raises while the connection is being made again.
    """
    with CancelScope(shield=True), move_on_after(_CLOSE_TIMEOUT):
        try:
            if connection.is_connected:
                await connection.flush(timeout=2)
        except (nats.errors.Error, OSError):
            pass  # the server is gone: unanswered messages come again
        finally:
            await connection.close()
