"""The sink of plain collections on a real mongod: batches are stored, whatever is in them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bson import Decimal128

from collector.mongodb.calls import make_collection
from tests.support.sinking import COLLECTION, TIMEOUT, entry, good, sinking, total
from transfer.wire import CollectionSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.local import Mongod
    from collector.model import Entry


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
