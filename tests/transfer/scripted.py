"""A server that speaks as much of the NATS protocol as a client needs, and says what a test wants, when it wants."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio import create_task_group, fail_after
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.client import Client

INFO = b'INFO {"server_id":"x","version":"2.15.1","proto":1,"headers":true,"max_payload":1048576}\r\n'


class Scripted:
    """Answers PING, hears SUB and PUB; `say` puts bytes on the newest connection."""

    def __init__(self) -> None:
        self.url = ""
        self.greeting: Callable[[int], bytes] = lambda _: INFO
        self.answering = anyio.Event()
        """PINGs are answered while it is set."""
        self.answering.set()
        self.connections = 0
        self.heard: list[bytes] = []
        self.held = 0
        """1 while a PING waits for its answer."""
        self._newest: SocketStream | None = None

    async def say(self, *parts: bytes) -> None:
        """Send bytes, each part as a packet of its own as far as TCP goes."""
        assert self._newest is not None
        for part in parts:
            await self._newest.send(part)

    async def hang_up(self) -> None:
        """End the newest connection."""
        assert self._newest is not None
        await self._newest.aclose()

    async def stop_reading(self, connection: Client) -> None:
        """Return when it waits before an answer, and so reads nothing more until `answering` is set again."""
        self.answering = anyio.Event()
        await connection._send_ping()
        await self.until(lambda: self.held == 1)

    async def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Wait for something that the server or the client notes."""
        with fail_after(seconds):
            while not condition():  # noqa: ASYNC110 - the client notes it in an attribute
                await anyio.sleep(0.01)

    async def serve(self, stream: SocketStream) -> None:
        self.connections += 1
        self._newest = stream
        async with stream:
            try:
                await stream.send(self.greeting(self.connections))
                await self._obey(stream, BufferedByteReceiveStream(stream))
            except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead, anyio.ClosedResourceError):
                pass

    async def _obey(self, stream: SocketStream, lines: BufferedByteReceiveStream) -> None:
        while True:
            line = await lines.receive_until(b"\r\n", 1 << 20)
            self.heard.append(line)
            if line.startswith(b"PING"):
                self.held = 1
                await self.answering.wait()
                self.held = 0
                await stream.send(b"PONG\r\n")
            elif line.startswith((b"PUB ", b"HPUB ")):
                await lines.receive_exactly(int(line.rsplit(b" ", 1)[1]) + 2)


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    """Serve on a free port of loopback for the length of the block."""
    server = Scripted()
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, create_task_group() as group:
        server.url = f"nats://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"  # noqa: S610 - no Django here
        group.start_soon(listener.serve, server.serve)
        try:
            yield server
        finally:
            group.cancel_scope.cancel()
