"""A time-series collection on a real mongod, as its owner uses it: numbered inserts, and what is found to be stored."""

from __future__ import annotations

import math
import time
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import bson
import msgspec
import pytest
from bson import DatetimeMS, Decimal128, ObjectId
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from collector.decoding.identity import Incarnation
from collector.errors import SinkUnavailable
from collector.model import Entry
from collector.sinks.outcomes import UNENCODABLE
from collector.sinks.timeseries.store import _groups
from tests.support.fakes import delivery
from tests.support.owning import COLLECTION, NOON, TIMEOUT, candidates, entries, entry, ids, utc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from collector.local import Mongod
    from tests.support.owning import Owner

LIFE = Incarnation("beta:logs:system", "2024-05-06T07:08:09Z")


async def found(owner: Owner, asked: Sequence[Entry]) -> list[int]:
    """Return the places of what is found to be stored."""
    stored = {id(one) for one in await owner.store.stored(asked)}
    return [place for place, one in enumerate(asked) if id(one) in stored]


def derived(sequence: int, position: int | None = None, at: datetime = NOON) -> Entry:
    of = delivery(sequence)
    document = {"_id": LIFE.identity(sequence, position), "n": sequence, "timestamp": at, "metadata": None}
    return Entry(of, position, document, own_id=False)


# inserts


async def test_the_same_number_again_is_applied_once_and_answered_the_same(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 2) as (a,):
        owner, several = await a.own(), entries(2500)
        first = await owner.insert(several)
        again = await owner.insert(several)
        assert first["n"] == again["n"] == 2500
        assert len(await owner.stored()) == 2500


async def test_a_command_of_which_a_part_was_refused_is_applied_once_too(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 2) as (a,):
        owner, several = await a.own(), entries(5)
        several[2].document["timestamp"] = "yesterday"
        for _ in range(2):
            reply = await owner.insert(several)
            assert [error["index"] for error in reply["writeErrors"]] == [2]
        assert sorted(await owner.stored()) == sorted(ids(several[:2] + several[3:]))


async def test_entries_over_many_times_and_sources_are_applied_once_too(mongod: Mongod, namespace: str) -> None:
    """Of which each makes a bucket of its own, and so a write of its own in the server."""
    several = [entry(metadata={"host": number % 7}, at=NOON + timedelta(hours=9 * number)) for number in range(60)]
    async with candidates(mongod, namespace, 2) as (a,):
        owner = await a.own()
        for _ in range(3):
            assert (await owner.insert(several))["n"] == 60
        assert len(await owner.stored()) == 60


async def test_what_cannot_be_encoded_is_raised_and_its_number_is_as_good_as_new(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 2) as (a,):
        owner, good = await a.own(), entry()
        with pytest.raises(UNENCODABLE):
            await owner.insert([good, entry(v=2**64)])
        assert await owner.stored() == []
        assert (await owner.insert([good]))["n"] == 1


@pytest.mark.parametrize(("failure", "raised"), [({"errorCode": 10107}, True), ({"errorCode": 14}, False)])
async def test_what_a_failed_command_raises_says_whether_a_document_can_be_why(
    mongod: Mongod, namespace: str, failure: dict[str, Any], raised: bool
) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        owner, admin = await a.own(), a.database.client.admin
        data = {"failCommands": ["insert"], "namespace": f"{namespace}.{COLLECTION}", **failure}
        await admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
        with pytest.raises(SinkUnavailable if raised else OperationFailure):
            await owner.insert(entries(1))


@pytest.mark.parametrize("code", [217, 2])
async def test_what_is_looked_up_after_a_failed_command_is_read_as_it_is_after_that(
    mongod: Mongod, namespace: str, code: int
) -> None:
    """The command may have written what the majority does not have yet; an earlier read would miss it."""
    async with candidates(mongod, namespace, 1) as (a,):
        owner, admin = await a.own(), a.database.client.admin
        written = await a.database.command({"insert": "others", "documents": [{}]})
        data = {"failCommands": ["insert"], "namespace": f"{namespace}.{COLLECTION}", "errorCode": code}
        await admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
        with pytest.raises(OperationFailure):
            await owner.insert(entries(1))
        assert owner.store._since >= written["operationTime"]


# looking up


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


# a publisher's own `_id`: the whole document has to be the same

FIXED_ID = ObjectId("65e6d5c1f0a1b2c3d4e5f607")
OWN_IDS = [7, 2.5, math.nan, "text", b"raw", True, None, FIXED_ID, {"a": 1, "b": [1, {"c": 2}]}, [1, [2]], {"$gt": 0}]


@pytest.mark.parametrize("own_id", OWN_IDS, ids=repr)
async def test_under_an_identity_of_the_publishers_only_the_same_document_is_the_same_entry(
    mongod: Mongod, namespace: str, own_id: Any
) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        owner = await a.own()
        stored = entry(own_id, n=1, text="ü", deep={"b": 1, "a": [1, {"y": 1, "x": 2}]})
        others = [
            entry(own_id, n=2),
            entry(own_id, n=1, text="ü"),
            entry(own_id, n=1, text="ü", deep={}),
            entry(own_id),
        ]
        await owner.insert([stored])
        assert await found(owner, [copy_of(stored), *others]) == [0]


METADATA: dict[str, Any] = {
    "none": None,
    "a text": "host",
    "a number": 7,
    "an empty map": {},
    "a map in order": {"a": 1, "b": 2},
    "a map out of order": {"b": 1, "a": 2},
    "maps in a map": {"z": {"d": 1, "c": 2}, "a": {"f": 1, "e": 2}},
    "maps in a list": {"l": [{"b": 1, "a": 2}, 3, [{"d": 1, "c": 2}]]},
    "a list": [3, 1, 2],
    "a list of maps": [{"b": 1, "a": 2}],
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA.keys())
async def test_metadata_which_the_server_sorts_does_not_make_the_same_document_another_one(
    mongod: Mongod, namespace: str, metadata: Any
) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        owner, stored = await a.own(), entry(7, n=1, metadata=metadata)
        await owner.insert([stored])
        assert await found(owner, [copy_of(stored)]) == [0]


VALUES: list[Any] = [
    0.0,
    -0.0,
    math.nan,
    math.inf,
    1,
    1.0,
    2**63 - 1,
    True,
    None,
    "",
    b"",
    [],
    {},
    Decimal128("1.50"),
    NOON,
]


async def test_every_value_comes_back_as_it_was_and_no_other_value_passes_for_it(
    mongod: Mongod, namespace: str
) -> None:
    several = [entry(7, v=value) for value in VALUES]
    async with candidates(mongod, namespace, 1) as (a,):
        owner = await a.own()
        for place, one in enumerate(several):
            await owner.insert([one], place + 1)
            assert await found(owner, several) == list(range(place + 1))


async def test_strange_names_of_fields_come_back_as_they_were(mongod: Mongod, namespace: str) -> None:
    strange: dict[str, Any] = {"a.b": 1, "$x": 2, "in": {"$y": 4, "c.d": 5, "": 6}, "0": 7, "ü" * 200: 8}
    async with candidates(mongod, namespace, 1) as (a,):
        owner, stored = await a.own(), entry(7, **strange)
        reply = await owner.insert([stored])
        if "writeErrors" in reply:
            pytest.fail(str(reply["writeErrors"]))
        assert await found(owner, [copy_of(stored)]) == [0]


def copy_of(one: Entry) -> Entry:
    """Deliver it again: decoded anew, its fields in the order in which they were published."""
    return msgspec.structs.replace(one, delivery=delivery(1, delivered=2), document=dict(one.document))


async def test_own_identities_of_all_kinds_are_looked_up_together(mongod: Mongod, namespace: str) -> None:
    several = [entry(own_id, n=1) for own_id in [*OWN_IDS, {"$ne": 1}, {"$in": [1]}, {"a": {"$gt": 0}}, [], {}]]
    async with candidates(mongod, namespace, 1) as (a,):
        owner = await a.own()
        await owner.insert(several[::2])
        assert await found(owner, several) == list(range(0, len(several), 2))


# what a look-up costs


async def pages_of(owner: Owner, asked: Sequence[Entry]) -> tuple[list[int], list[int]]:
    """Return what is found, and how many documents each page had that was held for it."""
    sizes: list[int] = []
    pages = owner.store._pages

    async def counted(command: dict[str, Any]) -> AsyncIterator[list[RawBSONDocument]]:
        async for page in pages(command):
            sizes.append(len(page))
            yield page

    with patch.object(owner.store, "_pages", counted):
        return await found(owner, asked), sizes


@pytest.mark.parametrize("identity", [7, {"a": 1}, [1, 2], {"$a": 1}], ids=repr)
async def test_however_much_is_stored_in_between_only_a_page_of_it_is_held(
    mongod: Mongod, namespace: str, identity: Any
) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        owner = await a.own()
        several = [entry(identity, n=number) for number in range(4_500)]
        await owner.insert(several)
        nowhere, sizes = await pages_of(owner, [entry(identity, n=-1)])
        assert nowhere == []
        assert sum(sizes) == len(several)
        assert max(sizes) <= 1000
        there, sizes = await pages_of(owner, several[:1])
        assert there == [0]
        assert sum(sizes) <= len(several)


async def test_identities_of_others_in_the_same_hours_are_not_read(mongod: Mongod, namespace: str) -> None:
    """Also where the suspects' own are maps, which a filter could take for something else."""
    async with candidates(mongod, namespace, 1) as (a,):
        owner = await a.own()
        await owner.insert(entries(5_000, timedelta(milliseconds=500)))
        asked = [entry({"a": 1}), entry({"$b": 1}, at=NOON + timedelta(minutes=40))]
        assert await pages_of(owner, asked) == ([], [])


async def test_what_python_has_no_value_for_is_in_nobodys_way(mongod: Mongod, namespace: str) -> None:
    late = bson.encode({"_id": 7, "timestamp": NOON, "at": DatetimeMS(2**62), "text": "ok"})
    garbled = bson.encode({"_id": 7, "timestamp": NOON, "text": "okay"}).replace(b"okay", b"\xff\xfeay")
    async with candidates(mongod, namespace, 1) as (a,):
        owner, stored = await a.own(), entry(7, n=1)
        await a.database.command({"insert": COLLECTION, "documents": [RawBSONDocument(late), RawBSONDocument(garbled)]})
        assert await found(owner, [stored]) == []
        await owner.insert([stored])
        assert await found(owner, [copy_of(stored)]) == [0]


async def test_a_question_that_takes_too_long_is_asked_about_shorter_times(mongod: Mongod, namespace: str) -> None:
    asked = entries(9, timedelta(minutes=5))
    async with candidates(mongod, namespace, 1) as (a,):
        owner, admin = await a.own(), a.database.client.admin
        await owner.insert(asked)
        data = {"failCommands": ["find"], "namespace": f"{namespace}.{COLLECTION}", "blockConnection": True}
        point = {"configureFailPoint": "failCommand", "mode": {"times": 2}, "data": data | {"blockTimeMS": 1500}}
        owner.store._timeout = 0.5
        await admin.command(point)
        for _ in range(2):
            with pytest.raises(SinkUnavailable):
                await owner.store.stored(asked)
        owner.store._timeout = TIMEOUT
        with patch.object(owner.store, "_hits", wraps=owner.store._hits) as hits:
            assert await found(owner, asked) == list(range(9))
        assert hits.call_count == 9, "an hour by 16 is less than five minutes"
        for _ in range(4):
            assert await found(owner, asked) == list(range(9))
        with patch.object(owner.store, "_hits", wraps=owner.store._hits) as hits:
            assert await found(owner, asked) == list(range(9))
        assert hits.call_count == 1


minutes = st.integers(0, 600)


@given(st.lists(minutes, max_size=40), st.integers(0, 120))
def test_questions_are_about_no_longer_a_time_than_they_may_and_about_every_entry(apart: list[int], width: int) -> None:
    asked = [entry(at=NOON + timedelta(minutes=one)) for one in apart]
    groups = list(_groups(asked, timedelta(minutes=width)))
    assert Counter(id(one) for group in groups for one in group) == Counter(map(id, asked))
    for group in groups:
        times = [one.document["timestamp"] for one in group]
        assert times == sorted(times)
        assert times[-1] - times[0] <= timedelta(minutes=width)


def test_questions_are_no_larger_than_mongodb_takes() -> None:
    asked = [entry("x" * 3 * 1024 * 1024) for _ in range(5)]
    assert [len(group) for group in _groups(asked, timedelta(hours=1))] == [1] * 5
