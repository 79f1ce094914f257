"""Replicas that were told different ack waits, as in the middle of a rollout, on real servers."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pymongo import MongoClient

from tests.support.ancestor import Ancestor, entry
from tests.support.waiting import count, numbers, state, until
from transfer.jetstream.durables import durable_info
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.local import Mongod, Replica

pytestmark = pytest.mark.timeout(120)
SHORT, LONG = 2, 9
OFTEN = {"COLLECTOR_LAG_PERIOD": "200ms"}


def is_connected(replica: Replica) -> bool:
    return bool(replica.status["connected"]["nats"])


def is_running(replica: Replica) -> bool:
    return state(replica, "shared") == "running"


async def test_replicas_agree_on_the_longest_ack_wait_and_what_each_holds_in_an_outage_goes_to_no_other(
    start_replica: Callable[..., Replica], go: Ancestor, own_mongod: Callable[[], Mongod], namespace: str
) -> None:
    """A third of the longer one is more than all of the shorter one: whose keeper beats by the wrong one loses all."""
    mongod = await anyio.to_thread.run_sync(own_mongod)
    replicas = [start_replica(mongo=mongod, COLLECTOR_ACK_WAIT=f"{seconds}s", **OFTEN) for seconds in (LONG, SHORT)]
    for replica in replicas:
        await until(partial(is_connected, replica), 20)
    await go.declare("shared")
    for replica in replicas:
        await until(partial(is_running, replica), 20)
    await anyio.to_thread.run_sync(mongod.stop)
    sent = await go.publish("shared", (entry(number) for number in range(2000)))

    def held() -> float:
        return sum(replica.metric("collector_buffer_messages") for replica in replicas)

    await until(lambda: held() == sent, 20)
    await until(lambda: replicas[0].metric("collector_lag_oldest_message_age_seconds") > LONG + SHORT, 40)
    await anyio.to_thread.run_sync(mongod.start)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        await until(lambda: count(client[namespace], "shared") == sent, 40)
        assert numbers(client[namespace], "shared") == Counter(range(sent))
    assert sum(replica.metric("collector_redelivered_messages_total") for replica in replicas) == 0
    assert (await durable_info(go.jetstream, Names(namespace), "shared")).ack_wait == LONG
    brought_in_line = [replica.log_path.read_text().count("expected ack_wait") for replica in replicas]
    assert brought_in_line[0] <= 1
