"""A time-series collection on a real mongod: what is stored is found, at any time and under any source."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from collector.errors import SinkUnavailable
from tests.support.looking_up import derived, found
from tests.support.owning import COLLECTION, NOON, candidates, entries, entry, utc

if TYPE_CHECKING:
    from collector.local import Mongod
    from collector.model import Entry


@pytest.mark.parametrize(
    "asked",
    [
        [derived(sequence) for sequence in range(1, 101)],
        [derived(sequence * 1000) for sequence in range(1, 101)],
        [derived(1, position) for position in range(100)],
        [derived(2**40 + sequence, position) for sequence in range(-5, 5) for position in range(10)],
        [derived(sequence, at=NOON + timedelta(minutes=11 * sequence)) for sequence in range(1, 101)],
        [derived(sequence, at=NOON + timedelta(days=400 * (sequence % 9))) for sequence in range(1, 101)],
        [entry(n=number) for number in range(100)],
    ],
    ids=["neighbours", "far apart", "a bundle", "over 40 bits", "hours", "years", "ids of the client"],
)
async def test_what_is_stored_is_found_and_nothing_else(mongod: Mongod, namespace: str, asked: list[Entry]) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        owner = await a.own()
        assert await found(owner, asked) == []
        await owner.insert(asked[::3])
        assert await found(owner, asked) == list(range(0, 100, 3))
        assert await found(owner, asked[1:2]) == []
        assert await found(owner, asked[3:4]) == [0]
        assert await found(owner, list(reversed(asked))) == [99 - place for place in reversed(range(0, 100, 3))]


MOMENTS = [
    utc(1, 1, 1),
    utc(1900, 5, 6, 7, 8, 9),
    utc(1969, 12, 31, 23, 59, 59, 999_999),
    utc(1970, 1, 1),
    utc(1970, 1, 1, 0, 59),
    utc(1970, 1, 30),
    utc(1970, 1, 31),
    utc(1971, 1, 31, 23, 59, 59),
    utc(1971, 2, 1),
    utc(2038, 1, 19, 3, 14, 8),
    utc(2106, 2, 7, 6, 28, 16),
    utc(9999, 12, 31, 23, 59, 59, 999_999),
]


@pytest.mark.parametrize("granularity", ["seconds", "minutes", "hours"])
async def test_what_is_stored_at_any_time_is_found(mongod: Mongod, namespace: str, granularity: str) -> None:
    """Clocks that were never set begin in 1970, where a range in time alone finds nothing (mongod 6.0.5)."""
    asked = [derived(number, at=moment) for number, moment in enumerate(MOMENTS, 1)]
    async with candidates(mongod, namespace, 1) as (a,):
        await a.collection.drop()
        options = {"timeField": "timestamp", "metaField": "metadata", "granularity": granularity}
        await a.database.create_collection(COLLECTION, timeseries=options)
        owner = await a.own()
        for used, one in enumerate(asked, 1):
            assert await found(owner, [one]) == []
            await owner.insert([one], used)
            assert await found(owner, [one]) == [0]
            assert await found(owner, asked) == list(range(used))


@pytest.mark.parametrize("moment", MOMENTS[2:6], ids=str)
async def test_in_a_collection_of_early_times_alone_they_are_found_too(
    mongod: Mongod, namespace: str, moment: datetime
) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        owner, asked = await a.own(), [derived(1, at=moment), derived(2, at=moment)]
        await owner.insert(asked[:1])
        assert await found(owner, asked) == [0]


async def test_the_same_identity_at_another_time_is_another_entry(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        owner = await a.own()
        await owner.insert([derived(1)])
        assert await found(owner, [derived(1, at=NOON + timedelta(milliseconds=1))]) == []
        assert await found(owner, [derived(1, at=NOON + timedelta(microseconds=999))]) == [0], "BSON has milliseconds"


async def test_nothing_asked_is_nothing_found_and_copies_are_all_found(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        owner = await a.own()
        await owner.insert([derived(1)])
        assert await found(owner, []) == []
        assert await found(owner, [derived(1), derived(1)]) == [0, 1]


async def test_more_than_fits_into_one_answer_of_the_server_is_found(mongod: Mongod, namespace: str) -> None:
    several = [entry(number, text="x" * 1_000_000) for number in range(40)]
    async with candidates(mongod, namespace, 1) as (a,):
        owner = await a.own()
        for used, one in enumerate(several, 1):
            await owner.insert([one], used)
        assert len(await found(owner, several)) == 40


@pytest.mark.alone
@pytest.mark.parametrize("own", [False, True], ids=["derived", "the publisher's own"])
async def test_looking_up_many_of_very_many_sources_costs_little_more_than_reading_all(
    mongod: Mongod, namespace: str, own: bool
) -> None:
    """Metadata that is never the same makes a bucket of each entry, and `$in` would be asked of each for each."""
    several = [entry(f"id {number}") if own else derived(number) for number in range(8_000)]
    for number, one in enumerate(several):
        one.document["metadata"] = {"request": number}
    async with candidates(mongod, namespace, 1) as (a,):
        owner = await a.own()
        for used, start in enumerate(range(0, len(several), 1000), 1):
            await owner.insert(several[start : start + 1000], used)
        reading_all, looking_up = [], []
        for _ in range(3):
            started = time.perf_counter()
            assert len(await owner.stored()) == len(several)
            reading_all.append(time.perf_counter() - started)
            started = time.perf_counter()
            assert len(await found(owner, several[::8])) == 1000
            looking_up.append(time.perf_counter() - started)
        assert min(looking_up) < 7 * min(reading_all)


async def test_what_cannot_be_encoded_is_not_stored_and_its_neighbours_are_found(
    mongod: Mongod, namespace: str
) -> None:
    bad = [entry(2**64), entry("\ud800"), entry(7, v=2**64), entry({1: 2}), entry([nested(2000)])]
    async with candidates(mongod, namespace, 1) as (a,):
        owner, good = await a.own(), entry(8)
        await owner.insert([good])
        assert await found(owner, [*bad[:2], good, *bad[2:]]) == [2]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


async def test_what_the_owner_itself_wrote_and_what_the_one_before_wrote_is_found(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 2, 2) as (a, b):
        old, several = await a.own(), entries(30)
        await old.insert(several[:10])
        assert len(await found(old, several)) == 10
        await old.insert(several[10:20], slot=1)
        new = await b.own()
        assert len(await found(new, several)) == 20
        await new.insert(several[20:])
        assert len(await found(new, several)) == 30


async def test_a_look_up_that_mongodb_refuses_is_unavailable(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        owner, admin = await a.own(), a.database.client.admin
        data = {"failCommands": ["find"], "namespace": f"{namespace}.{COLLECTION}", "errorCode": 96}
        await admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
        with pytest.raises(SinkUnavailable, match="code 96"):
            await owner.store.stored(entries(1))
