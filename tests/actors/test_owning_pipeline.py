"""The pipeline of a time-series logger stands by, owns, loses, hands over and gives back."""

from __future__ import annotations

from typing import Any

import pytest
from anyio import Event, create_task_group, fail_after, lowlevel

from collector.errors import OwnershipLost
from collector.events import (
    HomeChanged,
    OwnershipChange,
    Retried,
    Returned,
    State,
)
from collector.flow.homes import AT_HOME
from collector.sinks.timeseries.ownership import Claim, claim_id, write_number
from tests.actors.test_pipeline import NO_STREAM
from tests.support.fakes import (
    ANOTHER_LIFE,
    ATTACHED,
    KEY,
    FakeSource,
    delivery,
    frame,
    settled,
)
from tests.support.ownership_fakes import SLOTS, FakeStore
from tests.support.owning_pipeline import AWAY, CLAIM, Scene, playing


async def test_while_another_replica_owns_it_nothing_is_pulled_and_a_stop_ends_it_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with playing(monkeypatch) as scene:
        await scene.standing_by()
        await settled()
        scene.stopping.set()
        await scene.returned.wait()
    assert (scene.link.requests, scene.states, scene.claims.calls) == ([], [State.STANDBY], [])


async def test_given_its_turn_it_writes_and_at_the_stop_it_drains_and_gives_the_claim_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with playing(monkeypatch) as scene:
        await scene.own()
        scene.link.deliver(delivery(1), delivery(2))
        await scene.until_settled()
        scene.link.late = [frame(delivery(3))]
    assert scene.answers(b"+ACK") == {delivery(number).reply for number in (1, 2, 3)}
    assert scene.answers(b"-NAK") == set()
    assert scene.store.there == {1, 2, 3}
    assert scene.states == [State.STANDBY, State.RUNNING, State.DRAINING]
    assert scene.changes == [OwnershipChange.TAKEN, OwnershipChange.GIVEN_BACK]
    assert scene.claims.claims[CLAIM] == Claim(None, 1)


async def test_a_stream_that_was_made_anew_while_it_stood_by_is_another_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing(monkeypatch, source=FakeSource(ATTACHED, ANOTHER_LIFE)) as scene:
        await scene.standing_by()
        scene.owners.give_turn()
        await scene.standing_by(2)
        assert scene.link.requests == []
        assert scene.claims.claims[CLAIM] == Claim(None, 1), "the old life's is given back"
        scene.owners.give_turn()
        await scene.link.asked.wait()
    assert [one.claim for one in scene.owners.all] == [CLAIM, claim_id(ANOTHER_LIFE.incarnation)]


async def test_asked_to_stop_while_it_waits_for_jetstream_as_the_owner_it_gives_the_claim_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with playing(monkeypatch, source=FakeSource(ATTACHED, NO_STREAM)) as scene:
        await scene.standing_by()
        scene.owners.give_turn()
        await scene.reports.until(lambda: State.BACKING_OFF in scene.states)
    assert scene.changes == [OwnershipChange.TAKEN, OwnershipChange.GIVEN_BACK]


@pytest.mark.parametrize("way", ["refused", "by the board"])
async def test_what_is_held_when_ownership_is_lost_is_neither_acked_nor_naked_and_it_stands_by_again(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FakeStore()
    store.let_insert = Event()
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(delivery(1), delivery(2))
        await store.inserting.wait()
        scene.link.deliver(delivery(3), delivery(2, delivered=2))
        await settled()
        scene.claims.claims[CLAIM] = Claim("other", 2)
        store.fenced = True
        if way == "by the board":
            scene.owners.all[-1].lost.set()
        else:
            store.let_insert.set()
        await scene.standing_by(2)
        assert scene.link.answers == []
        assert scene.reports.of(Returned) == []
        assert scene.link.drained.is_set(), "it pulls no more"
    assert scene.changes == [OwnershipChange.TAKEN, OwnershipChange.LOST]
    assert "give_back" not in scene.claims.calls
    assert scene.link.answers == []
    assert scene.store.there == set()


async def test_after_a_loss_it_owns_again_from_the_mark_as_it_is_then_under_higher_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FakeStore()
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(delivery(1))
        await scene.until_settled()
        scene.claims.claims[CLAIM] = Claim("other", 2)
        scene.owners.all[-1].lost.set()
        await scene.standing_by(2)
        scene.claims.mark = store.mark = 100
        scene.claims.claims[CLAIM] = Claim(None, 2)
        await scene.own()
        scene.link.deliver(delivery(1, delivered=2), delivery(101))
        await scene.until_settled(2)
    assert store.looked_up == [[1]]
    assert store.inserts[-1][1:] == (write_number(3, 1), [101])


async def test_asked_to_stop_when_ownership_is_lost_it_returns_and_answers_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FakeStore(AWAY, OwnershipLost("it"))
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(delivery(1))
        await scene.reports.until(lambda: scene.reports.of(Retried))
        scene.claims.claims[CLAIM] = Claim("other", 2)
        scene.owners.all[-1].lost.set()
        scene.stopping.set()
        await scene.returned.wait()
    assert scene.link.answers == []


async def test_the_owner_is_the_home_as_long_as_it_owns(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing(monkeypatch) as scene:
        scene.pipeline._shared.homes.move(frozenset({"another"}))
        await scene.standing_by()
        assert scene.reports.of(HomeChanged) == []
        await scene.own()
        assert scene.reports.of(HomeChanged) == [HomeChanged(KEY, here=True)]
        assert scene.link.requests[-1][1]["priority"] == AT_HOME
        scene.stopping.set()
        await scene.returned.wait()
        assert scene.reports.of(HomeChanged)[1:] == [HomeChanged(KEY, here=False)]


async def test_handing_over_it_drains_gives_back_and_stands_by_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore()
    store.let_insert = Event()
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(delivery(1))
        await store.inserting.wait()
        scene.link.late = [frame(delivery(2))]
        scene.owners.all[-1].handing_over.set()
        await settled()
        assert scene.changes == [OwnershipChange.TAKEN], "as long as it writes it is the owner"
        store.let_insert.set()
        await scene.standing_by(2)
        assert scene.claims.claims[CLAIM] == Claim(None, 1)
    assert scene.answers(b"+ACK") == {delivery(1).reply, delivery(2).reply}
    assert scene.states == [State.STANDBY, State.RUNNING, State.DRAINING, State.STANDBY]
    assert scene.changes == [OwnershipChange.TAKEN, OwnershipChange.GIVEN_BACK]


async def test_handing_over_in_an_outage_of_mongodb_what_is_held_is_given_back_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More batches than there are sessions: those that have one keep it, the others find none."""
    store = FakeStore(*[AWAY] * 1000)
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        for sequence in range(1, 41, 10):
            scene.link.deliver(*(delivery(sequence + number) for number in range(10)))
            await settled()
        await scene.reports.until(lambda: len(scene.reports.of(Retried)) >= SLOTS)
        scene.owners.all[-1].handing_over.set()
        await scene.standing_by(2)
    assert len(scene.answers(b"-NAK")) == 40
    assert scene.answers(b"+ACK") == set()
    assert {slot for slot, _, _ in store.inserts} == set(range(SLOTS))


async def test_a_copy_that_waits_is_given_back_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore(*[AWAY] * 1000)
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(delivery(1))
        await store.inserting.wait()
        scene.link.deliver(delivery(1, delivered=2))
        await settled()
    assert scene.answers(b"-NAK") == {delivery(1).reply, delivery(1, delivered=2).reply}


async def test_what_nobody_foresaw_gives_all_back_the_claim_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012 - the crash ends what goes on in the block
        async with playing(monkeypatch, FakeStore(ValueError("boom"))) as scene:
            await scene.own()
            scene.link.deliver(delivery(1))
            await scene.stopping.wait()
    assert raised.group_contains(ValueError, match="boom")
    assert scene.answers(b"-NAK") == {delivery(1).reply}
    assert scene.claims.claims[CLAIM] == Claim(None, 1)
    assert scene.changes == [OwnershipChange.TAKEN, OwnershipChange.GIVEN_BACK]


TAKEN = {"index": 0, "code": 11000, "keyPattern": {"_id": 1}, "errmsg": "no"}


@pytest.mark.parametrize(
    "error", [TAKEN, {"index": 0, "code": 361, "errmsg": "no"}, {"index": 0, "code": 166, "errmsg": "no"}]
)
async def test_a_collection_that_is_not_the_one_that_was_looked_at_is_looked_at_again_and_nothing_is_acked(
    monkeypatch: pytest.MonkeyPatch, error: dict[str, Any]
) -> None:
    """It refuses a second identity, has another UUID, or is a view by now."""
    async with playing(monkeypatch, FakeStore({"ok": 1.0, "writeErrors": [error]})) as scene:
        await scene.own()
        scene.link.deliver(delivery(1))
        await scene.standing_by(2)
        assert scene.answers(b"+ACK") == set()
        assert scene.answers(b"-NAK") == {delivery(1).reply}
        assert scene.changes == [OwnershipChange.TAKEN, OwnershipChange.GIVEN_BACK]


@pytest.mark.parametrize("where", ["standing by", "taking", "attaching", "writing", "giving back"])
async def test_cancelled_anywhere_the_claim_is_given_back(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, store = FakeSource(), FakeStore()
    scene = Scene(source, store, monkeypatch)
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(scene.run)
            await scene.standing_by()
            if where == "taking":
                scene.claims.held["take"] = Event()
            if where == "attaching":
                source.let_look = Event()
            if where != "standing by":
                scene.owners.give_turn()
            if where in {"writing", "giving back"}:
                await scene.link.asked.wait()
                store.let_insert = Event()
                scene.link.deliver(delivery(1))
                await store.inserting.wait()
            if where == "giving back":
                scene.claims.held["give_back"] = Event()
                store.let_insert.set()
                scene.stopping.set()
                await scene.claims.until("give_back")
            await settled()
            group.cancel_scope.cancel()
            for held in (source.let_look, store.let_insert, *scene.claims.held.values()):
                held.set()
    assert scene.owners.open == 0
    assert scene.claims.claims[CLAIM].owner is None
    assert all(session.ended for session in scene.claims.sessions)
    assert scene.changes in ([], [OwnershipChange.TAKEN, OwnershipChange.GIVEN_BACK])


@pytest.mark.parametrize("way", ["refused", "by the board", "refused at once"])
@pytest.mark.parametrize("moment", range(0, 50, 3))
async def test_at_whatever_moment_the_ownership_is_lost_it_is_no_crash(
    moment: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Consumer, batcher and writer end one after the other: each may find that its neighbour is gone."""
    store = FakeStore()
    store.let_insert = Event()
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        for number in range(10 + moment):
            first = 9 * number + 1
            scene.link.deliver(*(delivery(sequence) for sequence in range(first, first + 9)))
            await lowlevel.checkpoint()
            if way == "refused at once":
                store.let_insert.set()
                store.fenced = number > moment
        scene.claims.claims[CLAIM] = Claim("other", 2)
        store.fenced = True
        store.let_insert.set()
        if way == "by the board":
            scene.owners.all[-1].lost.set()
        await scene.standing_by(2)
    assert scene.changes == [OwnershipChange.TAKEN, OwnershipChange.LOST]
