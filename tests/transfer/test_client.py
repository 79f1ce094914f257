"""`Transfer` against a real nats-server: what it makes there, what it refuses, what it undoes, what it confirms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import nats
import pytest
from nats.js.api import RetentionPolicy

from transfer import (
    Conflict,
    Found,
    InvalidEntry,
    InvalidKey,
    Logger,
    LoggerNotEmpty,
    PublishUnconfirmed,
    StreamSpec,
    Transfer,
    Unavailable,
    UnknownLogger,
    UnreadableSpec,
    new_id,
)
from transfer.jetstream.api import request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from collector.local import NatsServer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with await nats.connect(nats_server.url) as connection:
        yield connection


@pytest.fixture
def jetstream(connection: Client) -> JetStreamContext:
    return connection.jetstream()


@pytest.fixture
def transfer(jetstream: JetStreamContext, namespace: str) -> Transfer:
    return Transfer(jetstream, namespace=namespace)


async def config_of(jetstream: JetStreamContext, stream: str) -> dict[str, Any]:
    info: dict[str, Any] = msgspec.json.decode(await request(jetstream, f"STREAM.INFO.{stream}"))
    config: dict[str, Any] = info["config"]
    return {name: value for name, value in config.items() if name != "metadata"}


async def streams_of(jetstream: JetStreamContext, namespace: str) -> list[str]:
    names = [info.config.name or "" for info in await jetstream.streams_info()]
    return sorted(name for name in names if namespace in name)


UNSET: tuple[object, ...] = (False, {}, "none")
"""What the server writes into every stream of its own accord: flags, consumer limits, compression."""
GO_STREAM = {
    "retention": "workqueue",
    "max_consumers": -1,
    "max_msgs": -1,
    "max_bytes": -1,
    "max_age": 0,
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "discard": "old",
    "storage": "file",
    "num_replicas": 1,
    "duplicate_window": 120_000_000_000,
}


async def test_set_makes_stream_and_bucket_as_the_go_client_does(
    transfer: Transfer, jetstream: JetStreamContext, namespace: str
) -> None:
    await transfer.set(Logger("system", description="system beta"))
    made = await config_of(jetstream, f"{namespace}:logs:system")
    named = {"name": f"{namespace}:logs:system", "subjects": [f"{namespace}.logs.system"], "description": "system beta"}
    assert {name: value for name, value in made.items() if name in GO_STREAM or value not in UNSET} == GO_STREAM | named
    bucket = await config_of(jetstream, f"KV_{namespace}_logs")
    assert {name: bucket[name] for name in bucket if bucket[name] not in (*UNSET, -1, 0)} == {
        "name": f"KV_{namespace}_logs",
        "subjects": [f"$KV.{namespace}_logs.>"],
        "retention": "limits",
        "max_msgs_per_subject": 1,
        "discard": "new",
        "storage": "file",
        "num_replicas": 1,
        "duplicate_window": 120_000_000_000,
        "allow_direct": True,
        "deny_delete": True,
        "allow_rollup_hdrs": True,
    }
    entry = await (await jetstream.key_value(f"{namespace}_logs")).get("system")
    assert msgspec.msgpack.decode(entry.value or b"") == {"key": "system", "description": "system beta"}


async def test_the_stream_is_the_one_that_a_plain_client_makes(
    transfer: Transfer, jetstream: JetStreamContext, namespace: str
) -> None:
    await transfer.set(Logger("ours", description="d"))
    await jetstream.add_stream(
        name=f"{namespace}:logs:theirs",
        subjects=[f"{namespace}.logs.theirs"],
        retention=RetentionPolicy.WORK_QUEUE,
        description="d",
    )
    ours = await config_of(jetstream, f"{namespace}:logs:ours")
    theirs = await config_of(jetstream, f"{namespace}:logs:theirs")
    assert ours | {"name": "", "subjects": []} == theirs | {"name": "", "subjects": []}
    await transfer.set(Logger("theirs", description="d"))


async def test_a_logger_is_set_found_listed_updated_and_removed(transfer: Transfer) -> None:
    assert await transfer.list() == []
    await transfer.set(Logger("b", description="one"))
    await transfer.set(Logger("a", stream=StreamSpec(max_age=60.0, max_bytes=1 << 20)))
    await transfer.set(Logger("b", description="two"))
    await transfer.update(Logger("b", description="three"))
    await transfer.publish("b", {"msg": "x"})
    found = await transfer.get("b")
    assert found.logger == Logger("b", description="three")
    assert found.stream is not None
    assert (found.stream.messages, found.stream.first == found.stream.last) == (1, True)
    assert found.stream.oldest_age < 60
    listed = await transfer.list()
    assert [one.logger.key for one in listed if isinstance(one, Found)] == ["a", "b"]
    await transfer.remove("a")
    await transfer.remove("b", force=True)
    assert await transfer.list() == []
    with pytest.raises(UnknownLogger):
        await transfer.get("b")


async def test_only_stated_limits_and_the_description_are_changed(
    transfer: Transfer, jetstream: JetStreamContext, namespace: str
) -> None:
    await transfer.set(Logger("a", stream=StreamSpec(max_bytes=1 << 20)))
    await transfer.set(Logger("a", description="d", stream=StreamSpec(max_age=30.0)))
    config = await config_of(jetstream, f"{namespace}:logs:a")
    assert (config["max_bytes"], config["max_age"], config["duplicate_window"]) == (1 << 20, 30 * 10**9, 30 * 10**9)
    assert config["description"] == "d"
    with pytest.raises(Conflict, match="storage"):
        await transfer.set(Logger("a", stream=StreamSpec(storage="memory")))


@pytest.mark.parametrize("key", ["", "a b", "a.b", "a>", "x" * 129])
async def test_an_invalid_key_is_refused_before_any_write(
    transfer: Transfer, jetstream: JetStreamContext, namespace: str, key: str
) -> None:
    with pytest.raises(InvalidKey):
        await transfer.set(Logger(key))
    for attempt in (transfer.get(key), transfer.remove(key), transfer.publish(key, {})):
        with pytest.raises(InvalidKey):
            await attempt
    assert await streams_of(jetstream, namespace) == []


async def test_an_unknown_logger_is_an_error_and_nothing_is_written(
    transfer: Transfer, jetstream: JetStreamContext, namespace: str
) -> None:
    for attempt in (transfer.update(Logger("a")), transfer.get("a"), transfer.remove("a"), transfer.publish("a", {})):
        with pytest.raises(UnknownLogger, match="transfer set a"):
            await attempt
    assert await streams_of(jetstream, namespace) == []


async def test_a_stream_is_undone_when_its_entry_is_refused(
    transfer: Transfer, jetstream: JetStreamContext, namespace: str
) -> None:
    await transfer.set(Logger("first"))
    bucket = await config_of(jetstream, f"KV_{namespace}_logs")
    await request(jetstream, f"STREAM.UPDATE.KV_{namespace}_logs", bucket | {"max_msgs": 1})
    with pytest.raises(Unavailable, match="maximum messages exceeded"):
        await transfer.set(Logger("second"))
    assert await streams_of(jetstream, namespace) == sorted([f"KV_{namespace}_logs", f"{namespace}:logs:first"])


async def test_a_subject_or_name_of_somebody_else_is_a_conflict(
    transfer: Transfer, jetstream: JetStreamContext, namespace: str
) -> None:
    await jetstream.add_stream(name=f"{namespace}:logs:taken", subjects=[f"{namespace}.other"])
    with pytest.raises(Conflict, match="expected retention workqueue, got limits"):
        await transfer.set(Logger("taken"))
    await jetstream.add_stream(name=f"{namespace}:logs:greedy", subjects=[f"{namespace}.logs.*"])
    with pytest.raises(Conflict, match="no other stream"):
        await transfer.set(Logger("a"))
    with pytest.raises(Conflict, match="took the entry"):
        await transfer.publish("a", {})


async def test_a_logger_that_is_not_empty_stays_until_it_is_drained_or_forced(
    transfer: Transfer, jetstream: JetStreamContext, namespace: str
) -> None:
    await transfer.set(Logger("a"))
    await transfer.publish("a", {"n": 1})
    with pytest.raises(LoggerNotEmpty, match="still holds 1 entries"):
        await transfer.remove("a")
    with pytest.raises(LoggerNotEmpty):
        await transfer.remove("a", drain=True, timeout=0.3)
    assert (await transfer.get("a")).stream is not None
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: transfer.remove("a", drain=True, timeout=10))
        subscription = await jetstream.pull_subscribe(f"{namespace}.logs.a", "d", stream=f"{namespace}:logs:a")
        for message in await subscription.fetch(1):
            await message.ack()
    assert await streams_of(jetstream, namespace) == [f"KV_{namespace}_logs"]
    await subscription.unsubscribe()


async def test_a_value_that_cannot_be_read_does_not_hide_the_others(
    transfer: Transfer, jetstream: JetStreamContext
) -> None:
    await transfer.set(Logger("good"))
    bucket = await jetstream.key_value(transfer.names.bucket)
    await bucket.put("bad", b"\xc1")
    await bucket.put("odd.key", b"\x81\xa3key\xa7odd.key")
    unreadable = [one.key for one in await transfer.list() if isinstance(one, UnreadableSpec)]
    assert unreadable == ["bad", "odd.key"]
    assert len(await transfer.list()) == 3
    with pytest.raises(UnreadableSpec):
        await transfer.get("bad")
    await transfer.remove("bad")


async def test_an_entry_is_confirmed_and_stored_as_it_was_sent(
    transfer: Transfer, jetstream: JetStreamContext, namespace: str
) -> None:
    await transfer.set(Logger("a"))
    confirmed = await transfer.publish("a", {"msg": "123456"}, metadata={"id": 1}, timestamp=1_700_000_000_123_456_789)
    assert (confirmed.stream, confirmed.sequence, confirmed.duplicate) == (f"{namespace}:logs:a", 1, False)
    message = await jetstream.get_msg(confirmed.stream, 1)
    assert message.headers == {"Nats-Msg-Id": confirmed.id.hex()}
    body = msgspec.msgpack.decode(message.data or b"")
    assert body["data"] == {"msg": "123456"}
    assert body["metadata"] == {"id": 1}
    assert body["id"] == confirmed.id


async def test_an_entry_published_again_under_its_id_is_stored_once_and_says_so(
    transfer: Transfer, jetstream: JetStreamContext
) -> None:
    await transfer.set(Logger("a"))
    first = await transfer.publish("a", {"n": 1})
    again = await transfer.publish("a", {"n": 1}, id=first.id)
    assert (again.sequence, again.duplicate) == (first.sequence, True)
    other = await transfer.publish("a", {"n": 2}, id=new_id())
    message = await jetstream.get_msg(other.stream, other.sequence)
    assert (message.headers or {})["Transfer-Attempt"] == "2"


async def test_an_entry_that_is_too_large_is_refused_and_the_connection_stays(
    transfer: Transfer, connection: Client
) -> None:
    await transfer.set(Logger("a"))
    most = connection.max_payload
    for size in (most + 1, most - 100):  # the server counts the headers too
        with pytest.raises(InvalidEntry, match=f"expected at most {most - 128} bytes"):
            await transfer.publish("a", {"text": "x" * size})
    await transfer.publish("a", {"text": "x" * (most - 250)}, id=new_id())
    assert connection.stats["reconnects"] == 0


async def test_an_entry_published_over_a_restart_is_stored_once(
    own_nats: Callable[..., NatsServer], namespace: str
) -> None:
    server = own_nats()
    async with Transfer.connect(server.url, namespace=namespace) as transfer:
        await transfer.set(Logger("a"))
        async with anyio.create_task_group() as group:
            await anyio.to_thread.run_sync(server.kill)
            group.start_soon(lambda: transfer.publish("a", {"n": 1}, timeout=20))
            await anyio.to_thread.run_sync(server.start)
        state = (await transfer.get("a")).stream
        assert state is not None
        assert state.messages == 1


async def test_an_outage_is_unconfirmed_and_can_be_published_again(
    own_nats: Callable[..., NatsServer], namespace: str
) -> None:
    server = own_nats()
    async with Transfer.connect(server.url, namespace=namespace) as transfer:
        await transfer.set(Logger("a"))
        await anyio.to_thread.run_sync(server.kill)
        with pytest.raises(PublishUnconfirmed) as caught:
            await transfer.publish("a", {"n": 1}, timeout=0.2)
        with pytest.raises(Unavailable):
            await transfer.get("a")
        await anyio.to_thread.run_sync(server.start)
        await transfer.publish("a", {"n": 1}, id=caught.value.id, timestamp=caught.value.timestamp, timeout=20)
        state = (await transfer.get("a")).stream
        assert state is not None
        assert state.messages == 1


async def test_nobody_at_the_address_is_unavailable_in_time(own_nats: Callable[..., NatsServer]) -> None:
    server = own_nats()
    server.stop()
    with anyio.fail_after(60), pytest.raises(Unavailable, match="does not answer"):
        async with Transfer.connect(server.url, namespace="x", timeout=1.0):
            pass
