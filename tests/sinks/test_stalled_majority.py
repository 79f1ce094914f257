"""Secondaries that stop replicating: nothing is answered before the majority has it, and a failover loses nothing.

`COLLECTOR_TEST_STALLED_ENTRIES=50000` is the long form.
"""

from __future__ import annotations

import os
import re
import secrets
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group, fail_after, to_thread
from bson import Int64
from pymongo import MongoClient, WriteConcern

from collector.check.findings import Level
from collector.check.mongodb_facts import read_mongodb
from collector.check.mongodb_findings import judge_mongodb
from collector.errors import SinkUnavailable
from collector.local import NatsServer, Replica
from collector.sinks.timeseries.horizon import Horizon
from collector.sinks.timeseries.ownership import write_number
from collector.sinks.timeseries.sink import TimeSeriesSink
from tests.chaos.servers import direct, start_all
from tests.service.test_timeseries import TIMESERIES
from tests.support.ancestor import Ancestor, ancestor, entry, text
from tests.support.answered_writes import MEMBERS, scenery
from tests.support.owning import COLLECTION, entries
from tests.support.owning import entry as document
from tests.support.stalled import ReplicaSet, replica_set
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


SETS = {"primary, two secondaries": False, "primary, secondary, arbiter": True}
FAILOVERS = 10
"""In each of the two sets."""
ENTRIES = int(os.environ.get("COLLECTOR_TEST_STALLED_ENTRIES", "2000"))
"""In all failovers of both sets."""


pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=[*SETS.values()], ids=[*SETS])
def stalling(request: pytest.FixtureRequest) -> Iterator[ReplicaSet]:
    """Give a replica set for the tests of this file."""
    with replica_set(arbiter=request.param) as found:
        yield found


async def test_no_write_returns_while_the_majority_stands_still_however_often_it_is_tried(stalling: ReplicaSet) -> None:
    """Most second tries change nothing, or find what is there: they have to wait for it all the same."""
    said: dict[str, list[str]] = {}

    async def try_it(member: str, attempt: Callable[[], Awaitable[object]]) -> None:
        said[member] = [await _outcome(attempt) for _ in range(3)]

    with fail_after(240):
        async with scenery(stalling) as scene:
            attempts = {name: make(scene) for name, make in MEMBERS.items()}
            await stalling.stall()
            await scene.database.command({"insert": "noise", "documents": [{}], "writeConcern": {"w": 1}})
            async with create_task_group() as group:
                for name, attempt in attempts.items():
                    group.start_soon(try_it, name, attempt)
            assert said == dict.fromkeys(MEMBERS, ["unavailable"] * 3)
            await stalling.go_on()
            for name, attempt in attempts.items():
                while await _outcome(attempt) == "unavailable":
                    said[name].append("again")


async def _outcome(attempt: Callable[[], Awaitable[object]]) -> str:
    try:
        await attempt()
    except SinkUnavailable:
        return "unavailable"
    return "returned"


async def test_mongod_answers_a_repeated_number_early_in_time_series_alone(stalling: ReplicaSet) -> None:
    """The fact that rule 11 stands on; when it fails here, mongod has changed for the better."""
    concern = {"w": "majority", "wtimeout": 300}
    with fail_after(60):
        async with scenery(stalling) as scene:
            await stalling.stall()
            said = {}
            for number, name in enumerate((COLLECTION, "plain_logs"), 2):
                command: dict[str, Any] = {"insert": name, "documents": [document().document], "writeConcern": concern}
                command["txnNumber"] = Int64(write_number(scene.fenced.tenure.epoch, number))
                session = scene.fenced.sessions[0]
                replies = [await scene.database.command(command, session=session) for _ in range(2)]
                said[name] = ["writeConcernError" in reply for reply in replies]
            assert said == {COLLECTION: [True, False], "plain_logs": [True, True]}


async def test_what_an_unknown_result_had_stored_is_counted_once_and_as_written(stalling: ReplicaSet) -> None:
    with fail_after(60):
        async with scenery(stalling) as scene:
            sink = TimeSeriesSink("stalled", scene.store, scene.fenced.tenure, Horizon(0), lambda _: None)
            scene.fenced.tenure.raised(1_000_000_000)
            writings: list[Any] = [scene.plain.begin(entries(3)), sink.begin(entries(3))]
            await stalling.stall()
            for writing in writings:
                for _ in range(2):
                    with pytest.raises(SinkUnavailable):
                        await writing.attempt()
            await stalling.go_on()
            for writing in writings:
                while await _outcome(writing.attempt) == "unavailable":
                    assert writing.written.stored == 0
                assert (writing.written.stored, writing.written.duplicates) == (3, 0)


# what `collector check` says


async def majority(stalling: ReplicaSet) -> list[tuple[Level, str]]:
    names = Names("stalled")
    facts = await to_thread.run_sync(read_mongodb, stalling.url, names, [])
    assert not facts.error or facts.members is not None, facts.error
    return [(one.level, one.got) for one in judge_mongodb(facts, [], names) if one.about == "MongoDB majority"]


async def test_check_finds_a_majority_that_is_behind_or_away(stalling: ReplicaSet) -> None:
    data = stalling.data_bearing
    with fail_after(120):
        assert await majority(stalling) == []
        old = await stalling.stall()
        with direct(old) as client:
            client.get_database("noise", write_concern=WriteConcern(1)).noise.insert_one({})
        count = f"{len(data)} of {len(data)} data-bearing members reachable"
        assert await majority(stalling) == [(Level.WRONG, f"no majority: {count}, but they do not follow the primary")]
        await stalling.go_on()
        while await majority(stalling):  # noqa: ASYNC110 - as below
            await anyio.sleep(0.01)
        others = [mongod for mongod in data if mongod is not old]
        for mongod in others:
            await to_thread.run_sync(mongod.kill)
        try:
            ((level, got),) = await majority(stalling)
        finally:
            await to_thread.run_sync(start_all, others)
        what = "majority" if len(data) == 2 else "(majority|primary)"  # two of three votes still elect
        assert level is Level.WRONG
        assert re.fullmatch(f"no {what}: 1 of {len(data)} data-bearing members reachable", got)
        while await majority(stalling):  # noqa: ASYNC110 - as below
            await anyio.sleep(0.01)


# the whole service


class Stand:
    """A replica with a time-series logger on a replica set of its own, and a publisher."""

    def __init__(self, mongods: ReplicaSet, nats: NatsServer, stack: ExitStack) -> None:
        self.mongods = mongods
        self.namespace = f"stalled_{secrets.token_hex(4)}"
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="replica-")))
        settings = {"DATABASE": mongods.url, "COLLECTOR_WRITE_TIMEOUT": "500ms", "COLLECTOR_ACK_WAIT": "10s"}
        self.replica = Replica(folder, self.namespace, nats, mongods.mongods[0], settings)
        stack.callback(self.replica.kill)

    def retries(self) -> float:
        return self.replica.metric("collector_retries_total")

    def stored(self) -> Counter[int]:
        with MongoClient[dict[str, Any]](self.mongods.url, readConcernLevel="majority") as client:
            found = client[self.namespace]["ts_logs"].find({}, {"number": 1})
            return Counter(one["number"] for one in found)


@pytest.mark.parametrize("arbiter", SETS.values(), ids=SETS.keys())
async def test_stalled_majority_and_failover_again_and_again_lose_nothing_and_store_nothing_twice(
    nats_server: NatsServer, arbiter: bool
) -> None:
    each = ENTRIES // (len(SETS) * FAILOVERS)
    with fail_after(540), ExitStack() as stack:
        stand = Stand(stack.enter_context(replica_set(arbiter=arbiter)), nats_server, stack)
        await stand.mongods.primary()
        await to_thread.run_sync(stand.replica.start)
        async with ancestor(nats_server.url, stand.namespace) as go:
            await go.make_stream("ts")
            spec = b"\x83" + text("key") + text("ts") + text("description") + text("") + TIMESERIES
            await go.put("ts", spec)
            for failover in range(FAILOVERS):
                first = failover * each
                await go.publish("ts", (entry(first + number) for number in range(each // 2)))
                await _empty(go, stand)
                old, before = await stand.mongods.stall(), stand.retries()
                await go.publish("ts", (entry(first + number) for number in range(each // 2, each)))
                while stand.retries() < before + 2 and await _waiting(go, stand):  # noqa: ASYNC110 - as below
                    await anyio.sleep(0.01)  # until it has tried again, or has answered too early
                await stand.mongods.fail_over(old)
            await _empty(go, stand)
            expected = Counter(range(FAILOVERS * each))
            stored = await to_thread.run_sync(stand.stored)
            assert (expected - stored, stored - expected) == (Counter(), Counter()), "lost, and twice"


async def _waiting(go: Ancestor, stand: Stand) -> int:
    return (await go.jetstream.stream_info(f"{stand.namespace}:logs:ts")).state.messages


async def _empty(go: Ancestor, stand: Stand) -> None:
    while await _waiting(go, stand):  # noqa: ASYNC110 - nobody in this process could set an event
        await anyio.sleep(0.02)
