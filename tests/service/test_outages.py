"""Outages: MongoDB and NATS away, stopped or hanging, with a backlog many times what a replica takes in hand.

The full size, 400,000 messages against the 100,000 that a durable lets be unanswered and outages of two minutes:
`COLLECTOR_TEST_BACKLOG=400000 .venv/bin/python -m pytest -s tests/service/test_outages.py`.
"""

from __future__ import annotations

import os
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pymongo import MongoClient

from tests.support.ancestor import Ancestor, ancestor, entry
from tests.support.flood import flood
from tests.support.process import MIB, needs_proc, refusing_inserts, resident
from tests.support.waiting import count, numbers, state, until, until_empty
from transfer.jetstream.durable_needs import MAX_ACK_PENDING
from transfer.jetstream.durables import durable_info
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer, Replica, Server

FULL = int(os.environ.get("COLLECTOR_TEST_BACKLOG", "0"))
BACKLOG = FULL or 40_000
ACK_WAIT = 5.0
"""Seconds: what is in hand is kept alive three times in it, also where a busy machine is late by two of them."""
AWAY = 120.0 if FULL else 3 * ACK_WAIT
GROWTH = 24 * MIB
pytestmark = pytest.mark.timeout(900 if FULL else 300)


def leave(server: Server, how: str) -> None:
    """Make a server stop, or hang."""
    server.stop() if how == "stopped" else server.pause()


def come_back(server: Server, how: str) -> None:
    """Undo `leave`."""
    server.start() if how == "stopped" else server.resume()


async def watch(replica: Replica, seconds: float) -> int:
    """Return by how many bytes the memory of a replica grows within that time, after its first second."""
    await anyio.sleep(1)
    before, most = resident(replica), 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        await anyio.sleep(0.1)
        most = max(most, resident(replica))
    return most - before


async def full_speed_after(database: Database[dict[str, Any]], key: str, entries: int) -> tuple[float, float]:
    """Wait until all is stored; return the seconds until half of the best rate was reached, and that of it all."""
    started = time.monotonic()
    samples = [(0.0, count(database, key))]
    with anyio.fail_after(600 if FULL else 180):
        while samples[-1][1] < entries:
            await anyio.sleep(0.25)
            samples.append((time.monotonic() - started, database[f"{key}_logs"].estimated_document_count()))
    rates = [
        (now, (stored - stored_before) / (now - before)) for (before, stored_before), (now, stored) in pairwise(samples)
    ]
    best = max(rate for _, rate in rates)
    return next(now for now, rate in rates if rate >= best / 2), entries / samples[-1][0]


@needs_proc
@pytest.mark.parametrize("how", ["stopped", "hanging"])
async def test_mongodb_away_with_a_backlog_many_times_what_is_in_hand_makes_no_redelivery_and_no_growth(
    how: str,
    start_replica: Callable[..., Replica],
    go: Ancestor,
    nats_server: NatsServer,
    own_mongod: Callable[[], Mongod],
    namespace: str,
) -> None:
    mongod = own_mongod()
    replica = start_replica(mongo=mongod, COLLECTOR_ACK_WAIT=f"{ACK_WAIT}s", COLLECTOR_WRITE_TIMEOUT="4s")
    await go.declare("patient")
    await until(lambda: state(replica, "patient") == "running", 10)
    await anyio.to_thread.run_sync(leave, mongod, how)
    bodies = (entry(number) for number in range(BACKLOG))
    assert await flood(nats_server, f"{namespace}.logs.patient", bodies) == BACKLOG
    await until(lambda: replica.metric("collector_retries_total") > 0, 20)
    growth = await watch(replica, AWAY)
    durable = await durable_info(go.jetstream, Names(namespace), "patient")
    assert 0 < durable.num_ack_pending < min(MAX_ACK_PENDING, BACKLOG / 4)
    assert durable.num_redelivered == 0, "kept alive"
    assert growth < GROWTH
    await anyio.to_thread.run_sync(come_back, mongod, how)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        seconds, rate = await full_speed_after(client[namespace], "patient", BACKLOG)
        await until_empty(go.jetstream, f"{namespace}:logs:patient", 20)
        assert set(numbers(client[namespace], "patient").values()) == {1}
        assert count(client[namespace], "patient") == BACKLOG
    print(f"MongoDB {how}: full speed after {seconds:.1f} s, {rate:.0f}/s, {growth / MIB:.1f} MiB more")  # noqa: T201
    assert replica.metric("collector_redelivered_messages_total") == 0
    assert replica.metric("collector_returned_messages_total") == 0
    assert replica.metric("collector_actor_restarts_total") == 0


@needs_proc
@pytest.mark.parametrize("how", ["stopped", "hanging"])
async def test_nats_away_for_longer_than_ack_wait_loses_nothing_and_makes_no_growth(
    how: str,
    start_replica: Callable[..., Replica],
    own_nats: Callable[..., NatsServer],
    database: Database[dict[str, Any]],
    namespace: str,
) -> None:
    nats = own_nats()
    replica = start_replica(nats=nats, COLLECTOR_ACK_WAIT=f"{ACK_WAIT}s")
    async with ancestor(nats.url, namespace) as go:
        await go.declare("patient")
    await until(lambda: state(replica, "patient") == "running", 10)
    subject = f"{namespace}.logs.patient"
    await flood(nats, subject, (entry(number) for number in range(BACKLOG)))
    await until(lambda: count(database, "patient") > 0, 10)
    await anyio.to_thread.run_sync(leave, nats, how)
    growth = await watch(replica, AWAY)
    assert replica.get("/livez")[0] == 200
    await anyio.to_thread.run_sync(come_back, nats, how)
    started = time.monotonic()
    async with ancestor(nats.url, namespace) as go:
        await go.publish("patient", [entry(BACKLOG)])
        await until(lambda: database.patient_logs.count_documents({"number": BACKLOG}) == 1, 30)
        await until_empty(go.jetstream, f"{namespace}:logs:patient", 30 + BACKLOG / 5_000)
    print(f"NATS {how}: all stored after {time.monotonic() - started:.1f} s, {growth / MIB:.1f} MiB more")  # noqa: T201
    assert growth < GROWTH
    assert count(database, "patient") == BACKLOG + 1
    assert set(numbers(database, "patient").values()) == {1}
    assert replica.metric("collector_actor_restarts_total") == 0


async def test_what_is_written_while_nats_is_away_is_answered_when_it_is_back(
    start_replica: Callable[..., Replica],
    own_nats: Callable[..., NatsServer],
    own_mongod: Callable[[], Mongod],
    namespace: str,
) -> None:
    """In progress of all that is in hand, some times over, is more than nats-py keeps for a server that is away."""
    nats, mongod = own_nats(), own_mongod()
    replica = start_replica(nats=nats, mongo=mongod, COLLECTOR_ACK_WAIT="1500ms", COLLECTOR_WRITES="6")
    keys = [f"away{number}" for number in range(4)]
    each = 2000
    async with ancestor(nats.url, namespace) as go:
        await go.declare(*keys)
        await until(lambda: all(state(replica, key) == "running" for key in keys), 10)
        with refusing_inserts(mongod):
            for key in keys:
                await flood(nats, f"{namespace}.logs.{key}", (entry(number) for number in range(each)))
            # counted when it is handed on to be written: what has only come waits for a look at its stream
            await until(lambda: replica.metric("collector_received_messages_total") == each * len(keys), 30)
            await until(lambda: replica.metric("collector_buffer_messages") == each * len(keys), 10)
            await anyio.to_thread.run_sync(nats.stop)
            await anyio.sleep(4)  # eight times as long as in progress is due
        await until(lambda: replica.metric("collector_buffer_messages") == 0, 30)
        assert replica.metric("collector_acknowledged_messages_total") == 0, "there is nobody to tell"
        await anyio.to_thread.run_sync(nats.start)
    async with ancestor(nats.url, namespace) as go:
        for key in keys:
            await until_empty(go.jetstream, f"{namespace}:logs:{key}", 30)
    await until(lambda: replica.metric("collector_acknowledged_messages_total") >= each * len(keys), 10)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        for key in keys:
            assert set(numbers(client[namespace], key).values()) == {1}
            assert count(client[namespace], key) == each
