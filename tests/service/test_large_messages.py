"""Messages larger than a logger's part, than the buffer, and than `max_payload` as it was when we connected."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from pymongo import MongoClient

from tests.support.ancestor import Ancestor, ancestor, entry
from tests.support.process import refusing_inserts
from tests.support.waiting import count, state, until, until_empty

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer, Replica

pytestmark = pytest.mark.timeout(120)


def of_size(size: int) -> bytes:
    return msgspec.msgpack.encode({"data": {"text": "x" * size}})


def set_max_payload(nats: NatsServer, limit: str) -> None:
    """Have a running nats-server read another limit."""
    nats.config = f"max_payload: {limit}\n"
    nats._command()  # writes the file
    os.kill(nats.pid, signal.SIGHUP)


async def until_limit(nats: NatsServer, limit: int, namespace: str) -> None:
    """Wait until a new connection is told that limit."""
    for _ in range(100):
        async with ancestor(nats.url, namespace) as other:
            if other.connection.max_payload == limit:
                return
    pytest.fail(f"expected max_payload to be {limit}")


@pytest.mark.parametrize("size", [40_000, 300_000, 3_000_000, 7_900_000])
@pytest.mark.parametrize("when", ["raised while it runs", "lowered while it waits"])
async def test_a_message_is_stored_whatever_max_payload_was_when_we_connected(
    when: str,
    size: int,
    start_replica: Callable[..., Replica],
    own_nats: Callable[..., NatsServer],
    database: Database[dict[str, Any]],
    namespace: str,
) -> None:
    raised = when.startswith("raised")
    nats = own_nats("max_payload: 32KB\n" if raised else "")
    settings = {"COLLECTOR_BUFFER_BYTES": "1MiB"}
    async with ancestor(nats.url, namespace) as go:
        await go.jetstream.create_key_value(bucket=f"{namespace}_logs")
        await go.declare("large", "small")
        replica = start_replica(nats=nats, **settings) if raised else None
        if replica is not None:
            await until(lambda: replica is not None and state(replica, "large") == "running", 10)
            set_max_payload(nats, "8MB")
            await until_limit(nats, 8 * 1024 * 1024, namespace)
    async with ancestor(nats.url, namespace) as go:
        await go.publish("large", [entry(1), of_size(size), entry(2), of_size(size), of_size(size // 3)])
        if replica is None:
            set_max_payload(nats, "32KB")
            await until_limit(nats, 32 * 1024, namespace)
            replica = start_replica(nats=nats, **settings)
        await go.publish("small", [entry(1)])
        await until(lambda: count(database, "large") == 5, 30)
        await until(lambda: count(database, "small") == 1, 10)
        await until_empty(go.jetstream, f"{namespace}:logs:large")
    assert replica.metric("collector_failures_total") == 0
    assert replica.metric("collector_redelivered_messages_total") == 0


async def test_a_logger_that_cannot_write_its_large_message_does_not_keep_others_from_theirs(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    own_mongod: Callable[[], Mongod],
    namespace: str,
) -> None:
    mongod = own_mongod()
    replica = start_replica(mongo=mongod, COLLECTOR_BUFFER_BYTES="1MiB")
    keys = ["stuck", "first", "second"]
    await go.declare(*keys)
    await until(lambda: all(state(replica, key) == "running" for key in keys), 10)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        database = client[namespace]
        with refusing_inserts(mongod, f"{namespace}.stuck_logs"):
            await go.publish("stuck", [of_size(3_000_000)])
            await until(lambda: replica.status["loggers"]["stuck"]["in_hand_messages"] == 1, 20)
            for key in keys[1:]:
                await go.publish(key, [of_size(2_000_000), entry(1)])
            await until(lambda: count(database, "first") == count(database, "second") == 2, 90)
            assert count(database, "stuck") == 0
        await until(lambda: count(database, "stuck") == 1, 60)
        for key in keys:
            await until_empty(go.jetstream, f"{namespace}:logs:{key}", 20)
    assert replica.metric("collector_actor_restarts_total") == 0
