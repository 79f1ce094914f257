"""A TCP proxy on loopback whose connections can be cut, reset, stalled and slowed, each direction on its own."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    connect_tcp,
    create_task_group,
    create_tcp_listener,
    sleep,
)
from anyio.abc import SocketAttribute

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import SocketStream, TaskStatus

_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: closing sends a reset, and what was not read is gone."""
_GONE = (BrokenResourceError, ClosedResourceError, EndOfStream, OSError)


class Direction(Enum):
    """Which way the bytes go."""

    UP = "up"
    """From the client to the server."""
    DOWN = "down"


class _Valve:
    """Lets the bytes of one direction through: all, none, or so many a second."""

    def __init__(self) -> None:
        self.bytes_per_second: float | None = None
        self._open = Event()
        self._open.set()

    def close(self) -> None:
        if self._open.is_set():
            self._open = Event()

    def open(self) -> None:
        self.bytes_per_second = None
        self._open.set()

    async def let_through(self, size: int) -> None:
        if self.bytes_per_second is not None:
            await sleep(size / self.bytes_per_second)
        await self._open.wait()


class Proxy:
    """Stands before one server, which may come and go, for as long as `serve` runs."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.passed = 0
        """Bytes, both ways."""
        self._server_port = server_port
        self._valves = {direction: _Valve() for direction in Direction}
        self._connections: dict[CancelScope, tuple[SocketStream, SocketStream]] = {}

    async def serve(self, *, task_status: TaskStatus[None]) -> None:
        """Accept connections until cancelled; the port is known once it has started."""
        listener = await create_tcp_listener(local_host="127.0.0.1", local_port=0)
        self.port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django here
        async with listener:
            task_status.started()
            await listener.serve(self._connect)

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    def cut(self) -> None:
        """End all connections as a proxy that is restarted does; new ones are taken at once."""
        for scope in list(self._connections):
            scope.cancel()

    def reset(self) -> None:
        """End all connections with a reset: what is under way is gone."""
        for scope, both in list(self._connections.items()):
            for stream in both:
                with suppress(OSError):
                    raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - no Django here
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            scope.cancel()

    def stall(self, *directions: Direction) -> None:
        """Let nothing through; connections stay open and new ones are taken."""
        for direction in directions:
            self._valves[direction].close()

    def slow(self, bytes_per_second: float, *directions: Direction) -> None:
        """Let only so much of each connection through."""
        for direction in directions:
            self._valves[direction].bytes_per_second = bytes_per_second

    def open(self) -> None:
        """Let everything through again."""
        for valve in self._valves.values():
            valve.open()

    async def _connect(self, client: SocketStream) -> None:
        async with client:
            try:
                server = await connect_tcp("127.0.0.1", self._server_port)
            except OSError:
                return
            async with server:
                await self._join(client, server)

    async def _join(self, client: SocketStream, server: SocketStream) -> None:
        async with create_task_group() as group:
            scope = group.cancel_scope
            self._connections[scope] = (client, server)
            try:
                group.start_soon(self._pump, client, server, self._valves[Direction.UP], scope.cancel)
                await self._pump(server, client, self._valves[Direction.DOWN], scope.cancel)
            finally:
                del self._connections[scope]

    async def _pump(
        self, source: SocketStream, target: SocketStream, valve: _Valve, on_end: Callable[[], None]
    ) -> None:
        with suppress(*_GONE):
            while True:
                chunk = await source.receive(_CHUNK)
                await valve.let_through(len(chunk))
                await target.send(chunk)
                self.passed += len(chunk)
        on_end()
