"""Streams and loggers, made as applications make them: by the functions of `transfer`, many at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import nats
from anyio import CapacityLimiter, create_task_group

from bench.errors import NotAsExpected
from transfer import Logger, Transfer
from transfer.jetstream.durables import ensure_durable
from transfer.jetstream.streams import ensure_bucket, ensure_stream
from transfer.wire import CollectionSpec, LoggerSpec, encode_spec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Literal

    from bench.stand import Space
    from bench.wire import Wire
    from collector.local import NatsServer

_AT_ONCE = 32


def make_streams(server: NatsServer, space: Space, keys: Sequence[str]) -> None:
    """Make the bucket, and the streams of loggers that are not declared yet."""

    async def make() -> None:
        async with await nats.connect(server.url) as connection:
            jetstream = connection.jetstream()
            await ensure_bucket(jetstream, space.names)
            await _all(keys, lambda key: ensure_stream(jetstream, space.names, Logger(key)))

    anyio.run(make)


def make_durable(server: NatsServer, space: Space, key: str) -> None:
    """Make the durable of a logger as the collector makes it."""

    async def make() -> None:
        async with await nats.connect(server.url) as connection:
            await ensure_durable(connection.jetstream(), space.names, key)

    anyio.run(make)


def declare(
    server: NatsServer, space: Space, keys: Sequence[str], kind: Literal["plain", "timeseries"] = "plain"
) -> None:
    """Declare loggers."""
    collection = CollectionSpec(kind=kind)

    async def put() -> None:
        async with Transfer.connect(server.url, namespace=space.names.namespace) as transfer:
            await _all(keys, lambda key: transfer.set(Logger(key, collection=collection)))

    anyio.run(put)


def put(wire: Wire, space: Space, keys: Sequence[str]) -> None:
    """Put the KV entries of loggers whose streams are there, all at once and nothing else.

    https://docs.nats.io/nats-concepts/jetstream/key-value-store
    """
    subjects = [f"$KV.{space.names.bucket}.{key}" for key in keys]
    for answer in wire.requests(subjects, [encode_spec(LoggerSpec(key)) for key in keys]):
        if "seq" not in answer:
            raise NotAsExpected(f"expected the bucket to take a logger, got {answer}")


def remove(server: NatsServer, space: Space, key: str) -> None:
    """Remove a logger with all that waits in its stream."""

    async def delete() -> None:
        async with Transfer.connect(server.url, namespace=space.names.namespace) as transfer:
            await transfer.remove(key, force=True)

    anyio.run(delete)


async def _all(keys: Sequence[str], do: Callable[[str], Awaitable[object]]) -> None:
    limit = CapacityLimiter(_AT_ONCE)

    async def one(key: str) -> None:
        async with limit:
            await do(key)

    async with create_task_group() as group:
        for key in keys:
            group.start_soon(one, key)
