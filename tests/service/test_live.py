"""Loggers that come, change and go while the service runs; streams and durables that others make and delete."""

from __future__ import annotations

import time
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from nats.js.api import DeliverPolicy
from pymongo import MongoClient

from tests.support.ancestor import Ancestor, ancestor, entry
from tests.support.waiting import count, numbers, state, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer, Replica

pytestmark = pytest.mark.timeout(300)


NEVER = {"COLLECTOR_RECONCILE_PERIOD": "1h"}
"""No reconcile comes while a test waits: a logger is consumed because its put was seen."""


async def put_and_consumed(go: Ancestor, database: Database[dict[str, Any]], *keys: str) -> float:
    """Put loggers at once that have an entry each; return how long it took until all entries were stored."""
    for number, key in enumerate(keys):
        await go.make_stream(key)
        await go.publish(key, [entry(number)])
    began = time.monotonic()
    for key in keys:
        await go.put(key)
    await until(lambda: all(count(database, key) for key in keys), 10)
    return time.monotonic() - began


async def published_and_consumed(go: Ancestor, database: Database[dict[str, Any]], key: str) -> float:
    """Publish an entry of a running logger that has one entry; return how long it took until it was stored."""
    began = time.monotonic()
    await go.publish(key, [entry(2)])
    await until(lambda: count(database, key) == 2, 5)
    return time.monotonic() - began


@pytest.mark.alone
async def test_a_logger_put_is_consumed_nearly_as_soon_as_an_entry_of_a_running_one(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    replica = start_replica(**NEVER)
    put, running = list[float](), list[float]()
    for key in ("one", "two", "three", "four", "five"):
        put.append(await put_and_consumed(go, database, key))
        await go.put(key)
        running.append(await published_and_consumed(go, database, key))
        assert replica.status["loggers"][key]["state"] == "running"
    assert median(put) < 8 * median(running), "a second on an idle machine"
    assert replica.metric("collector_loggers") == 5


@pytest.mark.alone
async def test_100_loggers_put_at_once_do_not_wait_for_each_other(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    start_replica(**NEVER)
    alone = median([await put_and_consumed(go, database, f"alone{number}") for number in range(5)])
    together = await put_and_consumed(go, database, *(f"many{number}" for number in range(100)))
    assert together < 100 * alone / 2, "one after the other they take 100 times as long as one"


@pytest.mark.parametrize("way", ["delete", "purge"])
async def test_a_deleted_or_purged_entry_stops_its_pipeline(
    way: str, start_replica: Callable[..., Replica], go: Ancestor, namespace: str
) -> None:
    replica = start_replica()
    await go.declare("going", "staying")
    await until(lambda: state(replica, "going") == state(replica, "staying") == "running", 5)
    bucket = await go.jetstream.key_value(f"{namespace}_logs")
    await getattr(bucket, way)("going")
    await until(lambda: state(replica, "going") == "none", 5)
    assert state(replica, "staying") == "running"
    assert replica.metric("collector_loggers") == 1


async def test_a_stream_that_does_not_exist_yet_is_waited_for(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    replica = start_replica()
    await go.put("early")
    await until(lambda: state(replica, "early") == "backing_off", 5)
    assert "stream" in replica.status["loggers"]["early"]["why"]
    await go.make_stream("early")
    await go.publish("early", [entry(1)])
    await until(lambda: count(database, "early") == 1, 5)


async def test_a_value_that_cannot_be_read_parks_its_logger_only(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    replica = start_replica()
    await go.declare("fine")
    await go.make_stream("broken")
    await go.put("broken", b"\xc1 is no spec")
    await go.publish("fine", [entry(1)])
    await until(lambda: count(database, "fine") == 1, 5)
    await until(lambda: state(replica, "broken") == "parked", 5)
    await go.publish("broken", [entry(2)])
    await go.put("broken")
    await until(lambda: count(database, "broken") == 1, 5)


async def test_a_put_just_after_a_nats_restart_is_seen_before_any_reconcile(
    start_replica: Callable[..., Replica],
    own_nats: Callable[..., NatsServer],
    database: Database[dict[str, Any]],
    namespace: str,
) -> None:
    nats = own_nats()
    start_replica(nats=nats, **NEVER)
    async with ancestor(nats.url, namespace) as go:
        await go.declare("before")
        await go.publish("before", [entry(1)])
        await until(lambda: count(database, "before") == 1, 5)
    await anyio.to_thread.run_sync(nats.kill)
    await anyio.to_thread.run_sync(nats.start)
    async with ancestor(nats.url, namespace) as go:
        await go.make_stream("after")
        await go.publish("after", [entry(2)])
        await go.publish("before", [entry(3)])
        await go.put("after")
        await until(lambda: count(database, "after") == 1, 5)
        await until(lambda: count(database, "before") == 2, 5)


async def test_a_deleted_durable_and_a_stream_made_anew_are_noticed(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], namespace: str
) -> None:
    replica = start_replica()
    name = f"{namespace}:logs:phoenix"
    await go.declare("phoenix")
    await go.publish("phoenix", [entry(1)])
    await until(lambda: count(database, "phoenix") == 1, 5)
    await go.jetstream.delete_consumer(name, name)
    await go.publish("phoenix", [entry(2)])
    await until(lambda: count(database, "phoenix") == 2, 10)
    await go.jetstream.delete_stream(name)
    await go.make_stream("phoenix")
    await go.publish("phoenix", [entry(3)])
    await until(lambda: count(database, "phoenix") == 3, 10)
    assert numbers(database, "phoenix") == Counter([1, 2, 3])
    assert replica.metric("collector_actor_restarts_total") == 0


async def test_acks_of_a_stream_that_is_gone_do_not_reach_the_one_made_anew(
    start_replica: Callable[..., Replica], go: Ancestor, own_mongod: Callable[[], Mongod], namespace: str
) -> None:
    mongod = own_mongod()
    replica = start_replica(mongo=mongod)
    name = f"{namespace}:logs:phoenix"
    await go.declare("phoenix")
    await until(lambda: state(replica, "phoenix") == "running", 5)
    await anyio.to_thread.run_sync(mongod.stop)
    await go.publish("phoenix", [entry(number) for number in range(10)])
    await until(lambda: replica.metric("collector_buffer_messages") == 10, 10)
    await go.jetstream.delete_stream(name)
    await go.make_stream("phoenix")
    await go.publish("phoenix", [entry(number) for number in range(10, 20)])
    other = await go.jetstream.pull_subscribe(f"{namespace}.logs.phoenix", durable=name, stream=name)
    assert len(await other.fetch(10, timeout=2)) == 10
    await anyio.to_thread.run_sync(mongod.start)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        await until(lambda: count(client[namespace], "phoenix") == 10, 20)
    await until(lambda: replica.status["loggers"]["phoenix"]["in_hand_messages"] == 0, 5)
    assert (await go.jetstream.stream_info(name)).state.messages == 10


async def test_a_push_durable_of_the_go_collector_is_replaced_when_nobody_is_bound_to_it(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], namespace: str
) -> None:
    replica = start_replica()
    name, subject = f"{namespace}:logs:taken", f"{namespace}.logs.taken"
    await go.make_stream("taken")
    subscription = await go.jetstream.subscribe(
        subject, queue=name, durable=name, stream=name, manual_ack=True, deliver_policy=DeliverPolicy.ALL
    )
    await go.put("taken")
    await go.publish("taken", [entry(1)])
    await until(lambda: "bound" in replica.status["loggers"].get("taken", {}).get("why", ""), 5)
    assert count(database, "taken") == 0
    await subscription.unsubscribe()
    await go.connection.flush()
    await until(lambda: count(database, "taken") == 1, 40)
