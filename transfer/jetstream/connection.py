"""The connection to NATS: nats-py's client, mended so that no event but our own `close` ends or deafens it."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import nats.errors
from nats.aio.client import DEFAULT_BUFFER_SIZE, Client

from transfer.errors import Refused, Unavailable
from transfer.jetstream.outage import Outage
from transfer.jetstream.server_words import Follows, ServerSaid, said_in_line
from transfer.jetstream.transport import Tcp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from nats.aio.client import Srv
    from nats.aio.transport import Transport

    from transfer.nats_settings import NatsSettings

CONNECT_TIMEOUT = 5.0
_CONNECT = b"CONNECT "
_CLOSE_TIMEOUT = 3.0
"""Seconds for what still waits to be written when a connection is closed."""
_NO_RESTART = 2
"""Handshakes in a row that the server ends before they count as refused; a restarting server ends at most one."""
INBOX = "_INBOX.transfer"
"""Where our answers come: not where the collector's messages do, so that one permission does not give both."""


class EndedAtHandshake(ConnectionError):
    """A server that demands certificates ended the connection. In TLS 1.3 its alert with the reason is often lost."""


class Connection(Client):
    """nats-py's client, with what can end or deafen it mended in private methods of it that tests watch.

    - Nothing that the server says closes it: what the server wants to end it ends itself, and then we connect again.
    - Every end of the reading makes a new connection at once; nats-py stops reading and stays "connected".
    - A PONG that nobody waits for any more is no error, and a message that nats-py cannot read is that message's alone.
    - Every error in a try to connect ends that try; nats-py knows three kinds of errors, and any other ends the
      connecting for good. A try that failed half-way leaves no task and no socket behind.
    - A server that reads nothing more holds up neither the next connection nor the end of this one.
    - nats-py uses its TLS context only when the server demands TLS; to any other server, or to a machine in between, it
      sends the credentials in clear. Here that is an error of that try.
    - Who we are, certificates and authorities are read at each connect, as their files are then.
    - Messages may be larger as soon as the server says so.
    """

    def __init__(self, settings: NatsSettings | None = None) -> None:
        super().__init__()
        self._settings = settings
        self.why_lost: Exception | None = None
        """Why there is no connection now, or the last one ended: the server's own words when it had some."""
        self.last_refusal: ServerSaid | None = None
        """The last word of the server that was about one request and not about the connection."""
        self._last_words: ServerSaid | None = None

    @property
    def last_error(self) -> Exception | None:
        """The last error of this connection, or of the tries to connect again."""
        return self._err or self.why_lost

    # --- what the server says

    async def _process_err(self, err_msg: str) -> None:  # noqa: ARG002 - nats-py has made small letters of it
        said = self._err = said_in_line(bytes(self._ps.buf).partition(b"\r\n")[0])
        if said.follows is Follows.NOTHING:
            self.last_refusal = said
        else:
            self._last_words = said
        await self._error_cb(said)

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()  # its caller was cut
        await super()._process_pong()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        self._max_payload = info.get("max_payload", self._max_payload)
        await super()._process_info(info, initial_connection)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except Exception as error:  # noqa: BLE001 - anybody may publish anything; it harms nobody else's messages
            await self._error_cb(error)

    # --- reading and writing

    async def _read_loop(self) -> None:
        try:
            while not (self.is_closed or self.is_reconnecting or self._transport is None):
                read = await _read(self._transport)
                await self._ps.parse(read)  # the parser may have been replaced meanwhile
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            await self._process_op_err(ConnectionError(f"the reading was cut: {error!r}"))  # from inside: a stray one
        except Exception as error:  # noqa: BLE001 - whatever it was, a connection that is not read is none
            await self._process_op_err(error)

    async def _process_op_err(self, e: Exception) -> None:
        if not (self.is_closed or self.is_reconnecting):
            self.why_lost, self._last_words = self._last_words or e, None
        await super()._process_op_err(e)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        flusher, queue = self._flusher_task, self._flush_queue
        if not force_flush and flusher is not None and not flusher.done() and queue is not None and not queue.empty():
            return None  # one that has not begun takes ours along; nats-py would wait for room in its queue of them
        try:
            return await super()._flush_pending(force_flush)
        except OSError as error:  # its task that writes has ended with a connection, so it wrote here
            await self._process_op_err(error)
            return None

    # --- connecting

    async def _connect_to_server(self, s: Srv) -> None:
        self._abandon()
        if s.uri.scheme in {"ws", "wss"}:
            await super()._connect_to_server(s)
            return
        s.last_attempt = time.monotonic()
        self._transport = Tcp()
        await self._transport.connect(s.uri, DEFAULT_BUFFER_SIZE, self.options["connect_timeout"])

    async def _process_connect_init(self) -> None:
        self._last_words = None
        try:
            await super()._process_connect_init()
            self._check_answer()
        except Exception as error:
            known = self._known(error)
            self._abandon()
            raise known from error

    def _check_answer(self) -> None:
        if not self.is_connected:  # nats-py takes the end of the connection for an answer
            raise ConnectionError("expected the server to answer our CONNECT, but it ended the connection")

    def _known(self, error: Exception) -> Exception:
        """Return an error that ends a try in nats-py's eyes, and not the connecting."""
        said = self._transport.last_words() if isinstance(self._transport, Tcp) and isinstance(error, OSError) else None
        if said is not None:
            return said
        if isinstance(error, ConnectionError) and self._server_info.get("tls_verify"):
            return EndedAtHandshake("a certificate is demanded, and the connection was ended in the handshake")
        if isinstance(error, (OSError, nats.errors.Error)):
            return error
        return ConnectionError(f"{type(error).__name__}: {error}")

    def _connect_command(self) -> bytes:
        if self._settings is None:
            return super()._connect_command()
        if self._settings.wants_tls and not self._server_info.get("tls_required") and not self._over_wss():
            raise nats.errors.SecureConnWantedError
        connect = json.loads(super()._connect_command().removeprefix(_CONNECT))
        connect |= self._settings.login(self._server_info.get("nonce"))
        return _CONNECT + json.dumps(connect).encode() + b"\r\n"

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """The settings of this connect."""
        return (self._settings.tls() if self._settings else None) or super().ssl_context

    def _over_wss(self) -> bool:
        return self._current_server is not None and self._current_server.uri.scheme == "wss"

    def _abandon(self) -> None:
        """Give up the transport and the tasks of a connection, or of a try that ended half-way."""
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        transport, self._transport = self._transport, None
        if isinstance(transport, Tcp):
            transport.abort()
        elif transport is not None:
            transport.close()

    # --- closing

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await super()._close(status, do_cbs)
        except OSError:  # lost, or not read by the server, while what waited was written: nobody will read it
            self._pending, self._pending_data_size = [], 0
            self._status = Client.DISCONNECTED
            await super()._close(status, do_cbs)

    def forget_unsent(self) -> None:
        """Send nothing on the next connection that was meant for this one. Call it when the connection is lost."""
        self._pending, self._pending_data_size = [], 0

    def fail_requests(self) -> None:
        """Raise in all callers that wait for an answer: a request of a lost connection is not answered on another one.

        Without it each request ends at its timeout. Call it when the connection is lost.
        """
        for waiting in list(self._resp_map.values()):
            if not waiting.done():
                waiting.set_exception(nats.errors.StaleConnectionError())


async def _read(transport: Transport) -> bytes:
    if transport.at_eof():
        raise nats.errors.UnexpectedEOF
    return await transport.read(DEFAULT_BUFFER_SIZE)


def harmless(callback: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Return a callback that raises nothing: an error in one of nats-py's ends its connecting for good."""

    async def call() -> None:
        with suppress(Exception):
            await callback()

    return call


class _FirstConnect:
    """nats-py tries for ever; this is told of each failure and raises when it is not worth going on."""

    def __init__(self, hosts: str, timeout: float) -> None:
        self._hosts = hosts
        self._deadline = time.monotonic() + timeout
        self._ended_at_handshake = 0

    def failed(self, error: Exception) -> None:
        """Raise `Refused` or `Unavailable`, or let it try again."""
        self._ended_at_handshake = self._ended_at_handshake + 1 if isinstance(error, EndedAtHandshake) else 0
        if _is_refusal(error) or self._ended_at_handshake == _NO_RESTART:
            raise Refused(f"NATS at {self._hosts} does not let us in: {why(error)}") from error
        if time.monotonic() > self._deadline:
            raise Unavailable(f"NATS at {self._hosts} does not answer: {why(error)}") from error


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, ServerSaid):
        return error.follows is Follows.REFUSAL
    return isinstance(error, (nats.errors.SecureConnWantedError, ssl.SSLError))


def why(error: Exception | None) -> str:
    """Say in a sentence why there is no connection."""
    if isinstance(error, nats.errors.SecureConnWantedError):
        return "TLS was asked for and the server does not demand it"
    if isinstance(error, nats.errors.UnexpectedEOF):
        return "the server ended the connection"
    if isinstance(error, nats.errors.StaleConnectionError):
        return "the server has not answered for a while"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


class _Events:
    """The callbacks of one connection: they log what happens to it, and end the first connecting when it is in vain."""

    def __init__(self, connection: Connection, first: _FirstConnect, outage: Outage | None, log: Outage) -> None:
        self.first: _FirstConnect | None = first
        self.log = outage or log
        self._is_logged_from_the_first = outage is not None
        self._connection = connection

    async def failed(self, error: Exception) -> None:
        connection = self._connection
        if self.first is not None:
            if self._is_logged_from_the_first:
                self.log.away(why(error))
            self.first.failed(error)
        elif connection.is_connected:
            if connection._last_words is None:  # noqa: SLF001 - else it is logged as the reason of the loss
                self.log.trouble(why(error))
        elif not connection.is_closed:
            self.log.away(why(error))

    async def lost(self) -> None:
        if not self._connection.is_closed:
            self.log.away(why(self._connection.why_lost))

    async def back(self) -> None:
        self._connection.why_lost = None
        self.log.back()


@asynccontextmanager
async def open_connection(
    settings: NatsSettings, *, name: str, timeout: float = CONNECT_TIMEOUT, outage: Outage | None = None
) -> AsyncIterator[Client]:
    """Connect within about `timeout` seconds, keep the connection through any outage, close it at the end of the block.

    Raises `Refused` at once when the server does not let us in and `Unavailable` when none answers in time. Later
    errors are said in the log of the application; with `outage`, which the caller keeps, from the first try on.
    """
    connection = Connection(settings)
    events = _Events(connection, _FirstConnect(settings.hosts_shown, timeout), outage, Outage(settings.hosts_shown))
    try:
        await connection.connect(
            **settings.keywords(),
            error_cb=events.failed,
            disconnected_cb=harmless(events.lost),
            reconnected_cb=harmless(events.back),
            name=name,
            inbox_prefix=INBOX,
        )
        events.first = None
        events.log.back()
        yield connection
    finally:
        events.first = None
        await connection.close()


async def pause(seconds: float) -> None:
    """Wait. The client has two dependencies and anyio is not one of them."""
    await asyncio.sleep(seconds)
