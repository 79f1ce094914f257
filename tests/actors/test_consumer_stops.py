"""The consumer is asked to stop, or cancelled."""

from __future__ import annotations

import pytest
from anyio import EndOfStream, Event, lowlevel

from tests.support.consuming import playing
from tests.support.fakes import (
    FakeSource,
    delivery,
    frame,
    settled,
)


async def test_asked_to_stop_it_leaves_in_hand_what_there_is_no_room_for() -> None:
    body = b"\x81\xa4data\x81\xa1a\xdc\x27\x10" + b"\x80" * 10_000
    async with playing(limit=2 * 1024 * 1024) as scene:
        scene.link.deliver(delivery(1, body), delivery(2, body))
        assert await scene.came() == [1]
        scene.stopping.set()
        scene.pull.wake()
        await scene.returned.wait()
        assert await scene.came() == []
        assert len(scene.in_hand) == 2


async def test_asked_to_stop_it_hands_on_what_is_still_under_way_and_closes_the_mailbox() -> None:
    async with playing() as scene:
        scene.link.deliver(delivery(1))
        assert await scene.came() == [1]
        scene.link.late = [frame(delivery(2)), frame(delivery(3))]
        scene.stopping.set()
        scene.pull.wake()
        await scene.returned.wait()
        assert await scene.came() == [2, 3]
        assert scene.link.drained.is_set()
        with pytest.raises(EndOfStream):
            await scene.mailbox.receive()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_drain_is_never_cut_and_what_comes_meanwhile_is_handed_on_or_stays_in_hand(*, cancelled: bool) -> None:
    """A call of a driver that is cut leaves the driver in a state that nobody knows; the link has the deadline."""
    async with playing() as scene:
        scene.link.deliver(delivery(1))
        assert await scene.came() == [1]
        scene.link.let_drain = Event()
        scene.stopping.set()
        scene.pull.wake()
        await settled()
        scene.link.deliver(delivery(2))
        if cancelled:
            scene.group.cancel_scope.cancel()
        for _ in range(10):
            await lowlevel.cancel_shielded_checkpoint()
        assert not scene.returned.is_set()
        assert not scene.link.drained.is_set()
        scene.link.let_drain.set()
        if not cancelled:
            await scene.returned.wait()
            assert await scene.came() == [2]
    assert scene.link.drained.is_set()
    assert {one.sequence for one in scene.in_hand.all()} == {1, 2}


@pytest.mark.parametrize("where", ["waiting", "looking", "handing on", "draining"])
async def test_cancelled_anywhere_what_came_is_in_hand_and_the_subscription_ends(where: str) -> None:
    source = FakeSource()
    async with playing(source, mailbox=0) as scene:
        await settled()
        if where == "looking":
            source.let_look = Event()
        if where != "waiting":
            scene.link.deliver(delivery(1))
            await settled()
        if where == "draining":
            scene.link.let_drain = Event()
            scene.stopping.set()
            scene.group.start_soon(scene.mailbox.receive)
            await settled()
        scene.group.cancel_scope.cancel()
        source.let_look.set()
        scene.link.let_drain.set()
    assert scene.link.drained.is_set()
    assert len(scene.in_hand) == (where != "waiting")
    assert not scene.reconnects._listeners
