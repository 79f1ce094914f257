"""Claims on a real mongod: one replica owns each, and it is known which replicas are alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anyio import create_task_group

from collector.errors import SinkUnavailable
from collector.sinks.timeseries.claims import CLAIMS, REPLICAS
from collector.sinks.timeseries.ownership import Board, Claim, Tenure
from tests.support.owning import Owner, candidates, entries

if TYPE_CHECKING:
    from collector.local import Mongod
    from tests.support.owning import Candidate


# who owns what


async def test_a_claim_is_registered_once_and_what_is_known_of_it_is_kept(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 2, 3) as (a, b):
        await a.claims.register({a.claim: "system", "other": "other"})
        assert (await b.claims.board([a.claim, "other", "unknown"])).claims == {
            a.claim: Claim(None, 0),
            "other": Claim(None, 0),
        }
        owner = await a.own()
        await a.claims.raise_mark(a.claim, 70)
        await b.claims.register({a.claim: "system"})
        assert await b.seen() == Claim("a", 1)
        assert (await b.own()).tenure == Tenure(a.claim, 2, 3, 70)
        assert owner.tenure == Tenure(a.claim, 1, 2, 0)


async def test_a_claim_that_its_owner_makes_again_is_as_it_was_and_one_that_is_there_is_left_alone(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 3, 2) as (a, b):
        await a.own()
        owner = await b.own()
        owner.tenure.raised(70)
        await b.database[CLAIMS].delete_one({"_id": b.claim})
        await b.claims.restore("system", owner.fenced)
        assert await a.seen() == Claim("b", 2)
        after = await a.own()
        assert after.tenure == Tenure(a.claim, 3, 3, 70)
        assert len(after.fenced.sessions) == 3, "also what only the first owner wrote through stays fenced off"
        await b.claims.restore("system", owner.fenced)
        assert await b.seen() == Claim("a", 3)


async def test_a_claim_that_another_unique_index_refuses_is_not_taken_for_registered(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        await a.database[CLAIMS].create_index("logger", unique=True)
        await a.claims.register({a.claim: "system"})
        await a.claims.register({a.claim: "system"})
        with pytest.raises(SinkUnavailable, match="11000"):
            await a.claims.register({"other": "system"})


async def test_of_two_that_race_for_a_claim_exactly_one_wins(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 2, 2) as both:
        await both[0].claims.register({both[0].claim: "system"})
        for race in range(20):
            seen, won = await both[0].seen(), list[Owner]()

            async def take(candidate: Candidate, seen: Claim = seen, won: list[Owner] = won) -> None:
                owner = await candidate.try_to_own(seen)
                if owner is not None:
                    won.append(owner)

            async with create_task_group() as group:
                for candidate in both:
                    group.start_soon(take, candidate)
            (winner,) = won
            assert winner.tenure.epoch == race + 1
            assert await both[0].seen() == Claim(winner.by.claims.me, race + 1)


async def test_a_claim_that_is_not_as_it_was_seen_is_not_taken(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 1, 1) as (a, b):
        await a.own()
        for seen in (Claim(None, 0), Claim(None, 1), Claim("a", 0), Claim("c", 1)):
            assert await b.try_to_own(seen) is None
        assert await b.seen() == Claim("a", 1)
        assert await b.try_to_own(Claim("a", 1)) is not None


async def test_a_claim_that_is_given_back_is_free_and_one_that_was_lost_cannot_be_given_back(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 1, 1) as (a, b):
        lost = await a.own()
        owner = await b.own()
        await a.claims.give_back(lost.tenure)
        assert await a.seen() == Claim("b", 2)
        await b.claims.give_back(owner.tenure)
        assert await a.seen() == Claim(None, 2)
        await b.claims.give_back(owner.tenure)
        assert (await a.own()).tenure.epoch == 3


# who is alive


async def test_who_is_alive_and_since_when_it_is_silent_is_known_by_the_databases_clock(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 1, 1) as (a, b):
        await a.claims.announce(3)
        await b.claims.announce(5)
        first = await a.claims.board([])
        assert first.willing == {"a": 3, "b": 5}
        await a.claims.announce(4)

        async def later(board: Board) -> bool:
            return board.silent["b"] > first.silent["b"] + 0.05 > board.silent["a"]

        while not await later(await a.claims.board([])):
            await a.claims.announce(4)
        assert (await a.claims.board([])).willing == {"a": 4, "b": 5}


async def test_who_leaves_is_gone_at_once_and_who_was_silent_for_a_day_is_forgotten_with_it(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 1, 1) as (a, b):
        for one in (a, b):
            await one.claims.announce(1)
        for name, hours in (("yesterday", 25), ("today", 23)):
            ago = [{"$set": {"seen": {"$subtract": ["$$NOW", hours * 3600 * 1000]}, "willing": 1}}]
            await a.database[REPLICAS].update_one({"_id": name}, ago, upsert=True)
        assert (await b.claims.board([])).silent["yesterday"] == pytest.approx(25 * 3600, abs=30)
        await a.claims.leave()
        assert (await b.claims.board([])).silent.keys() == {"b", "today"}


async def test_the_claim_of_a_replica_that_is_silent_can_be_taken_as_it_was_seen(
    mongod: Mongod, namespace: str
) -> None:
    async with candidates(mongod, namespace, 1, 1) as (dead, b):
        owner = await dead.own()
        await owner.insert(entries(1))
        assert await b.try_to_own(await b.seen()) is not None
