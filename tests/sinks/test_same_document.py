"""A publisher's own `_id`: only the same document is the same entry."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from bson import Decimal128, ObjectId

from tests.support.looking_up import copy_of, found
from tests.support.owning import NOON, candidates, entry

if TYPE_CHECKING:
    from collector.local import Mongod


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


async def test_own_identities_of_all_kinds_are_looked_up_together(mongod: Mongod, namespace: str) -> None:
    several = [entry(own_id, n=1) for own_id in [*OWN_IDS, {"$ne": 1}, {"$in": [1]}, {"a": {"$gt": 0}}, [], {}]]
    async with candidates(mongod, namespace, 1) as (a,):
        owner = await a.own()
        await owner.insert(several[::2])
        assert await found(owner, several) == list(range(0, len(several), 2))
