"""Duplicates in a plain collection: the same entry counts as written, another one under its `_id` is refused."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from collector.model import Reason
from tests.support.sinking import entry, good, sinking, total

if TYPE_CHECKING:
    from collector.local import Mongod


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
