"""One candidacy for a claim: it is taken in its turn, and given back once, also when cancelled."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from anyio import Event, create_task_group, fail_after

from collector.actors.owners import Candidacy
from collector.events import Failed, Failure, OwnershipChange, OwnershipChanged, Stage
from collector.sinks.timeseries.ownership import Claim
from tests.support.fakes import KEY, Reports, settled
from tests.support.ownership_fakes import CLAIM, SLOTS, FakeClaims

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import TaskGroup

    from collector.sinks.timeseries.claims import Fenced
    from collector.sinks.timeseries.ownership import Tenure


class Alone:
    """A candidacy without anybody who gives it its turn."""

    def __init__(self) -> None:
        self.claims, self.reports, self.stopping = FakeClaims(), Reports(), Event()
        self.claims.claims[CLAIM] = Claim(None, 6)
        claims: Any = self.claims
        self.left: list[Tenure] = []
        self.candidacy = Candidacy(KEY, CLAIM, claims, self.reports, self.left.append)
        self.got: list[Fenced | None] = []

    async def own(self) -> None:
        self.got.append(await self.candidacy.own(self.stopping))

    def give_turn(self, seen: Claim | None = None) -> None:
        self.candidacy.seen = seen or self.claims.claims[CLAIM]
        self.candidacy.offered.set()

    @property
    def changes(self) -> list[tuple[OwnershipChange, int]]:
        return [(event.change, event.epoch) for event in self.reports.of(OwnershipChanged)]


@asynccontextmanager
async def candidate() -> AsyncIterator[tuple[Alone, TaskGroup]]:
    alone = Alone()
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(alone.own)
            await settled()
            yield alone, group


# a candidacy: to own


async def test_it_stands_by_until_its_turn_and_is_the_owner_then() -> None:
    async with candidate() as (alone, _):
        assert (alone.got, alone.claims.calls) == ([], [])
        alone.give_turn()
    (fenced,) = alone.got
    assert fenced is not None
    assert fenced.tenure.epoch == 7
    assert alone.claims.claims[CLAIM] == Claim("me", 7)
    assert alone.changes == [(OwnershipChange.TAKEN, 7)]


async def test_asked_to_stop_while_it_stands_by_it_returns_at_once_and_has_asked_nothing() -> None:
    async with candidate() as (alone, _):
        alone.stopping.set()
    assert (alone.got, alone.claims.calls, alone.changes) == ([None], [], [])


async def test_asked_to_stop_and_given_its_turn_together_it_takes_nothing() -> None:
    async with candidate() as (alone, _):
        alone.stopping.set()
        alone.give_turn()
    assert (alone.got, alone.claims.calls) == ([None], [])


async def test_a_claim_that_is_no_more_as_it_was_seen_is_left_until_the_next_turn() -> None:
    async with candidate() as (alone, _):
        alone.give_turn(Claim(None, 5))
        await settled()
        assert (alone.got, alone.changes) == ([], [])
        alone.give_turn()
    assert len(alone.got) == 1
    assert alone.changes == [(OwnershipChange.TAKEN, 7)]


async def test_while_mongodb_is_away_it_stands_by_until_the_next_turn_and_says_so() -> None:
    async with candidate() as (alone, _):
        alone.claims.down.add("take")
        alone.give_turn()
        await settled()
        assert alone.got == []
        (failed,) = alone.reports.of(Failed)
        assert (failed.logger, failed.stage, failed.failure) == (KEY, Stage.CONTROL, Failure.UNAVAILABLE)
        alone.claims.down.clear()
        alone.give_turn()
    assert len(alone.got) == 1


async def test_asked_to_stop_while_it_takes_a_claim_it_says_what_it_has_taken() -> None:
    async with candidate() as (alone, _):
        alone.claims.held["take"] = Event()
        alone.give_turn()
        await settled()
        alone.stopping.set()
        await settled()
        assert alone.got == [], "a call to MongoDB is never cut"
        alone.claims.held["take"].set()
    assert alone.got == [alone.candidacy.fenced]
    assert alone.candidacy.fenced is not None


async def test_what_was_lost_or_wanted_back_before_is_no_matter_of_the_new_tenure() -> None:
    async with candidate() as (alone, _):
        alone.candidacy.lost.set()
        alone.candidacy.handing_over.set()
        alone.give_turn()
    assert not alone.candidacy.lost.is_set()
    assert not alone.candidacy.handing_over.is_set()


# a candidacy: to give back


@asynccontextmanager
async def owner() -> AsyncIterator[tuple[Alone, TaskGroup]]:
    async with candidate() as (alone, group):
        alone.give_turn()
        await settled()
        yield alone, group
    assert all(session.ended for session in alone.claims.sessions)
    assert len(alone.claims.sessions) == SLOTS


async def test_given_back_the_claim_is_free_at_once() -> None:
    async with owner() as (alone, _):
        await alone.candidacy.give_back(lost=False)
    assert alone.claims.claims[CLAIM] == Claim(None, 7)
    assert alone.candidacy.fenced is None
    assert alone.changes == [(OwnershipChange.TAKEN, 7), (OwnershipChange.GIVEN_BACK, 7)]


async def test_what_is_lost_is_not_given_back() -> None:
    async with owner() as (alone, _):
        alone.claims.claims[CLAIM] = Claim("other", 8)
        await alone.candidacy.give_back(lost=True)
    assert "give_back" not in alone.claims.calls
    assert alone.changes == [(OwnershipChange.TAKEN, 7), (OwnershipChange.LOST, 7)]


async def test_a_claim_that_cannot_be_given_back_is_left_to_be_given_back_later_and_that_is_said() -> None:
    async with owner() as (alone, _):
        alone.claims.down.add("give_back")
        await alone.candidacy.give_back(lost=False)
    assert alone.candidacy.fenced is None, "nobody touches it any more"
    assert [tenure.epoch for tenure in alone.left] == [7]
    (failed,) = alone.reports.of(Failed)
    assert (failed.error, failed.action) == ("no give_back", "giving the claim back later")


async def test_what_is_given_back_or_lost_is_not_left_over() -> None:
    for lost in (False, True):
        async with owner() as (alone, _):
            await alone.candidacy.give_back(lost=lost)
        assert alone.left == []


async def test_nothing_is_given_back_twice_or_without_having_been_taken() -> None:
    async with candidate() as (alone, _):
        await alone.candidacy.give_back(lost=False)
        assert (alone.claims.calls, alone.changes) == ([], [])
        alone.stopping.set()
    async with owner() as (alone, _):
        await alone.candidacy.give_back(lost=False)
        await alone.candidacy.give_back(lost=False)
    assert alone.claims.calls.count("give_back") == 1


# a candidacy: cancelled here


async def test_cancelled_while_it_stands_by_it_has_taken_nothing() -> None:
    async with candidate() as (alone, group):
        group.cancel_scope.cancel()
    assert (alone.got, alone.claims.calls) == ([], [])


async def test_cancelled_while_it_takes_it_still_knows_what_it_has_taken_and_gives_it_back() -> None:
    async with candidate() as (alone, group):
        alone.claims.held["take"] = Event()
        alone.give_turn()
        await settled()
        group.cancel_scope.cancel()
        alone.claims.held["take"].set()
    assert alone.claims.calls == ["take", "take."], "a call to MongoDB is never cut"
    assert alone.candidacy.fenced is not None
    with fail_after(30):
        await alone.candidacy.give_back(lost=False)
    assert alone.claims.claims[CLAIM] == Claim(None, 7)


async def test_cancelled_while_it_gives_back_it_does_so_to_the_end() -> None:
    async with owner() as (alone, group):
        alone.claims.held["give_back"] = Event()

        async def give_back() -> None:
            await alone.candidacy.give_back(lost=False)

        group.start_soon(give_back)
        await settled()
        group.cancel_scope.cancel()
        alone.claims.held["give_back"].set()
    assert alone.claims.claims[CLAIM] == Claim(None, 7)
