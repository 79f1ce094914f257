"""Messages that nobody delivers any more, because of durables that others have made or changed, on a real server."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from collector.jetstream.stuck import SETTLED
from tests.support.ancestor import Ancestor, ancestor, entry
from tests.support.waiting import count, numbers, state, until, until_empty
from transfer.jetstream.streams import ensure_bucket
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer, Replica

pytestmark = pytest.mark.timeout(300)
BROUGHT_BACK = "collector_brought_back_messages_total"
OFTEN = {"COLLECTOR_LAG_PERIOD": "200ms"}


@pytest.fixture
async def other(nats_server: NatsServer, namespace: str) -> AsyncIterator[Ancestor]:
    """Give a connection of somebody else."""
    async with ancestor(nats_server.url, namespace) as publisher:
        await ensure_bucket(
            publisher.jetstream, Names(namespace)
        )  # without one, streams of loggers mean that it is gone
        yield publisher


async def foreign_durable(other: Ancestor, key: str, **settings: Any) -> None:
    """Make stream and durable of a logger, the durable as nobody of us makes it.

    It is in memory, as ours are: one on disk would be made anew, and then nothing of it is stuck.
    """
    name = f"{other.namespace}:logs:{key}"
    await other.make_stream(key)
    config = ConsumerConfig(durable_name=name, ack_policy=AckPolicy.EXPLICIT, ack_wait=1, mem_storage=True, **settings)
    await other.jetstream.add_consumer(name, config)


async def deliver(other: Ancestor, key: str, messages: int) -> None:
    """Take messages from the durable and never answer; return when the server does not wait for it any more."""
    name = f"{other.namespace}:logs:{key}"
    taken = await other.jetstream.pull_subscribe_bind(name, name)
    assert len(await taken.fetch(messages, timeout=5)) == messages
    await taken.unsubscribe()
    with anyio.fail_after(60):
        while (await other.jetstream.consumer_info(name, name)).num_ack_pending:  # noqa: ASYNC110 - the server's clock
            await anyio.sleep(0.05)


async def test_messages_that_had_reached_a_foreign_max_deliver_are_all_stored(
    start_replica: Callable[..., Replica], other: Ancestor, database: Database[dict[str, Any]]
) -> None:
    await foreign_durable(other, "stuck", max_deliver=1)
    await other.publish("stuck", (entry(number) for number in range(100)))
    await deliver(other, "stuck", 60)
    replica = start_replica(**OFTEN)
    await other.put("stuck")
    await until(lambda: count(database, "stuck") == 40, 10)
    await until(lambda: replica.metric("collector_stream_stuck_messages") == 60, 10)
    await until(lambda: count(database, "stuck") == 100, 30)
    await until_empty(other.jetstream, f"{other.namespace}:logs:stuck")
    assert numbers(database, "stuck") == Counter(range(100))
    assert replica.metric(BROUGHT_BACK) == 60
    assert '"messages": 60' in replica.log_path.read_text()
    await until(lambda: replica.metric("collector_stream_stuck_messages") == 0, 10)


async def test_a_max_deliver_that_is_set_under_the_running_service_is_lifted_at_once_and_costs_nothing(
    start_replica: Callable[..., Replica], other: Ancestor, database: Database[dict[str, Any]]
) -> None:
    replica = start_replica(**OFTEN)
    await other.declare("changed")
    await until(lambda: state(replica, "changed") == "running", 5)
    name = f"{other.namespace}:logs:changed"
    config = (await other.jetstream.consumer_info(name, name)).config
    config.max_deliver, config.ack_wait = 1, 1
    await other.jetstream.add_consumer(name, config)
    with anyio.fail_after(30):
        while (await other.jetstream.consumer_info(name, name)).config.max_deliver != -1:  # noqa: ASYNC110 - as above
            await anyio.sleep(0.05)
    await until(lambda: "expected max_deliver -1, got 1" in replica.log_path.read_text(), 5)
    await other.publish("changed", (entry(number) for number in range(10)))
    await until(lambda: count(database, "changed") == 10, 5)


async def test_stuck_messages_are_found_while_others_flow(
    start_replica: Callable[..., Replica], other: Ancestor, database: Database[dict[str, Any]]
) -> None:
    await foreign_durable(other, "busy", max_deliver=1)
    sent = await other.publish("busy", (entry(number) for number in range(500)))
    await deliver(other, "busy", sent)
    replica = start_replica(**OFTEN)
    await other.put("busy")
    with anyio.fail_after(40):
        while replica.metric(BROUGHT_BACK) == 0:
            sent += await other.publish("busy", (entry(number) for number in range(sent, sent + 10)))
    await until(lambda: count(database, "busy") == sent, 10)
    assert numbers(database, "busy") == Counter(range(sent))


async def test_nothing_is_believed_to_be_stuck_while_mongodb_is_away(
    start_replica: Callable[..., Replica], go: Ancestor, own_mongod: Callable[[], Mongod], namespace: str
) -> None:
    mongod = own_mongod()
    replica = start_replica(mongo=mongod, **OFTEN, COLLECTOR_ACK_WAIT="1s")
    await go.declare("patient")
    await until(lambda: state(replica, "patient") == "running", 5)
    name = f"{namespace}:logs:patient"
    made = (await go.jetstream.consumer_info(name, name)).created
    await anyio.to_thread.run_sync(mongod.stop)
    await go.publish("patient", (entry(number) for number in range(20_000)))
    await until(lambda: replica.metric("collector_lag_oldest_message_age_seconds") > SETTLED + 3, 20)
    await anyio.to_thread.run_sync(mongod.start)
    await until_empty(go.jetstream, name, 20)
    assert replica.metric(BROUGHT_BACK) == 0
    assert (await go.jetstream.consumer_info(name, name)).created == made
