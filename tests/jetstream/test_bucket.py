"""What is declared in the bucket is read whole, also when nats-py says the end of its list too early."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nats
import pytest
from anyio import fail_after
from nats.js import JetStreamContext

from collector.jetstream.bucket import Change, Gone, KvBucket, Listed, Put
from transfer import Logger, Transfer
from transfer.jetstream.api import request
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.client import Client

    from collector.local import NatsServer


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with await nats.connect(nats_server.url) as client:
        yield client


@pytest.fixture
def early_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nats-py believe that nothing has arrived when the server has sent everything, as it does in a race."""
    monkeypatch.setattr(JetStreamContext.PushSubscription, "delivered", property(lambda _: 0))


async def changes(bucket: KvBucket, count: int) -> list[Change]:
    async with bucket.watch() as watch:
        with fail_after(60):
            return [await watch.next() for _ in range(count)]


@pytest.mark.parametrize("keys", [["a"], ["a", "b", "c"]])
async def test_the_end_of_the_list_comes_behind_all_that_is_there(
    connection: Client, namespace: str, keys: list[str], early_end: None
) -> None:
    transfer = Transfer(connection.jetstream(), namespace=namespace)
    for key in keys:
        await transfer.set(Logger(key))
    found = await changes(KvBucket(connection.jetstream(), Names(namespace)), len(keys) + 1)
    assert [change.key for change in found if isinstance(change, Put)] == keys
    assert found[-1] == Listed()


@pytest.mark.parametrize("consumers", [-1, 1])
async def test_a_key_has_the_revision_of_its_last_put_also_where_no_watch_is_made(
    connection: Client, namespace: str, consumers: int
) -> None:
    jetstream, stream = connection.jetstream(), f"KV_{namespace}_logs"
    config = {"name": stream, "subjects": [f"$KV.{namespace}_logs.>"], "max_msgs_per_subject": 1}
    config |= {"allow_direct": True, "max_consumers": consumers}
    await request(jetstream, f"STREAM.CREATE.{stream}", config)
    await jetstream.add_consumer(stream, durable_name="somebodys", ack_policy="none")
    bucket = await jetstream.key_value(f"{namespace}_logs")
    revisions = {key: await bucket.put(key, b"x") for key in "aba"}
    assert revisions == {"a": 3, "b": 2}
    async with KvBucket(jetstream, Names(namespace)).watch() as watch:
        assert watch.life.last == max(revisions.values())
    found = await changes(KvBucket(jetstream, Names(namespace)), 3)
    assert {change.key: change.revision for change in found if isinstance(change, Put)} == revisions


async def test_the_end_comes_for_a_bucket_that_never_held_anything(connection: Client, namespace: str) -> None:
    assert await changes(KvBucket(connection.jetstream(), Names(namespace)), 1) == [Listed()]


async def test_the_end_comes_once_and_changes_follow_it(connection: Client, namespace: str, early_end: None) -> None:
    transfer = Transfer(connection.jetstream(), namespace=namespace)
    await transfer.set(Logger("a"))
    async with KvBucket(connection.jetstream(), Names(namespace)).watch() as watch:
        with fail_after(60):
            first = [await watch.next(), await watch.next()]
            await transfer.set(Logger("b"))
            await transfer.remove("a")
            second = [await watch.next(), await watch.next()]
    assert [type(change) for change in first] == [Put, Listed]
    assert second[1] == Gone("a")
    assert isinstance(second[0], Put)


async def test_a_list_is_whole_and_leaves_no_consumer_behind(connection: Client, namespace: str) -> None:
    transfer = Transfer(connection.jetstream(), namespace=namespace)
    keys = [f"logger{number:03}" for number in range(150)]
    bucket = await connection.jetstream().create_key_value(bucket=f"{namespace}_logs")
    for key in [*keys, "gone"]:
        await bucket.put(key, b"\x81\xa3key\xa1x")
    await bucket.delete("gone")
    with fail_after(20):
        found = await transfer.list()
    assert len(found) == len(keys)
    stream = await connection.jetstream().stream_info(f"KV_{namespace}_logs")
    assert stream.state.consumer_count == 0
