"""A publisher that knows nothing of this project: nats-py, msgpack packed by hand, and the names of the Go system."""

from __future__ import annotations

import struct
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from anyio import fail_after, sleep
from nats.js.errors import BucketNotFoundError, ServerError

from tests.support.planted import planted
from transfer.jetstream.connection import Connection

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Iterable, Mapping

    from nats.aio.client import Client
    from nats.js import JetStreamContext
    from nats.js.api import PubAck
    from nats.js.kv import KeyValue

MESSAGE = planted("GET /health")
_IN_FLIGHT = 2000
_STORE_NOT_MADE = 10049  # seen once of many thousand, on a busy machine: the server could not make its folder then


def text(value: str) -> bytes:
    """Pack a msgpack str 8, or a fixstr where it is short enough."""
    raw = value.encode()
    return (bytes([0xA0 | len(raw)]) if len(raw) < 32 else b"\xd9" + bytes([len(raw)])) + raw


def entry(number: int, seconds: int = 1_700_000_000, nanoseconds: int = 123_456_789) -> bytes:
    """Pack what the Go client sends: metadata, data, timestamp as extension -1 in 8 bytes; Go's int is an int64."""
    metadata = b"\x81" + text("number") + b"\xd3" + struct.pack(">q", number)
    data = b"\x82" + text("msg") + text(MESSAGE) + text("number") + b"\xd3" + struct.pack(">q", number)
    timestamp = b"\xd7\xff" + struct.pack(">Q", nanoseconds << 34 | seconds)
    return b"\x83" + text("metadata") + metadata + text("data") + data + text("timestamp") + timestamp


class Ancestor:
    """The Go system's way of declaring loggers and publishing to them."""

    def __init__(self, connection: Client, namespace: str) -> None:
        self.connection = connection
        self.jetstream: JetStreamContext = connection.jetstream()
        self.namespace = namespace

    async def make_stream(self, key: str) -> None:
        """Make the work-queue stream of a logger."""
        subject = f"{self.namespace}.logs.{key}"
        name = f"{self.namespace}:logs:{key}"
        for tries_left in reversed(range(3)):
            try:
                await self.jetstream.add_stream(name=name, subjects=[subject], retention="workqueue")
            except ServerError as exc:
                if exc.err_code != _STORE_NOT_MADE or not tries_left:
                    raise
            else:
                return

    async def put(self, key: str, value: bytes | None = None) -> None:
        """Put the KV entry of a logger, a msgpack map of key and description, when the bucket is there.

        A replica is ready when it is connected, and makes the bucket a moment later.
        """
        with fail_after(30):
            while (bucket := await self._bucket()) is None:  # noqa: ASYNC110 - another process makes it
                await sleep(0.01)
        plain = b"\x82" + text("key") + text(key) + text("description") + text("")
        await bucket.put(key, plain if value is None else value)

    async def _bucket(self) -> KeyValue | None:
        with suppress(BucketNotFoundError):
            return await self.jetstream.key_value(f"{self.namespace}_logs")
        return None

    async def declare(self, *keys: str) -> None:
        """Make streams and entries."""
        for key in keys:
            await self.make_stream(key)
            await self.put(key)

    async def publish(self, key: str, bodies: Iterable[bytes], headers: Mapping[str, str] | None = None) -> int:
        """Publish messages and wait for all confirmations; return how many there were."""
        subject, confirmed = f"{self.namespace}.logs.{key}", 0
        waiting: deque[asyncio.Future[PubAck]] = deque()
        for body in bodies:
            sent = await self.jetstream.publish_async(subject, body, headers=dict(headers) if headers else None)
            waiting.append(sent)
            if len(waiting) == _IN_FLIGHT:
                await waiting.popleft()
                confirmed += 1
        while waiting:
            await waiting.popleft()
            confirmed += 1
        return confirmed


@asynccontextmanager
async def ancestor(url: str, namespace: str) -> AsyncIterator[Ancestor]:
    """Connect."""
    connection = Connection()  # of nats-py: it lets go of what it has open when a server dies in a connect
    await connection.connect(url)
    try:
        yield Ancestor(connection, namespace)
    finally:
        await connection.close()
