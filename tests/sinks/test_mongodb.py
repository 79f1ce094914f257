"""The MongoDB sink on a real mongod: one outcome for each entry, whatever it is and whatever MongoDB does."""

from __future__ import annotations

import math
import time
import timeit
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio
import bson
import pytest
from anyio import fail_after
from bson import Decimal128, ObjectId

from collector.errors import SinkUnavailable
from collector.model import Entry, Reason
from collector.mongodb.calls import make_collection, open_mongo
from collector.sinks.mongodb import MongoSink
from tests.support.fakes import delivery
from transfer.wire import CollectionSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from pymongo import AsyncMongoClient
    from pymongo.asynchronous.database import AsyncDatabase

    from collector.local import Mongod
    from collector.sinks import Written

COLLECTION = "system_logs"
TIMEOUT = 5.0
_sequences = count(1)


class Scene:
    """A sink and the database that it writes to."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], namespace: str) -> None:
        self.client, self.database = client, client[namespace]
        self.collection = self.database[COLLECTION]
        self.sink = MongoSink(self.database, COLLECTION, TIMEOUT)

    async def write(self, entries: Sequence[Entry]) -> Written:
        """Begin, and attempt once."""
        writing = self.sink.begin(entries)
        await writing.attempt()
        return writing.written

    async def stored(self) -> list[Any]:
        return [found["_id"] async for found in self.collection.find({}, {"_id": 1})]


@asynccontextmanager
async def sinking(mongod: Mongod, namespace: str, seconds: float = 30) -> AsyncIterator[Scene]:
    with fail_after(seconds):
        async with open_mongo(mongod.url) as client:
            yield Scene(client, namespace)


def entry(own_id: Any = None, **fields: Any) -> Entry:
    """Make an entry as the codec does: `_id` last but for the envelope."""
    document = {**fields, "_id": ObjectId() if own_id is None else own_id}
    document |= {"timestamp": datetime(2024, 5, 6, tzinfo=UTC), "metadata": None}
    return Entry(delivery(next(_sequences)), None, document, own_id is not None)


def good(number: int) -> list[Entry]:
    return [entry(n=position) for position in range(number)]


def total(written: Written) -> int:
    return written.stored + written.duplicates + len(written.refused)


def nested(depth: int, leaf: Any = None) -> Any:
    value: Any = leaf
    for _ in range(depth):
        value = {"a": value}
    return value


@asynccontextmanager
async def failing(database: AsyncDatabase[dict[str, Any]], **data: Any) -> AsyncIterator[None]:
    """Let the server's next inserts into this database fail (failCommand, enableTestCommands=1)."""
    admin = database.client.admin
    mode = data.pop("mode", {"times": 1})
    namespace = f"{database.name}.{COLLECTION}"
    wanted = {"failCommands": ["insert"], "namespace": namespace, **data}
    await admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": wanted})
    try:
        yield
    finally:
        await admin.command({"configureFailPoint": "failCommand", "mode": "off"})


# what is stored


async def test_a_batch_is_stored_as_it_is(mongod: Mongod, namespace: str) -> None:
    entries = [entry(text="ü", nested={"list": [1, 2.5, None, True, b"raw"]}), entry(big=2**63 - 1, nan=math.nan)]
    async with sinking(mongod, namespace) as scene:
        written = await scene.write(entries)
        assert (written.stored, total(written)) == (2, 2)
        found = await scene.collection.find_one({"text": "ü"})
        assert found == {**entries[0].document}


async def test_nothing_to_write_is_nothing_to_do(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        assert total(await scene.write([])) == 0


async def test_more_entries_than_one_command_takes_are_all_stored(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        written = await scene.write(good(25_000))
        assert written.stored == 25_000
        assert await scene.collection.count_documents({}) == 25_000


async def test_strange_keys_that_mongodb_takes_are_stored(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        fields: dict[str, Any] = {"a.b": 1, "$x": 2, "": 3, "in": {"$y": 4, "c.d": 5}}
        written = await scene.write([entry(**fields)])
        assert written.stored == 1


# duplicates


async def test_a_duplicate_of_a_derived_identity_is_a_duplicate(mongod: Mongod, namespace: str) -> None:
    entries = good(10)
    async with sinking(mongod, namespace) as scene:
        assert (await scene.write(entries[:6])).stored == 6
        written = await scene.write(entries)
        assert (written.stored, written.duplicates, total(written)) == (4, 6, 10)
        assert await scene.collection.count_documents({}) == 10


async def test_the_same_entry_twice_in_a_batch_is_stored_once(mongod: Mongod, namespace: str) -> None:
    one = entry()
    async with sinking(mongod, namespace) as scene:
        written = await scene.write([one, one])
        assert (written.stored, written.duplicates) == (1, 1)


IDENTITIES = [7, "text", 2.5, b"raw", {"a": 1, "b": [1, 2]}, datetime(2024, 1, 1, tzinfo=UTC), True, math.nan]


@pytest.mark.parametrize("own_id", IDENTITIES, ids=repr)
async def test_an_own_identity_with_the_same_document_is_a_duplicate_and_with_another_is_refused(
    mongod: Mongod, namespace: str, own_id: Any
) -> None:
    same, other = entry(own_id, n=1, at=datetime(2024, 1, 1, microsecond=123456, tzinfo=UTC)), entry(own_id, n=2)
    async with sinking(mongod, namespace) as scene:
        assert (await scene.write([same])).stored == 1
        written = await scene.write([same, other])
        assert (written.stored, written.duplicates, total(written)) == (0, 1, 2)
        (refusal,) = written.refused
        assert (refusal.entry, refusal.reason) == (other, Reason.DUPLICATE_KEY)
        assert await scene.collection.count_documents({}) == 1


@pytest.mark.parametrize("own_id", [[1, 2], {"$set": 1}], ids=repr)
async def test_an_own_identity_that_mongodb_does_not_take_is_refused(
    mongod: Mongod, namespace: str, own_id: Any
) -> None:
    bad, neighbours = entry(own_id), good(5)
    async with sinking(mongod, namespace) as scene:
        written = await scene.write([*neighbours, bad])
        assert written.stored == 5
        assert [(refusal.entry, refusal.reason) for refusal in written.refused] == [(bad, Reason.DOCUMENT_INVALID)]


async def test_another_unique_index_makes_a_second_entry_a_refusal(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        await scene.collection.create_index("order", unique=True)
        first, second = entry(order=1), entry(order=1)
        written = await scene.write([first, second])
        assert written.stored == 1
        assert [(refusal.entry, refusal.reason) for refusal in written.refused] == [(second, Reason.DUPLICATE_KEY)]
        assert "order" in written.refused[0].error
        again = await scene.write([first])
        assert again.duplicates == 1, "the first again breaks both indexes and is there"


# refusals


async def test_a_validator_refuses_what_does_not_pass_it(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        await scene.database.create_collection(COLLECTION, validator={"level": {"$exists": True}})
        fine, bad = entry(level="info"), entry(secret="hunter2")
        written = await scene.write([bad, fine])
        assert written.stored == 1
        (refusal,) = written.refused
        assert (refusal.entry, refusal.reason) == (bad, Reason.DOCUMENT_INVALID)
        assert "validator" in refusal.error
        assert "hunter2" not in refusal.error


class Unknown:
    """Nothing that BSON has."""


UNENCODABLE = {
    "uint64": 2**63,
    "deep uint64": {"a": [1, {"b": 2**64 - 1}]},
    "lone surrogate": "a\ud800b",
    "lone surrogate as a key": {"\ud800": 1},
    "NUL in a key": {"a\0b": 1},
    "number as a key": {1: 1},
    "nothing of BSON": Unknown(),
    "2,000 nested": nested(2000),
    "200 nested": nested(200),
    "180 nested": nested(180, leaf=2**63),
}


@pytest.mark.parametrize("value", UNENCODABLE.values(), ids=UNENCODABLE.keys())
async def test_of_a_batch_only_what_cannot_be_stored_is_refused(mongod: Mongod, namespace: str, value: Any) -> None:
    bad, neighbours = [entry(v=value), entry(v=value)], good(30)
    batch = [*neighbours[:10], bad[0], *neighbours[10:20], bad[1], *neighbours[20:]]
    async with sinking(mongod, namespace) as scene:
        written = await scene.write(batch)
        assert sorted(await scene.stored()) == sorted(one.document["_id"] for one in neighbours)
        assert {id(refusal.entry) for refusal in written.refused} == {id(one) for one in bad}
        assert {refusal.reason for refusal in written.refused} == {Reason.DOCUMENT_INVALID}
        assert total(written) == len(batch)
        for refusal in written.refused:
            refusal.error.encode()
            assert len(refusal.error) < 2000


async def test_no_depth_of_nesting_is_ever_raised(mongod: Mongod, namespace: str) -> None:
    """Encoding alone and encoding within a command meet Python's limits at different depths."""
    neighbour = entry()
    deep = [entry(v=nested(depth)) for depth in range(900, 1000)]
    async with sinking(mongod, namespace) as scene:
        for one in deep:
            written = await scene.write([neighbour, one])
            assert written.refused[0].entry is one
        assert await scene.collection.count_documents({}) == 1


async def test_the_guilty_field_is_named(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        written = await scene.write([entry(ok=1, request={"headers": [0, {"size": 2**63}]})])
        assert written.refused[0].error == (
            "expected integers of at most 64 bits with a sign, at request.headers.1.size"
        )


async def test_a_large_document_with_a_guilty_field_far_down_is_judged_quickly(mongod: Mongod, namespace: str) -> None:
    value = {"a": "x" * 8_000_000, "b": nested(150, leaf=2**63)}
    for _ in range(150):
        value = {"a": value}
    alone = min(timeit.repeat(lambda: bson.encode({"x": "x" * 8_000_000}), timer=time.process_time, number=1))
    async with sinking(mongod, namespace) as scene:
        started = time.process_time()
        assert len((await scene.write([entry(v=value)])).refused) == 1
        took = time.process_time() - started
    assert took < 60 * (alone + 0.01), "each of 300 levels is not encoded with all below it"


# sizes


async def test_an_entry_of_5_mebibytes_is_stored(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        assert (await scene.write([entry(text="x" * 5 * 1024 * 1024)])).stored == 1


async def test_a_batch_larger_than_a_command_may_be_is_stored_in_parts(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        written = await scene.write([entry(text="x" * 6 * 1024 * 1024) for _ in range(10)])
        assert (written.stored, total(written)) == (10, 10)


async def test_only_the_entry_that_is_larger_than_a_document_may_be_is_refused(mongod: Mongod, namespace: str) -> None:
    too_large, neighbours = entry(text="x" * 16 * 1024 * 1024), good(20)
    async with sinking(mongod, namespace) as scene:
        written = await scene.write([*neighbours[:7], too_large, *neighbours[7:]])
        assert written.stored == 20
        (refusal,) = written.refused
        assert (refusal.entry, refusal.reason) == (too_large, Reason.DOCUMENT_TOO_LARGE)


@pytest.mark.parametrize("below", range(0, 200, 40))
async def test_an_entry_at_the_very_limit_is_stored_or_refused_and_never_tried_for_ever(
    mongod: Mongod, namespace: str, below: int
) -> None:
    async with sinking(mongod, namespace) as scene:
        written = await scene.write([entry(text="x" * (16 * 1024 * 1024 - below)), entry()])
        assert total(written) == 2


# what passes


async def test_without_a_majority_everything_but_the_refused_is_written_again(mongod: Mongod, namespace: str) -> None:
    known, new, bad = entry(), entry(), entry([1])
    error = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}
    async with sinking(mongod, namespace) as scene:
        assert (await scene.write([known])).stored == 1
        writing = scene.sink.begin([known, new, bad])
        async with failing(scene.database, writeConcernError=error):
            with pytest.raises(SinkUnavailable, match="WriteConcernFailed"):
                await writing.attempt()
        assert (writing.written.stored, writing.written.duplicates) == (0, 0)
        assert [refusal.entry for refusal in writing.written.refused] == [bad]
        await writing.attempt()
        assert (writing.written.stored, writing.written.duplicates, len(writing.written.refused)) == (1, 1, 1)


async def test_what_an_attempt_has_written_is_left_out_of_the_next_and_is_no_duplicate(
    mongod: Mongod, namespace: str
) -> None:
    """Of a batch that is too large for one command the halves are written on their own."""
    entries = [entry(text="x" * 6 * 1024 * 1024) for _ in range(4)]
    async with sinking(mongod, namespace) as scene:
        writing = scene.sink.begin(entries)
        async with failing(scene.database, mode={"skip": 1}, errorCode=10107):
            with pytest.raises(SinkUnavailable):
                await writing.attempt()
        assert (writing.written.stored, total(writing.written)) == (2, 2)
        assert await scene.stored() == [one.document["_id"] for one in entries[:2]]
        await writing.attempt()
        assert (writing.written.stored, total(writing.written)) == (4, 4)


async def test_trying_again_after_an_unknown_result_stores_nothing_twice(mongod: Mongod, namespace: str) -> None:
    entries = good(3)
    async with sinking(mongod, namespace) as scene:
        writing = scene.sink.begin(entries)
        await scene.write(entries[:1])  # as a first attempt whose answer was lost
        await writing.attempt()
        assert (writing.written.stored, writing.written.duplicates) == (2, 1)
        await writing.attempt()
        assert total(writing.written) == 3, "nothing is left"
        assert await scene.collection.count_documents({}) == 3


# NotWritablePrimary, PrimarySteppedDown, InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk, HostUnreachable,
# MaxTimeMSExpired, ExceededTimeLimit
PASSING = [10107, 189, 11602, 13435, 6, 50, 262]


@pytest.mark.parametrize("code", PASSING)
async def test_a_primary_that_steps_down_is_unavailable(mongod: Mongod, namespace: str, code: int) -> None:
    async with sinking(mongod, namespace) as scene:
        async with failing(scene.database, errorCode=code):
            with pytest.raises(SinkUnavailable):
                await scene.write(good(3))
        assert (await scene.write(good(3))).stored == 3


@pytest.mark.parametrize("code", [13, 8000, 59])
async def test_what_is_not_the_documents_fault_is_never_held_against_them(
    mongod: Mongod, namespace: str, code: int
) -> None:
    """Not authorized, above the space quota, a command that this server does not know."""
    async with sinking(mongod, namespace) as scene, failing(scene.database, errorCode=code):
        with pytest.raises(SinkUnavailable, match=str(code)):
            await scene.write(good(3))


async def test_a_connection_lost_in_a_write_leaves_its_outcome_unknown(mongod: Mongod, namespace: str) -> None:
    async with sinking(mongod, namespace) as scene:
        async with failing(scene.database, closeConnection=True):
            with pytest.raises(SinkUnavailable) as raised:
                await scene.write(good(3))
        assert raised.value.ambiguous
        assert (await scene.write(good(3))).stored == 3


async def test_a_comparison_that_mongodb_does_not_answer_is_unavailable(mongod: Mongod, namespace: str) -> None:
    one = entry(7)
    async with sinking(mongod, namespace) as scene:
        assert (await scene.write([one])).stored == 1
        async with failing(scene.database, failCommands=["find"], errorCode=13):
            with pytest.raises(SinkUnavailable):
                await scene.write([one])
        assert (await scene.write([one])).duplicates == 1


async def test_a_mongod_that_hangs_is_unavailable_in_time(own_mongod: Callable[[], Mongod], namespace: str) -> None:
    server = own_mongod()
    async with sinking(server, namespace) as scene:
        scene.sink = MongoSink(scene.database, COLLECTION, 1.0)
        assert (await scene.write(good(1))).stored == 1
        server.pause()
        started = anyio.current_time()
        with pytest.raises(SinkUnavailable) as raised:
            await scene.write(good(1))
        assert anyio.current_time() - started < 3
        assert raised.value.ambiguous
        server.resume()
        while True:
            try:
                assert (await scene.write(good(1))).stored == 1
            except SinkUnavailable:
                continue
            break


async def test_a_mongod_that_is_gone_is_unavailable_quickly_and_works_again_after_its_restart(
    own_mongod: Callable[[], Mongod], namespace: str
) -> None:
    server, entries = own_mongod(), good(3)
    async with sinking(server, namespace, 60) as scene:
        assert (await scene.write(entries[:1])).stored == 1
        await anyio.to_thread.run_sync(server.kill)
        started = anyio.current_time()
        with pytest.raises(SinkUnavailable):
            await scene.write(entries)
        assert anyio.current_time() - started < 7
        await anyio.to_thread.run_sync(server.start)
        written = await scene.write(entries)
        assert (written.stored, written.duplicates) == (2, 1)


# time series


async def test_a_time_series_collection_is_made_as_its_spec_asks_and_written_to(mongod: Mongod, namespace: str) -> None:
    spec = CollectionSpec(kind="timeseries", expire_after_seconds=3600, granularity="minutes")
    async with sinking(mongod, namespace) as scene:
        for _ in range(2):
            await make_collection(scene.database, COLLECTION, spec, TIMEOUT)
        (made,) = [one async for one in await scene.database.list_collections(filter={"name": COLLECTION})]
        assert made["type"] == "timeseries"
        assert made["options"]["expireAfterSeconds"] == 3600
        options = made["options"]["timeseries"]
        assert (options["timeField"], options["metaField"], options["granularity"]) == (
            "timestamp",
            "metadata",
            "minutes",
        )
        now = datetime.now(UTC)
        entries = _at([now + timedelta(seconds=second) for second in range(50)])
        assert (await scene.write(entries)).stored == 50
        assert await scene.collection.count_documents({}) == 50


def _at(moments: Sequence[datetime]) -> list[Entry]:
    entries = [entry(value=Decimal128("1.5")) for _ in moments]
    for one, moment in zip(entries, moments, strict=True):
        one.document["timestamp"] = moment
    return entries


async def test_in_a_time_series_collection_only_the_entry_without_a_timestamp_is_refused(
    mongod: Mongod, namespace: str
) -> None:
    async with sinking(mongod, namespace) as scene:
        await make_collection(scene.database, COLLECTION, CollectionSpec(kind="timeseries"), TIMEOUT)
        entries = good(3)
        entries[1].document["timestamp"] = "yesterday"
        written = await scene.write(entries)
        assert written.stored == 2
        assert [refusal.entry for refusal in written.refused] == [entries[1]]


async def test_a_plain_spec_makes_a_plain_collection_and_an_existing_one_is_left_as_it_is(
    mongod: Mongod, namespace: str
) -> None:
    async with sinking(mongod, namespace) as scene:
        await make_collection(scene.database, COLLECTION, CollectionSpec(), TIMEOUT)
        await make_collection(scene.database, COLLECTION, CollectionSpec(kind="timeseries"), TIMEOUT)
        (made,) = [one async for one in await scene.database.list_collections(filter={"name": COLLECTION})]
        assert made["type"] == "collection"
