"""nats-py's TCP transport with its waits bounded, its names resolved in daemon threads, and the server's word heard."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import TYPE_CHECKING

from nats.aio.transport import TcpTransport

from transfer.jetstream.server_words import said_in_line
from transfer.system.resolver import addresses

if TYPE_CHECKING:
    from urllib.parse import ParseResult

    from transfer.jetstream.server_words import ServerSaid

_END_TIMEOUT = 1.0
"""Seconds for the last bytes and the end of TLS; a server that reads nothing more would be waited for for ever."""
_HEAD_START = 0.25
"""Seconds after which the next address of a host is tried beside those that have not answered."""
_LONGEST_LINE = 1024 * 1024
"""The INFO of a large cluster names all its servers."""
_BESIDE = (b"INFO ", b"+OK", b"PING")
"""Lines that may come before the answer to the first PING."""
_ERR = b"-ERR"


class Tcp(TcpTransport):
    """One connection to a server. nats-py reads the greeting line by line, and then blocks."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._greeted = False
        self._end: asyncio.Future[None] | None = None

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:
        """Connect to the first address of the host that answers. Raises OSError."""
        async with asyncio.timeout(connect_timeout):
            found = await _addresses(uri.hostname or "", uri.port or 4222)
            pause = min(_HEAD_START, connect_timeout / (2 * len(found)))
            reader, writer = await _first_that_answers(found, buffer_size, pause)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer

    def write(self, payload: bytes) -> None:
        """Write, or raise ConnectionError when the connection has ended."""
        self.writelines([payload])

    def writelines(self, payload: list[bytes]) -> None:
        """Write all of these, or raise ConnectionError when the connection has ended.

        uvloop says that with a RuntimeError, which nats-py takes for the end of the loop: it would write no more.
        """
        if self._io_writer is None or self._io_writer.is_closing():
            raise ConnectionResetError("expected a connection to write to, but it has ended")
        self._io_writer.writelines(payload)

    async def readline(self) -> bytes:
        """Read the next line of the greeting. Raises `ServerSaid`."""
        line = await self._line()
        while self._greeted and line.startswith(_BESIDE):
            line = await self._line()
        self._greeted = True
        if line.startswith(_ERR):
            raise said_in_line(line)
        return line

    @property
    def _reader(self) -> asyncio.StreamReader:
        if self._io_reader is None:
            raise ConnectionError("expected a connection to read from, got none")
        return self._io_reader

    async def _line(self) -> bytes:
        reader, line = self._reader, b""
        while True:
            try:
                return line + await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                return line + error.partial
            except asyncio.LimitOverrunError as error:
                if len(line) > _LONGEST_LINE:
                    raise ConnectionError("expected a line of the NATS protocol, got one without an end") from error
                line += await reader.readexactly(error.consumed)

    def last_words(self) -> ServerSaid | None:
        """Return what the server said last, unread as yet, when the connection is broken.

        A server that says why and hangs up resets the connection, because of what we had just sent; asyncio shows the
        reset alone, and keeps the words in a private place.
        """
        left = bytes(getattr(self._io_reader, "_buffer", b""))
        if _ERR not in left:
            return None
        return said_in_line(left[left.index(_ERR) :].partition(b"\r\n")[0])

    async def wait_closed(self) -> None:
        """Wait for the end of the connection; make an end when it does not come, whatever is still to be written."""
        if self._io_writer is None:
            return
        end = self._ending(self._io_writer)
        await asyncio.wait([end], timeout=_END_TIMEOUT)
        if not end.done():
            self.abort()
            await asyncio.wait([end], timeout=_END_TIMEOUT)

    def abort(self) -> None:
        """End the connection now."""
        if self._io_writer is not None:
            self._ending(self._io_writer)
            self._io_writer.transport.abort()

    def _ending(self, writer: asyncio.StreamWriter) -> asyncio.Future[None]:
        """Return the one wait for the end: one that is cut breaks all others, and asyncio logs what nobody looks at."""
        if self._end is None:
            self._end = asyncio.ensure_future(writer.wait_closed())
            self._end.add_done_callback(_looked_at)
        return self._end


def _looked_at(end: asyncio.Future[None]) -> None:
    if not end.cancelled():
        end.exception()  # that it broke is no news: it is closed


async def _addresses(host: str, port: int) -> list[tuple[str, int]]:
    try:
        return [(str(ip_address(host)), port)]
    except ValueError:
        return await addresses(host, port)


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _first_that_answers(addresses: list[tuple[str, int]], limit: int, pause: float) -> _Streams:
    """Connect to all addresses, each begun when those before it have failed or had their head start (RFC 8305).

    Raises the error of the address that failed last. No connection but that which is returned is left behind.
    """
    waiting, trying = addresses.copy(), set[asyncio.Task[_Streams]]()
    failed: BaseException = OSError("the resolver has no address")
    try:
        while waiting or trying:
            if waiting:
                host, port = waiting.pop(0)
                trying.add(asyncio.ensure_future(asyncio.open_connection(host, port, limit=limit)))
            done, _ = await asyncio.wait(
                trying, timeout=pause if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for one in done:
                trying.discard(one)
                error = one.exception()
                if error is None:
                    trying |= done - {one}
                    return one.result()
                failed = error
        raise failed
    finally:  # no await here: a caller that is cut would lose the returned connection
        for one in trying:
            one.cancel()
            one.add_done_callback(_abort)


def _abort(one: asyncio.Task[_Streams]) -> None:
    if not one.cancelled() and one.exception() is None:
        one.result()[1].transport.abort()
