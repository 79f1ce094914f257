"""A proxy before an object store, which strikes single HTTP requests as the weather says.

It takes one request on each connection, and asks the server for one answer on a connection of its own.
"""

from __future__ import annotations

import re
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, connect_tcp, create_tcp_listener, sleep
from anyio.abc import SocketAttribute

from tests.chaos.archive.weather import CLEAR, Blow

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from anyio.abc import SocketStream, TaskGroup, TaskStatus

    from tests.chaos.archive.weather import Weather

_CHUNK = 65_536
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CONNECTION = re.compile(rb"\r\nconnection:[^\r]*", re.IGNORECASE)
_RESET = struct.pack("ii", 1, 0)
_GONE = (BrokenResourceError, ClosedResourceError, EndOfStream, OSError)
_REFUSALS = (
    (b"503 Slow Down", b"SlowDown"),
    (b"500 Internal Server Error", b"InternalError"),
    (b"429 Too Many Requests", b"TooManyRequests"),
    None,  # no answer at all
)
_FULL = (b"507 Insufficient Storage", b"InsufficientStorage")
_CONFLICT = (b"409 Conflict", b"ConditionalRequestConflict")
_LONG_AFTER = 6.0
"""Seconds within which a request whose sender was told of a failure is done."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole."""

    head: bytes
    body: bytes

    @property
    def is_create(self) -> bool:
        """Whether it makes an object."""
        return self.head.startswith(b"PUT ")


class HttpProxy:
    """Stands before one store, which may come and go, for as long as `serve` runs."""

    def __init__(self, server_port: int, chance: Random, on_blow: Callable[[Blow], None]) -> None:
        self.port = 0
        self.weather: Weather = CLEAR
        self.open = True
        """Whether connections are taken at all."""
        self.late = 0
        """Requests that are still to be passed on, although nobody waits for them."""
        self._server_port = server_port
        self._chance = chance
        self._on_blow = on_blow

    async def serve(self, group: TaskGroup, *, task_status: TaskStatus[None]) -> None:
        """Accept connections until cancelled; late requests are passed on in `group`."""
        listener = await create_tcp_listener(local_host="127.0.0.1", local_port=0)
        self.port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django here
        self._group = group
        async with listener:
            task_status.started()
            await listener.serve(self._handle)

    async def _handle(self, client: SocketStream) -> None:
        async with client:
            with suppress(*_GONE):
                request = await read_request(client)
                if self.open:
                    await self._answer(client, request)
                else:
                    _have_reset(client)

    async def _answer(self, client: SocketStream, request: Request) -> None:
        blow = self.weather.draw(self._chance)
        if blow is Blow.CONFLICT and not request.is_create:
            blow = None
        if blow is None:
            await client.send(await self._ask(request))
        else:
            self._on_blow(blow)
            await self._strike(blow, client, request)

    async def _strike(self, blow: Blow, client: SocketStream, request: Request) -> None:
        pause = self._chance.uniform(0, self.weather.pause)
        match blow:
            case Blow.REFUSED | Blow.FULL | Blow.CONFLICT:
                await self._refuse(blow, client)
            case Blow.CUT:
                await self._pass_half(request)
                _have_reset(client)
            case Blow.ZOMBIE:
                self.late += 1
                self._group.start_soon(self._pass_late, request, self._chance.uniform(0, _LONG_AFTER))
                _have_reset(client)
            case Blow.LATE:
                await sleep(pause)
                await client.send(await self._ask(request))
            case Blow.LATE_ANSWER:
                answer = await self._ask(request)
                await sleep(pause)
                await client.send(answer)
            case Blow.CUT_ANSWER:
                answer = await self._ask(request)
                await client.send(answer[: len(answer) // 2])
            case Blow.LOST_ANSWER:
                await self._ask(request)
                _have_reset(client)

    async def _refuse(self, blow: Blow, client: SocketStream) -> None:
        chosen = {Blow.FULL: _FULL, Blow.CONFLICT: _CONFLICT}.get(blow) or self._chance.choice(_REFUSALS)
        if chosen is None:
            _have_reset(client)
            return
        status, code = chosen
        said = b"<?xml version='1.0'?><Error><Code>%b</Code></Error>" % code
        await client.send(
            b"HTTP/1.1 %b\r\nContent-Type: application/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (status, len(said), said)
        )

    async def _ask(self, request: Request) -> bytes:
        """Return the whole answer of the server. Raises OSError without one."""
        async with await connect_tcp("127.0.0.1", self._server_port) as server:
            await server.send(_closing(request.head) + request.body)
            answer = bytearray()
            with suppress(EndOfStream):
                while True:
                    answer += await server.receive(_CHUNK)
        if not answer:
            raise ConnectionResetError("the server has ended")
        return bytes(answer)

    async def _pass_half(self, request: Request) -> None:
        async with await connect_tcp("127.0.0.1", self._server_port) as server:
            await server.send(request.head + request.body[: len(request.body) // 2])

    async def _pass_late(self, request: Request, pause: float) -> None:
        try:
            await sleep(pause)
            with suppress(*_GONE):
                await self._ask(request)
        finally:
            self.late -= 1


async def read_request(client: SocketStream) -> Request:
    """Read a request whole. Raises EndOfStream."""
    came = bytearray()
    while _END_OF_HEAD not in came:
        came += await client.receive(_CHUNK)
    end = came.index(_END_OF_HEAD) + len(_END_OF_HEAD)
    length = _LENGTH.search(came, 0, end)
    whole = end + (int(length[1]) if length else 0)
    while len(came) < whole:
        came += await client.receive(_CHUNK)
    return Request(bytes(came[:end]), bytes(came[end:whole]))


def _closing(head: bytes) -> bytes:
    """Ask the server to close its connection behind the answer."""
    return _CONNECTION.sub(b"", head)[: -len(b"\r\n")] + b"Connection: close\r\n\r\n"


def _have_reset(client: SocketStream) -> None:
    """End a connection with a reset, when it is closed."""
    with suppress(OSError):
        raw = client.extra(SocketAttribute.raw_socket)  # noqa: S610 - no Django here
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
