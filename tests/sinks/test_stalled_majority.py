"""Secondaries that stop replicating: nothing is answered before the majority has it, and a failover loses nothing.

`COLLECTOR_TEST_STALLED_ENTRIES=50000` is the long form.
"""

from __future__ import annotations

import os
import re
import secrets
from collections import Counter
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import anyio
import msgspec
import pytest
from anyio import create_task_group, fail_after, to_thread
from bson import Int64, ObjectId
from pymongo import MongoClient, WriteConcern

from collector.check.findings import Level
from collector.check.mongodb_facts import read_mongodb
from collector.check.mongodb_findings import judge_mongodb
from collector.dead_letters.letters import DeadLetterReader, Filter, Summary
from collector.dead_letters.store import DeadLetterStore
from collector.errors import SinkUnavailable
from collector.local import NatsServer, Replica
from collector.model import Reason, Rejected
from collector.mongodb.calls import database_of, make_collection, make_expiring, open_mongo
from collector.sinks.mongodb import MongoSink
from collector.sinks.timeseries.claims import Claims
from collector.sinks.timeseries.horizon import Horizon
from collector.sinks.timeseries.ownership import write_number
from collector.sinks.timeseries.sink import TimeSeriesSink
from collector.sinks.timeseries.store import TimeSeriesStore
from tests.chaos.servers import direct, start_all
from tests.service.test_timeseries import TIMESERIES
from tests.support.ancestor import Ancestor, ancestor, entry, text
from tests.support.fakes import delivery
from tests.support.owning import COLLECTION, entries
from tests.support.owning import entry as document
from tests.support.stalled import ReplicaSet, replica_set
from transfer.names import Names
from transfer.wire import CollectionSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.sinks.timeseries.claims import Fenced

SETS = {"primary, two secondaries": False, "primary, secondary, arbiter": True}
FAILOVERS = 10
"""In each of the two sets."""
ENTRIES = int(os.environ.get("COLLECTOR_TEST_STALLED_ENTRIES", "2000"))
"""In all failovers of both sets."""
SHORT = 0.7
"""Seconds for a write: what waits for the majority fails after them."""
_MIB = 1024 * 1024

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=[*SETS.values()], ids=[*SETS])
def stalling(request: pytest.FixtureRequest) -> Iterator[ReplicaSet]:
    """Give a replica set for the tests of this file."""
    with replica_set(arbiter=request.param) as found:
        yield found


# every write that the service answers for


class Scene:
    """What the service writes with, in a database of the test."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self.database = database
        self.claim, self.free = f"{database.name} 1", f"{database.name} 2"
        self.claims = Claims(database, "me", 2, SHORT)
        self.plain = MongoSink(database, "plain_logs", SHORT)
        self.letters = DeadLetterStore(database, "plain_fail", SHORT, lambda: 1_800_000_000.25)
        self.reading = DeadLetterReader(database, "plain_fail")
        self.fenced: Fenced
        self.store: TimeSeriesStore
        self.summary: Summary

    async def prepare(self) -> None:
        await make_collection(self.database, COLLECTION, CollectionSpec(kind="timeseries"), 30)
        patient = Claims(self.database, "me", 2, 30)
        await patient.register(dict.fromkeys((self.claim, self.free), "stalled"))
        fenced = await patient.take(self.claim, (await patient.board([self.claim])).claims[self.claim])
        assert fenced is not None
        self.fenced = fenced
        self.store = TimeSeriesStore(self.database, COLLECTION, self.claims, fenced, SHORT)
        await DeadLetterStore(self.database, "plain_fail", 30, lambda: 1.5).store([reject(STORED)])
        ((self.summary,),) = [group async for group in self.reading.find(Filter())]


STORED = ObjectId()


def reject(identity: ObjectId, body: bytes = b"bad", attempt: int = 1) -> Rejected:
    headers = f"NATS/1.0\r\nTransfer-Attempt: {attempt}\r\n\r\n".encode()
    of = msgspec.structs.replace(delivery(42, body), raw_headers=headers)
    return Rejected(of, None, identity, Reason.MALFORMED, "expected another one", body)


def _anew(make: Callable[[], Any]) -> Any:
    """Write the same entries again and again, each time as if they had just been delivered."""

    async def attempt() -> None:
        await make().attempt()

    return attempt


def _numbered(scene: Scene) -> Any:
    sink = TimeSeriesSink("stalled", scene.store, scene.fenced.tenure, Horizon(0), lambda _: None)
    scene.fenced.tenure.raised(1_000_000_000)
    return sink.begin(entries(3)).attempt


def _redelivered(scene: Scene) -> Any:
    several = [document(), document()]
    return _anew(lambda: scene.plain.begin(several))


def _own_id(scene: Scene) -> Any:
    several = [document({"own": str(ObjectId())})]
    return _anew(lambda: scene.plain.begin(several))


def _large(scene: Scene) -> Any:
    identity, body = ObjectId(), b"x" * (9 * _MIB)
    return lambda: scene.letters.store([reject(identity, body)])


def _made(kind: Any) -> Any:
    def trying(scene: Scene) -> Any:
        name = f"new_{secrets.token_hex(4)}"
        return lambda: make_collection(scene.database, name, CollectionSpec(kind=kind), SHORT)

    return trying


MEMBERS: dict[str, Callable[[Scene], Any]] = {
    "a batch into a plain collection": lambda scene: scene.plain.begin([document(), document()]).attempt,
    "the same entries, delivered again": _redelivered,
    "an own identity, delivered again": _own_id,
    "a batch into a time-series collection": _numbered,
    "a dead letter": lambda scene: partial(scene.letters.store, [reject(ObjectId())]),
    "a dead letter with a file": _large,
    "a letter of a later attempt": lambda scene: lambda: scene.letters.store([reject(STORED, attempt=2)]),
    "a letter that is removed": lambda scene: lambda: _removed(scene),
    "a plain collection that is made": _made("plain"),
    "a time-series collection that is made": _made("timeseries"),
    "an index that has entries deleted": lambda scene: lambda: make_expiring(scene.database, "plain_logs", 3600, SHORT),
    "a claim that is registered": lambda scene: lambda: scene.claims.register({"another": "stalled"}),
    "a claim that is restored": lambda scene: lambda: scene.claims.restore("stalled", scene.fenced),
    "a claim that is taken": lambda scene: lambda: _taken(scene),
    "a claim that is given back": lambda scene: lambda: scene.claims.give_back(scene.fenced.tenure),
    "the mark": lambda scene: lambda: scene.claims.raise_mark(scene.claim, 7),
    "the mark where it is": lambda scene: lambda: scene.claims.raise_mark(scene.claim, 0),
    "a barrier": lambda scene: lambda: scene.claims.barrier(scene.claim),
    "a sign of life": lambda scene: lambda: scene.claims.announce(1),
}


async def _removed(scene: Scene) -> None:
    """Remove it as an operator's command does, which would wait for a minute."""
    command = scene.database.command

    async def hurried(command_of: dict[str, Any], **more: Any) -> dict[str, Any]:
        command_of["writeConcern"] = {"w": "majority", "wtimeout": int(SHORT * 1000)}
        return await command(command_of, **more)

    with patch.object(scene.reading, "_database", SimpleNamespace(command=hurried)):
        await scene.reading.remove([scene.summary])


async def _taken(scene: Scene) -> None:
    seen = (await scene.claims.board([scene.free])).claims[scene.free]
    fenced = await scene.claims.take(scene.free, seen)
    assert fenced is not None
    await fenced.close()


@asynccontextmanager
async def scenery(stalling: ReplicaSet) -> AsyncIterator[Scene]:
    async with open_mongo(stalling.url) as client:
        scene = Scene(database_of(client, f"stalled_{secrets.token_hex(4)}"))
        await scene.prepare()
        try:
            yield scene
        finally:
            with anyio.CancelScope(shield=True):
                await scene.fenced.close()
                await stalling.go_on()
                await client.drop_database(scene.database.name)


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
