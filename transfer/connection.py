"""The connection to NATS: a first connect that ends, TLS that is never left out, and the client's own way to wait."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import nats.errors
from nats.aio.client import Client

from transfer.errors import Refused, Unavailable
from transfer.nats_settings import without_userinfo
from transfer.permissions import with_capitals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transfer.nats_settings import NatsSettings

_log = logging.getLogger("transfer")
CONNECT_TIMEOUT = 5.0
_NO_RESTART = 2
"""So many connections in a row that end in the handshake were refused: a server that restarts ends one at most."""
INBOX = "_INBOX.transfer"
"""Where our answers come: not where the collector's messages do, so that one permission does not give both."""


class EndedAtHandshake(ConnectionError):
    """A server that demands certificates ended the connection. In TLS 1.3 its alert with the reason is often lost."""


class Connection(Client):
    """nats-py's client with five faults mended, all in private methods of it that a test watches.

    nats-py looks at its TLS context only when the server demands TLS; to any other server, or to whoever stands in
    between, it sends the credentials in clear. CONNECT is made here in every connect and reconnect; an error ends that
    try and the next one follows. After a handshake that failed, nats-py waits for ever for the end of its transport.
    The subject that is not permitted is named as the server named it. And a connection that is lost while it is closed
    is closed to the end, where nats-py raises half-way.
    """

    def _connect_command(self) -> bytes:
        if "tls" in self.options and not self._server_info.get("tls_required") and not self._over_wss():
            raise nats.errors.SecureConnWantedError
        return super()._connect_command()

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except (OSError, nats.errors.Error, TimeoutError) as exc:
            transport, self._transport = self._transport, None
            if transport is not None:
                transport.close()
            if isinstance(exc, ConnectionError) and self._server_info.get("tls_verify"):
                raise EndedAtHandshake(
                    "a certificate is demanded, and the connection was ended in the handshake"
                ) from exc
            raise

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        try:
            await super()._close(status, do_cbs)
        except OSError:  # lost while what waited was written: nobody will read it
            self._pending, self._pending_data_size = [], 0
            self._status = Client.DISCONNECTED
            await super()._close(status, do_cbs)

    async def _process_err(self, err_msg: str) -> None:
        await super()._process_err(with_capitals(err_msg, self._ps.buf.decode(errors="replace")))

    def fail_requests(self) -> None:
        """Raise in whoever waits for an answer: what was asked on a connection that is gone is not answered on another.

        Without it the asking ends at its timeout. Call it when the connection is lost.
        """
        for waiting in list(self._resp_map.values()):
            if not waiting.done():
                waiting.set_exception(nats.errors.StaleConnectionError())

    def _over_wss(self) -> bool:
        return self._current_server is not None and self._current_server.uri.scheme == "wss"


class _FirstConnect:
    """nats-py tries for ever; this is told of each failure and raises when it is not worth going on."""

    def __init__(self, settings: NatsSettings, timeout: float) -> None:
        self._hosts = ", ".join(without_userinfo(host) for host in settings.hosts)
        self._deadline = time.monotonic() + timeout
        self._over = False
        self._ended_at_handshake = 0

    async def failed(self, error: Exception) -> None:
        """Raise `Refused` or `Unavailable`, until the first connect is over; then only log."""
        if self._over:
            _log.warning("NATS connection: %s: %s", type(error).__name__, error)
            return
        self._ended_at_handshake = self._ended_at_handshake + 1 if isinstance(error, EndedAtHandshake) else 0
        if _is_refusal(error) or self._ended_at_handshake == _NO_RESTART:
            self.over()
            raise Refused(f"NATS at {self._hosts} does not let us in: {_why(error)}") from error
        if time.monotonic() > self._deadline:
            self.over()
            raise Unavailable(f"NATS at {self._hosts} does not answer: {_why(error)}") from error

    def over(self) -> None:
        """Raise no more."""
        self._over = True


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, (nats.errors.AuthorizationError, nats.errors.SecureConnWantedError, ssl.SSLError)):
        return True
    text = str(error).lower()
    return isinstance(error, nats.errors.Error) and ("authorization" in text or "authentication" in text)


def _why(error: Exception) -> str:
    if isinstance(error, nats.errors.SecureConnWantedError):
        return "TLS was asked for and the server does not demand it"
    return str(error) or type(error).__name__


@asynccontextmanager
async def open_connection(
    settings: NatsSettings, *, name: str, timeout: float = CONNECT_TIMEOUT
) -> AsyncIterator[Client]:
    """Connect within about `timeout` seconds, keep the connection through any outage, close it at the end of the block.

    Raises `Refused` at once when the server does not let us in and `Unavailable` when none answers in time.
    """
    connection = Connection()
    first = _FirstConnect(settings, timeout)
    try:
        await connection.connect(**settings.keywords(), error_cb=first.failed, name=name, inbox_prefix=INBOX)
        first.over()
        yield connection
    finally:
        first.over()
        await connection.close()


async def pause(seconds: float) -> None:
    """Wait. The client has two dependencies and anyio is not one of them."""
    await asyncio.sleep(seconds)
