"""What a look-up costs: pages of bounded size, and questions of bounded length."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import bson
import pytest
from bson import DatetimeMS
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import SinkUnavailable
from collector.sinks.timeseries.store import _groups
from tests.support.looking_up import copy_of, found
from tests.support.owning import COLLECTION, NOON, TIMEOUT, candidates, entries, entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from collector.local import Mongod
    from collector.model import Entry
    from tests.support.owning import Owner


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
