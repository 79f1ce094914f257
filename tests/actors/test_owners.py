"""Owners in front of a scripted MongoDB: claims are looked at, kept, handed over and given back."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event, create_task_group, current_time, fail_after

from collector.actors.owners import Candidacy, Owners
from collector.events import Failed, OwnershipChange, OwnershipChanged, Stage
from collector.sinks.timeseries.ownership import CLAIM_TTL, Claim
from tests.support.fakes import ANOTHER_LIFE, ATTACHED, KEY, Reports, settled
from tests.support.ownership_fakes import CLAIM, FakeClaims

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from anyio.abc import TaskGroup


class Scene:
    """Owners that run."""

    def __init__(self) -> None:
        self.claims, self.reports, self.stopping = FakeClaims(), Reports(), Event()
        claims: Any = self.claims
        self.owners = Owners(claims, self.reports, 60.0)
        self.group: TaskGroup
        self.returned = Event()

    async def run(self) -> None:
        await self.owners.run(self.stopping)
        self.returned.set()

    @contextmanager
    def candidacy(self) -> Iterator[Candidacy]:
        with self.owners.candidacy(KEY, ATTACHED.incarnation) as candidacy:
            yield candidacy

    @property
    def changes(self) -> list[tuple[OwnershipChange, int]]:
        return [(event.change, event.epoch) for event in self.reports.of(OwnershipChanged)]


@asynccontextmanager
async def playing(monkeypatch: pytest.MonkeyPatch | None = None) -> AsyncIterator[Scene]:
    """Let them look at the claims again at once, where there is a monkeypatch, else once a second."""
    if monkeypatch is not None:
        monkeypatch.setattr("collector.actors.owners._PERIOD", 0.01)
    scene = Scene()
    with fail_after(60):
        async with create_task_group() as scene.group:
            scene.group.start_soon(scene.run)
            yield scene
            scene.stopping.set()


# owners


@pytest.mark.parametrize("still", ["a candidate", "no candidate", "the owner again"])
async def test_a_claim_that_could_not_be_given_back_is_given_back_as_soon_as_mongodb_does_it(
    still: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process lives on, so that for all others the claim would never expire."""
    async with playing(monkeypatch) as scene:
        with ExitStack() as stack:
            candidacy = stack.enter_context(scene.candidacy())
            assert await candidacy.own(scene.stopping) is not None
            scene.claims.down |= {"give_back"} if still == "no candidate" else {"give_back", "board"}
            await candidacy.give_back(lost=False)
            assert scene.claims.claims[CLAIM] == Claim("me", 1)
            if still == "no candidate":
                stack.close()
            await scene.claims.until("give_back.", 4)
            assert scene.claims.claims[CLAIM] == Claim("me", 1)
            if still == "the owner again":
                scene.claims.claims[CLAIM] = Claim("me", 2)
            scene.claims.down.discard("give_back")
            await scene.claims.until("give_back.", scene.claims.calls.count("give_back.") + 1)
            assert scene.claims.claims[CLAIM] == (Claim("me", 2) if still == "the owner again" else Claim(None, 1))
            tried = scene.claims.calls.count("give_back")
            if still != "no candidate":
                await scene.claims.until("announce.", scene.claims.calls.count("announce.") + 3)
                assert scene.claims.calls.count("give_back") == tried, "once it is given back it is done"


async def test_a_claim_that_cannot_be_given_back_keeps_no_other_from_being_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with playing(monkeypatch) as scene:
        with scene.candidacy() as candidacy:
            assert await candidacy.own(scene.stopping) is not None
            scene.claims.down.add("give_back")
            await candidacy.give_back(lost=False)
        scene.claims.claims[CLAIM] = Claim(None, 1)
        with scene.candidacy() as again:
            assert await again.own(scene.stopping) is not None


async def test_without_a_time_series_logger_mongodb_is_asked_nothing() -> None:
    async with playing() as scene:
        await settled()
        scene.stopping.set()
        await scene.returned.wait()
    assert scene.claims.calls == []


async def test_a_new_candidate_is_announced_registered_and_given_its_turn_at_once() -> None:
    async with playing() as scene:
        with scene.candidacy() as candidacy:
            await settled()
            assert candidacy.offered.is_set()
            assert candidacy.seen == Claim(None, 0)
        assert scene.claims.willing == {"me": 1}
    assert [call for call in scene.claims.calls if call.endswith(".")][:3] == ["announce.", "register.", "board."]
    assert scene.claims.calls[-1] == "leave."
    assert scene.claims.silent == {}


async def test_a_claim_is_registered_once_and_looked_at_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing(monkeypatch) as scene:
        with scene.candidacy():
            await scene.claims.until("board", 5)
            with scene.owners.candidacy("other", ANOTHER_LIFE.incarnation):
                await scene.claims.until("board", 10)
                assert scene.claims.willing == {"me": 2}
    assert scene.claims.calls.count("register") == 2


async def test_an_owner_whose_claim_somebody_has_removed_makes_it_again_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with playing(monkeypatch) as scene:
        scene.claims.claims[CLAIM] = Claim(None, 6)
        with scene.candidacy() as candidacy:
            assert await candidacy.own(scene.stopping) is not None
            await scene.claims.until("board", 3)
            del scene.claims.claims[CLAIM]
            await scene.claims.until("restore.")
            assert scene.claims.claims[CLAIM] == Claim("me", 7)
            boards = scene.claims.calls.count("board")
            await scene.claims.until("board", boards + 3)
            assert scene.claims.calls.count("restore") == 1
            assert not candidacy.lost.is_set()
    (failed,) = scene.reports.of(Failed)
    assert (failed.logger, failed.action) == (KEY, "making it again")


async def test_who_stands_by_leaves_a_removed_claim_to_its_owner_for_a_while_and_then_registers_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("collector.actors.owners.CLAIM_TTL", 0.2)
    async with playing(monkeypatch) as scene:
        scene.claims.claims[CLAIM] = Claim("other", 9)
        scene.claims.silent["other"], scene.claims.willing["other"] = 1.0, 1
        with scene.candidacy() as candidacy:
            await scene.claims.until("board", 3)
            del scene.claims.claims[CLAIM]
            removed = current_time()
            await scene.claims.until("register", 2)
            assert current_time() - removed >= 0.2
            await candidacy.offered.wait()
            assert candidacy.seen == Claim(None, 0)
    assert scene.claims.calls.count("register") == 2


async def test_a_claim_that_another_replica_owns_is_left_to_it_while_it_is_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with playing(monkeypatch) as scene:
        scene.claims.claims[CLAIM] = Claim("other", 9)
        scene.claims.silent["other"], scene.claims.willing["other"] = 1.0, 1
        with scene.candidacy() as candidacy:
            await scene.claims.until("board", 3)
            assert not candidacy.offered.is_set()
            scene.claims.silent["other"] = CLAIM_TTL
            await candidacy.offered.wait()
            assert candidacy.seen == Claim("other", 9)


async def test_an_owner_is_told_that_it_has_lost_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing(monkeypatch) as scene:
        with scene.candidacy() as candidacy:
            assert await candidacy.own(scene.stopping) is not None
            await scene.claims.until("board", 3)
            assert not candidacy.lost.is_set()
            scene.claims.claims[CLAIM] = Claim("other", 2)
            await candidacy.lost.wait()
            assert not candidacy.handing_over.is_set()


async def test_an_owner_of_more_than_its_share_is_asked_to_hand_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.sinks.timeseries.ownership.CLAIM_TTL", 0.05)
    async with playing(monkeypatch) as scene:
        with (
            scene.candidacy() as first,
            scene.owners.candidacy("other", ANOTHER_LIFE.incarnation) as second,
        ):
            assert await first.own(scene.stopping) is not None
            assert await second.own(scene.stopping) is not None
            scene.claims.silent["new"], scene.claims.willing["new"] = 0.0, 2
            while not (first.handing_over.is_set() or second.handing_over.is_set()):
                await scene.claims.until("board", scene.claims.calls.count("board") + 1)
            assert first.handing_over.is_set() != second.handing_over.is_set()


@pytest.mark.parametrize("call", ["announce", "register", "board", "touch"])
async def test_while_mongodb_is_away_it_says_so_and_looks_again(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing(monkeypatch) as scene:
        scene.claims.down.add(call)
        with scene.candidacy() as candidacy:
            await scene.claims.until(f"{call}.", 3)
            assert not candidacy.offered.is_set()
            failed = scene.reports.of(Failed)[0]
            assert (failed.logger, failed.stage, failed.error) == ("", Stage.CONTROL, f"no {call}")
            scene.claims.down.clear()
            await candidacy.offered.wait()


async def test_on_a_machine_that_was_just_started_the_first_look_touches_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.actors.owners.current_time", lambda: 5.0)
    async with playing(monkeypatch) as scene:
        with scene.candidacy():
            await scene.claims.until("touch")


async def test_only_the_sessions_of_what_it_owns_are_touched_and_only_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("collector.actors.owners._TOUCH_PERIOD", 0.2)
    async with playing(monkeypatch) as scene:
        with scene.candidacy() as candidacy, scene.owners.candidacy("other", ANOTHER_LIFE.incarnation):
            assert await candidacy.own(scene.stopping) is not None
            scene.claims.touched.clear()
            before = scene.claims.calls.count("touch")
            await scene.claims.until("touch", before + 2)
            assert scene.claims.touched == [CLAIM, CLAIM]
            assert scene.claims.calls.count("board") > 4


async def test_a_candidate_that_is_gone_is_not_looked_at_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing(monkeypatch) as scene:
        with scene.candidacy():
            await scene.claims.until("board.")
        await settled()
        asked = list(scene.claims.calls)
        await settled()
        assert scene.claims.calls == asked


async def test_asked_to_stop_it_takes_its_sign_of_life_away_though_nobody_is_a_candidate_any_more() -> None:
    async with playing() as scene:
        with scene.candidacy():
            await scene.claims.until("board.")
        scene.stopping.set()
        await scene.returned.wait()
    assert scene.claims.calls[-1] == "leave."


async def test_a_sign_of_life_that_cannot_be_taken_away_is_left_to_expire() -> None:
    async with playing() as scene:
        scene.claims.down.add("leave")
        with scene.candidacy():
            await scene.claims.until("board.")
            scene.stopping.set()
            await scene.returned.wait()
    assert scene.reports.of(Failed)[-1].action == "leaving claims to expire"


@pytest.mark.parametrize("where", ["announce", "register", "board", "touch", "leave"])
async def test_cancelled_in_a_call_to_mongodb_it_ends_after_that_call(where: str) -> None:
    async with playing() as scene:
        scene.claims.held[where] = Event()
        with scene.candidacy():
            if where == "leave":
                await scene.claims.until("touch.")
                scene.stopping.set()
            await scene.claims.until(where)
            scene.group.cancel_scope.cancel()
            scene.claims.held[where].set()
    assert f"{where}." in scene.claims.calls, "a call to MongoDB is never cut"
    assert not scene.returned.is_set() or where == "leave"


async def test_cancelled_while_it_waits_for_the_next_look_it_ends() -> None:
    async with playing() as scene:
        with scene.candidacy():
            await scene.claims.until("touch.")
            await settled()
            scene.group.cancel_scope.cancel()
    assert not scene.returned.is_set()
    assert "leave" not in scene.claims.calls


async def test_cancelled_while_it_waits_for_a_candidate_it_ends() -> None:
    async with playing() as scene:
        await settled()
        scene.group.cancel_scope.cancel()
    assert not scene.returned.is_set()
