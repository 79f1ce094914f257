"""The consumer in front of a target that does not admit every delivery: a time-series collection."""

from __future__ import annotations

from collector.events import Received, Suspicion
from collector.sinks.timeseries.horizon import Horizon
from tests.support.consuming import playing
from tests.support.fakes import (
    delivery,
    entry,
    settled,
)


async def test_with_a_horizon_what_may_have_been_written_is_handed_on_as_a_suspect() -> None:
    horizon = Horizon(2)
    async with playing(horizon=horizon) as scene:
        scene.link.deliver(*(delivery(number) for number in range(1, 5)))
        assert await scene.came() == [1, 2, 3, 4]
        assert horizon.suspects == {delivery(number).reply: Suspicion.BELOW_HORIZON for number in (1, 2)}
        assert horizon.highest == 4


async def test_a_copy_of_what_is_in_hand_waits_without_holding_up_others_and_is_handed_on_when_that_is_settled() -> (
    None
):
    horizon = Horizon(0)
    first, again = delivery(1), delivery(1, delivered=2)
    async with playing(horizon=horizon) as scene:
        scene.link.deliver(first, again, delivery(2))
        assert await scene.came() == [1, 2]
        assert len(scene.in_hand) == 3, "the copy is kept alive while it waits"
        assert sum(one.messages for one in scene.reports.of(Received)) == 2
        horizon.settled([first], [entry(first)])
        scene.in_hand.release([first])
        scene.pull.wake()
        assert await scene.came() == [1]
        assert horizon.suspects == {again.reply: Suspicion.BELOW_HORIZON}
        received = scene.reports.of(Received)
        assert (sum(one.messages for one in received), sum(one.redelivered for one in received)) == (3, 1)


async def test_a_copy_that_still_waits_at_the_stop_stays_in_hand_to_be_given_back() -> None:
    again = delivery(1, delivered=2)
    async with playing(horizon=Horizon(0)) as scene:
        scene.link.deliver(delivery(1), again)
        assert await scene.came() == [1]
        scene.stopping.set()
        scene.pull.wake()
        await scene.returned.wait()
        assert await scene.came() == []
        assert again in scene.in_hand.all()


async def test_cancelled_while_a_copy_is_handed_on_it_is_in_hand() -> None:
    horizon, first, again = Horizon(0), delivery(1), delivery(1, delivered=2)
    async with playing(horizon=horizon, mailbox=0) as scene:
        scene.link.deliver(first, again)
        assert await scene.came() == [1]
        horizon.settled([first], [entry(first)])
        scene.in_hand.release([first])
        scene.pull.wake()
        await settled()
        assert scene.mailbox.statistics().tasks_waiting_send == 1
        scene.group.cancel_scope.cancel()
    assert scene.in_hand.all() == [again]
