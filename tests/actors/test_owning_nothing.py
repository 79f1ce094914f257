"""Before another user logs in to MongoDB this replica owns nothing, and it does not wait for ever for that."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event, create_task_group, fail_after

from collector.actors.owners import Candidacy, Owners
from collector.errors import StillOwned
from collector.events import OwnershipChange, OwnershipChanged, State
from collector.sinks.timeseries.ownership import Claim, claim_id
from tests.actors.test_pipeline import NO_STREAM
from tests.support.fakes import ATTACHED, KEY, FakeSource, Reports, delivery, settled
from tests.support.ownership_fakes import FakeClaims, FakeStore
from tests.support.owning_pipeline import AWAY
from tests.support.owning_pipeline import Scene as Pipeline
from tests.support.owning_pipeline import playing as pipeline
from transfer.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CLAIM = claim_id(ATTACHED.incarnation)


class Scene:
    """A candidate who gives back as soon as that is wanted, and whoever wants nothing to be owned."""

    def __init__(self, patience: float) -> None:
        self.claims, self.reports, self.stopping = FakeClaims(), Reports(), Event()
        claims: Any = self.claims
        self.owners = Owners(claims, self.reports, patience)
        self.gives_back = Event()
        self.gives_back.set()
        self.paused, self.go_on = Event(), Event()
        self.candidacy: Candidacy

    async def own(self) -> None:
        with self.owners.candidacy(KEY, ATTACHED.incarnation) as self.candidacy:
            while await self.candidacy.own(self.stopping) is not None:
                await self.candidacy.handing_over.wait()
                await self.gives_back.wait()
                await self.candidacy.give_back(lost=False)

    async def pause(self) -> None:
        async with self.owners.pausing():
            assert self.claims.claims[CLAIM].owner is None
            self.paused.set()
            await self.go_on.wait()
            assert self.claims.claims[CLAIM].owner is None

    async def changed(self, change: OwnershipChange, times: int = 1) -> None:
        await self.reports.until(
            lambda: [one.change for one in self.reports.of(OwnershipChanged)].count(change) >= times
        )


@asynccontextmanager
async def playing(monkeypatch: pytest.MonkeyPatch, patience: float = 60.0) -> AsyncIterator[Scene]:
    monkeypatch.setattr("collector.actors.owners._PERIOD", 0.01)
    monkeypatch.setattr("collector.actors.owners._LOOK", 0.01)
    scene = Scene(patience)
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(scene.owners.run, scene.stopping)
            group.start_soon(scene.own)
            yield scene
            scene.stopping.set()
            group.cancel_scope.cancel()


async def owns(scene: Scene) -> None:
    await scene.changed(OwnershipChange.TAKEN)


async def takes(scene: Scene) -> None:
    scene.claims.held["take"] = Event()
    await scene.claims.until("take")


async def gives_back(scene: Scene) -> None:
    await scene.changed(OwnershipChange.TAKEN)
    scene.claims.held["give_back"] = Event()
    scene.candidacy.handing_over.set()
    await scene.claims.until("give_back")


async def has_its_turn(scene: Scene) -> None:
    """Give it its turn, with which it has not begun yet."""
    await scene.claims.until("board.")
    scene.candidacy.seen = Claim(None, 0)
    scene.candidacy.offered.set()


@pytest.mark.parametrize("state", [owns, takes, gives_back, has_its_turn], ids=lambda state: state.__name__)
async def test_whatever_a_candidate_is_doing_nothing_is_owned_or_taken_in_the_block_and_then_again(
    state: Callable[[Scene], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with playing(monkeypatch) as scene, create_task_group() as group:
        await state(scene)
        group.start_soon(scene.pause)
        await settled()
        for held in scene.claims.held.values():
            assert not scene.paused.is_set(), "what is under way is waited for"
            held.set()
        await scene.paused.wait()
        taken = len(scene.reports.of(OwnershipChanged))
        await scene.claims.until("board.", scene.claims.calls.count("board.") + 3)
        assert len(scene.reports.of(OwnershipChanged)) == taken
        scene.go_on.set()
        await scene.changed(OwnershipChange.TAKEN, taken // 2 + 1)


async def test_owners_that_do_not_give_back_in_time_are_named_and_it_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with playing(monkeypatch, patience=0.05) as scene:
        scene.gives_back = Event()
        await scene.changed(OwnershipChange.TAKEN)
        with pytest.raises(StillOwned, match=r"within 0\.05 s, but still own 1: system"):
            await scene.pause()
        scene.gives_back.set()
        await scene.changed(OwnershipChange.GIVEN_BACK)
        await scene.changed(OwnershipChange.TAKEN, 2)
        scene.go_on.set()
        while not scene.paused.is_set():
            try:
                await scene.pause()
            except StillOwned:
                continue


# what an owner may be waiting for


async def no_stream(scene: Pipeline) -> None:
    scene.source.answers = [NO_STREAM]
    scene.owners.give_turn()
    await scene.reports.until(lambda: State.BACKING_OFF in scene.states)


async def no_answer(scene: Pipeline) -> None:
    scene.source.answers = [Unavailable("JetStream does not answer")]
    scene.owners.give_turn()
    await scene.reports.until(lambda: State.BACKING_OFF in scene.states)


async def no_subscription(scene: Pipeline) -> None:
    async def refuse(*_: Any) -> Any:
        raise Unavailable("maximum subscriptions exceeded")

    scene.link.subscribe = refuse  # type: ignore[method-assign, assignment]
    scene.owners.give_turn()
    await scene.reports.until(lambda: State.BACKING_OFF in scene.states)


async def a_write(scene: Pipeline) -> None:
    scene.store.script = [AWAY] * 1000
    scene.owners.give_turn()
    await scene.link.asked.wait()
    scene.link.deliver(delivery(1))
    await scene.store.inserting.wait()


async def a_look(scene: Pipeline) -> None:
    scene.owners.give_turn()
    await scene.link.asked.wait()
    scene.source.answers = [Unavailable("JetStream does not answer")]
    scene.link.deliver(delivery(1))
    await settled()


@pytest.mark.parametrize("end", ["handing_over", "lost"])
@pytest.mark.parametrize(
    "waits", [no_stream, no_answer, no_subscription, a_write, a_look], ids=lambda waits: waits.__name__
)
async def test_whatever_an_owner_waits_for_it_gives_up_when_it_has_to_hand_over_or_has_lost(
    waits: Callable[[Pipeline], Awaitable[None]], end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pipeline(monkeypatch, FakeStore(), FakeSource()) as scene:
        await scene.standing_by()
        await waits(scene)
        if end == "lost":
            scene.claims.claims[CLAIM] = Claim("another", 2)
        getattr(scene.owners.all[-1], end).set()
        await scene.reports.until(lambda: len(scene.changes) == 2)
    assert scene.changes == [
        OwnershipChange.TAKEN,
        OwnershipChange.LOST if end == "lost" else OwnershipChange.GIVEN_BACK,
    ]
    assert scene.claims.claims[CLAIM] == (Claim("another", 2) if end == "lost" else Claim(None, 1))
