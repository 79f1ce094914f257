"""The main job on real servers: replicas as processes, a publisher that is not ours, MongoDB as the judge."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pymongo import MongoClient

from tests.support.ancestor import Ancestor, entry
from tests.support.process import slow_inserts
from tests.support.waiting import numbers, state, until, until_stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Mongod, Replica

pytestmark = pytest.mark.timeout(300)


async def test_of_50_000_entries_each_is_stored_once_though_a_replica_is_killed(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    doomed, _ = start_replica(COLLECTOR_ACK_WAIT="5s"), start_replica(COLLECTOR_ACK_WAIT="5s")
    keys = [f"logger{number}" for number in range(5)]
    await go.declare(*keys)
    killed = False
    for part in range(10):
        for key_number, key in enumerate(keys):
            first = (key_number * 10 + part) * 1000
            await go.publish(key, (entry(first + number) for number in range(1000)))
            if part == 4 and key_number == 2:
                doomed.kill()
                killed = True
    assert killed
    await until_stored(database, keys, 50_000, 30)
    assert numbers(database, *keys) == Counter(range(50_000))


async def test_sigterm_with_10_000_messages_in_flight_loses_nothing_and_the_other_replica_goes_on(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    database: Database[dict[str, Any]],
    mongod: Mongod,
    namespace: str,
) -> None:
    leaving, staying = start_replica(COLLECTOR_ACK_WAIT="5m"), start_replica(COLLECTOR_ACK_WAIT="5m")
    await go.declare("busy")
    await until(lambda: {state(leaving, "busy"), state(staying, "busy")} == {"running"}, 5)
    await go.publish("busy", (entry(number) for number in range(5_000)))
    before = staying.metric("collector_written_entries_total")
    async with anyio.create_task_group() as group:
        with slow_inserts(mongod, f"{namespace}.busy_logs"):  # so that it has some in hand, however slow we publish
            group.start_soon(go.publish, "busy", [entry(number) for number in range(5_000, 15_000)])
            await until(lambda: leaving.metric("collector_buffer_messages") > 0, 10)
            leaving.terminate()
        assert await anyio.to_thread.run_sync(leaving.wait) == 0, "it has drained before its shutdown timeout"
    await until(lambda: staying.metric("collector_written_entries_total") > before, 5)
    await until_stored(database, ["busy"], 15_000, 20)
    assert numbers(database, "busy") == Counter(range(15_000))
    assert (await go.jetstream.consumer_info(f"{namespace}:logs:busy", f"{namespace}:logs:busy")).num_pending == 0


async def test_a_second_signal_cancels_at_once(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    namespace: str,
    own_mongod: Callable[[], Mongod],
) -> None:
    mongod = own_mongod()
    replica = start_replica(mongo=mongod, COLLECTOR_WRITE_TIMEOUT="2s")
    await go.declare("stuck")
    await until(lambda: state(replica, "stuck") == "running", 5)
    mongod.pause()
    await go.publish("stuck", [entry(number) for number in range(100)])
    await until(lambda: replica.metric("collector_writes_in_progress") > 0, 5)
    replica.terminate()
    await until(lambda: replica.status["not_ready"][:1] == ["stopping"], 2)
    replica.terminate()
    assert await anyio.to_thread.run_sync(replica.wait) == 1
    mongod.resume()


async def test_an_outage_of_mongodb_is_waited_out_without_redelivery(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    own_mongod: Callable[[], Mongod],
    namespace: str,
) -> None:
    mongod = own_mongod()
    replica = start_replica(mongo=mongod, COLLECTOR_ACK_WAIT="4s", COLLECTOR_WRITE_TIMEOUT="2s")
    await go.declare("patient")
    await until(lambda: state(replica, "patient") == "running", 5)
    await anyio.to_thread.run_sync(mongod.stop)
    await go.publish("patient", (entry(number) for number in range(20_000)))
    await until(lambda: replica.metric("collector_retries_total") > 0, 20)
    assert [why for why in replica.status["not_ready"] if why.startswith("not connected to mongodb: no primary")]
    assert replica.get("/livez")[0] == 200
    await anyio.sleep(5)  # longer than ack wait: what is in hand is kept alive
    await anyio.to_thread.run_sync(mongod.start)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        await until_stored(client[namespace], ["patient"], 20_000, 5)
        assert numbers(client[namespace], "patient") == Counter(range(20_000))
    assert replica.metric("collector_redelivered_messages_total") == 0
    assert replica.metric("collector_returned_messages_total") == 0


async def test_on_stop_during_an_outage_what_is_in_hand_is_given_back_at_once(
    start_replica: Callable[..., Replica], go: Ancestor, own_mongod: Callable[[], Mongod], namespace: str
) -> None:
    mongod = own_mongod()
    replica = start_replica(mongo=mongod, COLLECTOR_WRITE_TIMEOUT="2s")
    await go.declare("held")
    await until(lambda: state(replica, "held") == "running", 5)
    await anyio.to_thread.run_sync(mongod.stop)
    await go.publish("held", (entry(number) for number in range(100)))
    await until(lambda: replica.metric("collector_buffer_messages") == 100, 10)
    replica.terminate()
    assert await anyio.to_thread.run_sync(replica.wait) == 0
    assert '"returned": 100' in replica.log_path.read_text()
    name = f"{namespace}:logs:held"
    durable = await go.jetstream.consumer_info(name, name)
    await go.jetstream.add_consumer(name, durable.config)  # without its priorities, which nats-py does not know
    taken = await go.jetstream.pull_subscribe_bind(name, name)
    assert len(await taken.fetch(100, timeout=1)) == 100


def test_wrong_settings_are_reported_together_with_exit_status_2() -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if name not in {"NAMESPACE", "DATABASE", "NATS_HOSTS"}},
        "COLLECTOR_BATCH_AGE": "soon",
        "COLLECTOR_HTTP": "nowhere",
        "DATABASE": "postgres://user:verysecret@db",
    }
    command = [sys.executable, "-m", "collector", "run"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    for variable in ("NAMESPACE", "NATS_HOSTS", "COLLECTOR_BATCH_AGE", "COLLECTOR_HTTP", "DATABASE"):
        assert variable in ended.stderr
    assert "verysecret" not in ended.stderr
