"""What the client sends again and again, for longer than JetStream remembers it, is stored once."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import nats
import pytest
from anyio import create_task_group, from_thread, to_thread

from tests.chaos.proxy import Direction, Proxy
from tests.support.waiting import numbers, until, until_empty
from transfer import BlockingTransfer, CollectionSpec, Logger
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pymongo.database import Database

    from collector.local import NatsServer, Replica

pytestmark = pytest.mark.timeout(180)
ENTRIES = 2000
WINDOW = 0.1
"""Seconds that JetStream remembers a message id here; by default it is two minutes."""


@asynccontextmanager
async def proxied(server: NatsServer) -> AsyncIterator[Proxy]:
    proxy = Proxy(server.port)
    async with create_task_group() as group:
        await group.start(proxy.serve)
        yield proxy
        group.cancel_scope.cancel()


async def forget_soon(server: NatsServer, stream: str) -> None:
    """Have the stream remember message ids for a moment only."""
    async with await nats.connect(server.url) as connection:
        jetstream = connection.jetstream()
        config = (await jetstream.stream_info(stream)).config
        config.duplicate_window = WINDOW
        await jetstream.update_stream(config)


async def messages(server: NatsServer, stream: str) -> int:
    """Return how many messages the stream has ever had."""
    async with await nats.connect(server.url) as connection:
        return int((await connection.jetstream().stream_info(stream)).state.last_seq)


@pytest.mark.parametrize("kind", ["plain", "timeseries"])
@pytest.mark.parametrize("bundle_entries", [100, 1])
async def test_what_was_sent_again_after_the_duplicate_window_is_stored_once(
    start_replica: Callable[..., Replica],
    nats_server: NatsServer,
    namespace: str,
    database: Database[dict[str, Any]],
    kind: Any,
    bundle_entries: int,
) -> None:
    stream = Names(namespace).stream("app")
    start_replica()
    async with proxied(nats_server) as proxy:

        def send() -> None:
            url = f"nats://127.0.0.1:{proxy.port}"
            with BlockingTransfer.connect(url, namespace=namespace, bundle_entries=bundle_entries) as transfer:
                transfer.set(Logger("app", collection=CollectionSpec(kind=kind)))
                transfer.send("app", {"number": 0})
                assert transfer.flush(10)
                from_thread.run_sync(proxy.stall, Direction.DOWN)
                for number in range(1, ENTRIES):
                    transfer.send("app", {"number": number})
                assert not transfer.flush(4)  # confirmations are on their way and do not arrive
                from_thread.run_sync(proxy.open)
                from_thread.run_sync(proxy.reset)
                assert transfer.flush(20)
                assert transfer.stats().published == ENTRIES
                assert transfer.stats().retries > 0

        with BlockingTransfer.connect(nats_server.url, namespace=namespace) as before:
            await to_thread.run_sync(before.set, Logger("app", collection=CollectionSpec(kind=kind)))
        await forget_soon(nats_server, stream)
        await to_thread.run_sync(send)
    sent = await messages(nats_server, stream)
    assert sent > (ENTRIES + bundle_entries - 1) // bundle_entries, "nothing was in the stream twice"
    await until(lambda: len(numbers(database, "app")) == ENTRIES, 30)
    async with await nats.connect(nats_server.url) as connection:
        await until_empty(connection.jetstream(), stream, 20)
    assert set(numbers(database, "app").values()) == {1}
