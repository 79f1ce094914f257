"""The fence and the mark: what an old owner sends is refused, and numbers never fall."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from anyio import create_task_group

from collector.errors import OwnershipLost, SinkUnavailable
from collector.sinks.timeseries.claims import CLAIMS
from collector.sinks.timeseries.ownership import Claim
from tests.support.owning import Owner, candidates, entries, inserts_held_up, under_way, until

if TYPE_CHECKING:
    from collector.local import Mongod
    from tests.support.owning import Candidate


# the fence


async def test_what_an_old_owner_sends_after_the_fence_is_refused_in_every_session(
    mongod: Mongod, namespace: str
) -> None:
    """Also in those that the new owner, which has fewer, never writes through."""
    async with candidates(mongod, namespace, 3, 1, 1) as (a, b, c):
        old = await a.own()
        for slot in range(3):
            await old.insert(entries(1), slot=slot)
        new = await b.own()
        for used in (1, 2, 2**40 - 1):
            for slot in range(3):
                with pytest.raises(OwnershipLost, match=a.claim):
                    await old.insert(entries(1), used, slot)
        assert len(await new.stored()) == 3
        await new.insert(entries(1))
        newest = await c.own()
        for slot in range(3):
            with pytest.raises(OwnershipLost):
                await old.insert(entries(1), 9, slot)
        with pytest.raises(OwnershipLost):
            await new.insert(entries(1), 2)
        await newest.insert(entries(1))
        assert len(await newest.stored()) == 5


async def test_an_insert_that_is_in_flight_ends_before_the_claim_is_taken_and_the_mark_is_read_after_it(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 2, 2) as (a, b):
        old, late = await a.own(), entries(5)
        ended: list[str] = []
        owners: list[Owner] = []

        async def insert() -> None:
            assert (await old.insert(late, slot=1))["n"] == 5
            ended.append("insert")

        async def take() -> None:
            owners.append(await b.own())
            ended.append("take")

        async with create_task_group() as group, inserts_held_up(a.database):
            group.start_soon(insert)
            await until(lambda: under_way(a.database, {"insert": "system_logs"}))
            group.start_soon(take)
            await until(lambda: under_way(a.database, {"update": CLAIMS, "txnNumber": {"$exists": True}}))
            assert await b.seen() == Claim("b", 2)
            await a.claims.raise_mark(a.claim, 12_345)
            assert ended == []
        assert sorted(ended) == ["insert", "take"]
        assert owners[0].tenure.mark == 12_345
        assert list(await owners[0].store.stored(late)) == late, "what was in flight is there, and seen"


async def test_who_is_overtaken_while_it_waits_at_the_fence_does_not_become_the_owner(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 1, 1, 1) as (a, b, c):
        old = await a.own()
        taken: dict[str, Owner | None] = {}

        async def take(candidate: Candidate, seen: Claim) -> None:
            taken[candidate.claims.me] = await candidate.try_to_own(seen)

        async with create_task_group() as group, inserts_held_up(a.database):
            group.start_soon(old.insert, entries(1))
            await until(lambda: under_way(a.database, {"insert": "system_logs"}))
            for number, candidate in enumerate((b, c), 1):
                group.start_soon(take, candidate, await a.seen())
                await until(partial(epoch_is, a, number + 1))
        assert taken["b"] is None
        assert taken["c"] is not None
        await taken["c"].insert(entries(1))


async def epoch_is(candidate: Candidate, epoch: int) -> bool:
    return (await candidate.seen()).epoch == epoch


# the mark


async def test_the_mark_never_falls_whoever_raises_it(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 1, 1) as (a, b):
        await a.own()
        for mark in (100, 50, 2**50, 7):
            await a.claims.raise_mark(a.claim, mark)
        assert (await b.own()).tenure.mark == 2**50


async def test_a_mark_that_somebody_has_removed_cannot_be_raised(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        await a.own()
        await a.database[CLAIMS].delete_one({"_id": a.claim})
        with pytest.raises(SinkUnavailable, match="removed"):
            await a.claims.raise_mark(a.claim, 5)
