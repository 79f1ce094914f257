"""No option of the URI changes a guarantee: what the service sends is the same with each of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bson
import pytest
from anyio import fail_after
from bson import ObjectId
from pymongo import monitoring

import collector
from collector.dead_letters.letters import DeadLetterReader
from collector.dead_letters.store import DeadLetterStore
from collector.dead_letters.summary import Filter
from collector.errors import SinkUnavailable
from collector.mongodb.calls import database_of, make_collection, open_mongo
from collector.mongodb.collections import CollectionCatalog
from collector.mongodb.lanes import Lane
from collector.sinks.mongodb import MongoSink
from collector.sinks.timeseries.claims import CLAIMS, REPLICAS, Claims
from collector.sinks.timeseries.horizon import Horizon
from collector.sinks.timeseries.sink import TimeSeriesSink
from collector.sinks.timeseries.store import TimeSeriesStore
from tests.support.answered_writes import reject
from tests.support.owning import COLLECTION, TIMEOUT, entries, entry
from transfer.wire import CollectionSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.local import Mongod

OPTIONS = [
    "",
    "readPreference=secondaryPreferred",
    "readPreference=secondary&readPreferenceTags=dc:east&readPreferenceTags=",
    "readPreference=nearest&maxStalenessSeconds=120&localThresholdMS=1000",
    *(f"readConcernLevel={level}" for level in ("local", "available", "linearizable", "snapshot")),
    *("w=1", "w=0", "w=5", "w=dc", "journal=false", "journal=true", "wtimeoutMS=1", "w=1&journal=false&wtimeoutMS=1"),
    *("retryWrites=true", "retryWrites=false", "retryReads=false", "directConnection=true"),
    *("timeoutMS=1", "socketTimeoutMS=1", "connectTimeoutMS=5000", "serverSelectionTimeoutMS=1"),
    *("maxPoolSize=1", "minPoolSize=3", "maxConnecting=1", "maxIdleTimeMS=1", "waitQueueTimeoutMS=1"),
    *("heartbeatFrequencyMS=60000", "serverMonitoringMode=poll", "appname=mine", "compressors=zlib"),
    *("tz_aware=false", "uuidRepresentation=standard", "uuidRepresentation=javaLegacy"),
    *("datetime_conversion=DATETIME_MS", "unicode_decode_error_handler=ignore", "srvMaxHosts=0"),
]
_WRITES = {"insert", "update", "delete", "findAndModify", "create", "createIndexes", "commitTransaction"}
_READS = {"find", "aggregate"}
_MIB = 1024 * 1024


class Sent(monitoring.CommandListener):
    """Every command that clients send while it is listening."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []
        self.listens = False

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if self.listens:
            self.commands.append({"": event.command_name, **event.command})

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sent]:
    """Listen to all clients that are made in the test; lanes tell no listener of pymongo."""
    listener, listeners, ask = Sent(), monitoring._LISTENERS.command_listeners, Lane.ask

    async def heard(lane: Lane, message: bytes, timeout: float) -> bytes:
        if listener.listens:
            command = bson.decode(message[21 : 21 + int.from_bytes(message[21:25], "little")])
            listener.commands.append({"": next(iter(command)), **command})
        return await ask(lane, message, timeout)

    monkeypatch.setattr(Lane, "ask", heard)
    monitoring.register(listener)
    try:
        yield listener
    finally:
        listeners.remove(listener)


async def do_everything(database: AsyncDatabase[dict[str, Any]]) -> list[Any]:
    """Write and read all that the service answers for; return what the reads said."""
    claim = f"{database.name} {ObjectId()}"
    await make_collection(database, COLLECTION, CollectionSpec(kind="timeseries"), TIMEOUT)
    claims = Claims(database, "me", 2, TIMEOUT)
    await claims.register({claim: "system"})
    await claims.announce(1)
    fenced = await claims.take(claim, (await claims.board([claim])).claims[claim])
    assert fenced is not None
    sink = TimeSeriesSink(
        "system",
        TimeSeriesStore(database, COLLECTION, claims, fenced, TIMEOUT),
        fenced.tenure,
        Horizon(0),
        lambda _: None,
    )
    found = await _write_and_read_entries(database, sink)
    await claims.barrier(claim)
    found += await _keep_and_remove_letters(database)
    await claims.give_back(fenced.tenure)
    await fenced.close()
    await claims.leave()
    return found


async def _write_and_read_entries(database: AsyncDatabase[dict[str, Any]], sink: TimeSeriesSink) -> list[Any]:
    series, own = entries(3), entry({"own": 1})
    writing = sink.begin(series)
    await writing.attempt()
    found: list[Any] = [len(await CollectionCatalog(database, TIMEOUT).read(COLLECTION)), writing.written.stored]
    found.append(len(await sink.store.stored([*series, entry()])))
    plain = MongoSink(database, "plain_logs", TIMEOUT)
    for _ in range(2):
        writing_plainly = plain.begin([*series, own])
        await writing_plainly.attempt()
        found.append((writing_plainly.written.stored, writing_plainly.written.duplicates))
    return found


async def _keep_and_remove_letters(database: AsyncDatabase[dict[str, Any]]) -> list[Any]:
    letters, reading = (
        DeadLetterStore(database, "plain_fail", TIMEOUT, lambda: 1.5),
        DeadLetterReader(database, "plain_fail"),
    )
    several = [reject(ObjectId()), reject(ObjectId(), b"x" * 9 * _MIB)]
    for attempt in (1, 1, 2):
        again = [reject(one.identity, one.body, attempt) for one in several]
        await letters.store(again)
    summaries = [summary async for group in reading.find(Filter()) for summary in group]
    found: list[Any] = []
    found.append([(one.summary.attempt, len(one.body or b"")) for one in await reading.read([s.id for s in summaries])])
    found += [await reading.count(Filter()), await reading.remove(summaries), await reading.count(Filter())]
    return found


EXPECTED = [1, 3, 3, (4, 0), (0, 4), [(2, 3), (2, 9 * _MIB)], 2, 2, 0]


@pytest.mark.parametrize("options", OPTIONS)
async def test_every_write_is_the_majoritys_and_every_read_that_decides_the_primarys_and_the_majoritys(
    mongod: Mongod, namespace: str, options: str, sent: Sent
) -> None:
    with fail_after(60):
        async with open_mongo(f"{mongod.url}&{options}" if options else mongod.url) as client:
            sent.listens = True
            assert await do_everything(database_of(client, namespace)) == EXPECTED
            sent.listens = False
    names = {command[""] for command in sent.commands}
    assert names >= (_WRITES | _READS)
    direct = "primaryPreferred" if "directConnection" in options else "primary"  # the one server that may be asked
    for command in sent.commands:
        assert command.get("$readPreference", {"mode": "primary"})["mode"] in {"primary", direct}, command[""]
        if (command[""] in _WRITES and command.get("autocommit") is not False) or command[""] == "commitTransaction":
            concern = command["writeConcern"]
            assert concern.get("w") == "majority", command[""]
            assert concern.get("j") is None
            assert concern.get("wtimeout", 1000) >= 1000
        if command[""] in _READS:
            of_board = command[command[""]] in {CLAIMS, REPLICAS} and "singleBatch" not in command
            assert command["readConcern"]["level"] == ("local" if of_board else "majority"), command
        numbered = "txnNumber" in command and "autocommit" not in command
        assert not numbered or command[command[""]] in {COLLECTION, CLAIMS}, "only we number writes"


async def test_an_undisturbed_drain_passes_no_barrier_and_a_repeated_write_costs_one(
    mongod: Mongod, namespace: str, sent: Sent
) -> None:
    async with open_mongo(mongod.url) as client:
        database = database_of(client, namespace)
        claims, claim = Claims(database, "me", 2, TIMEOUT), f"{namespace} {ObjectId()}"
        await make_collection(database, COLLECTION, CollectionSpec(kind="timeseries"), TIMEOUT)
        await claims.register({claim: "system"})
        fenced = await claims.take(claim, (await claims.board([claim])).claims[claim])
        assert fenced is not None
        fenced.tenure.raised(1_000_000_000)
        store = TimeSeriesStore(database, COLLECTION, claims, fenced, TIMEOUT)
        sink = TimeSeriesSink("system", store, fenced.tenure, Horizon(0), lambda _: None)
        sent.listens = True
        for _ in range(20):
            await sink.begin(entries(3)).attempt()
        assert [command[""] for command in sent.commands] == ["insert"] * 20
        sent.commands.clear()
        error = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "no"}
        data = {"failCommands": ["insert"], "namespace": f"{namespace}.{COLLECTION}", "writeConcernError": error}
        point = {"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data}
        await client.admin.command(point)
        sent.commands.clear()
        writing = sink.begin(entries(3))
        with pytest.raises(SinkUnavailable):
            await writing.attempt()
        await writing.attempt()
        assert [command[""] for command in sent.commands] == ["insert", "insert", "update"]
        assert (writing.written.stored, writing.written.duplicates) == (3, 0)
        sent.listens = False
        await fenced.close()


def test_the_service_takes_no_database_but_one_that_is_guaranteed() -> None:
    """`client[name]` would have what the URI says."""
    folder = Path(collector.__file__).parent
    taken = re.compile(r"\b(?:client|mongo)\[(?!\w+, )|get_database\(|get_default_database\(")
    found = {
        str(path.relative_to(folder))
        for path in folder.rglob("*.py")
        if taken.search(path.read_text().replace("AsyncMongoClient[", "").replace("MongoClient[", ""))
    }
    assert found == {"mongodb/calls.py", "check/mongodb_facts.py", "check/mongodb_members.py"}
