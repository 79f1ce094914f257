"""A pipeline that cannot write, in an outage and beside a logger that can."""

from __future__ import annotations

import pytest
from anyio import Event, create_task_group, current_time

from collector.actors.upkeep import Rounds
from collector.errors import SinkUnavailable
from collector.events import Failed, Retried, Returned, Stage
from collector.flow.budget import Accounts
from collector.flow.giving_way import TRIAL
from collector.flow.pool import PATIENCE
from tests.actors.test_pipeline import playing
from tests.support.fakes import KEY, FakeSink, delivery, fails

MIB = 1024 * 1024
LARGE = 4 * MIB
DOWN = SinkUnavailable("no primary")


@pytest.mark.parametrize("outage", [True, False], ids=["outage", "only this one"])
async def test_what_cannot_be_written_is_kept_in_an_outage_and_else_given_back_for_those_without_room(
    monkeypatch: pytest.MonkeyPatch, *, outage: bool
) -> None:
    looked, look = Event(), Accounts.has_to_give_way

    def look_and_tell(accounts: Accounts) -> bool:
        nonlocal looked
        looked.set()
        looked = Event()
        return look(accounts)

    monkeypatch.setattr("collector.actors.upkeep._PERIOD", 0.001)
    monkeypatch.setattr(Accounts, "has_to_give_way", look_and_tell)
    async with playing(sink=FakeSink(*[fails(DOWN)] * 10_000)) as scene, create_task_group() as group:
        group.start_soon(Rounds(scene.of_replica.kept).run)
        skew = 0.0
        pools = scene.budget.received, scene.budget.decoded
        for part in (*pools, scene.budget.giving_way):
            part._clock = lambda: current_time() + skew
        await scene.asked()
        other, moving, third = [scene.budget.open(lambda: None) for _ in range(3)]
        third.received.reserve(2 * scene.budget.received.limit)
        third.received.use(2 * scene.budget.received.limit)
        body = b"\x81\xa4data\x81\xa1a\xc6" + LARGE.to_bytes(4, "big") + bytes(LARGE)
        scene.link.deliver(*(delivery(number, body) for number in range(1, 5)))
        await scene.reports.until(lambda: scene.reports.of(Retried))
        assert not other.received.reserve(scene.budget.received.limit), "it has no room"
        if outage:
            for skew in range(int(PATIENCE), int(TRIAL), 5):  # noqa: B007 - the clock looks at it
                other.received.reserve(scene.budget.received.limit)
                await looked.wait()
        else:
            skew = PATIENCE + 1
            moving.settled()
            await scene.reports.until(lambda: scene.reports.of(Returned))
            assert [one for one in scene.reports.of(Failed) if one.stage is Stage.WRITE and "room" in one.error]
        assert scene.reports.of(Returned) == ([] if outage else [Returned(KEY, 4)])
        for beside in (other, moving, third):
            beside.close()
        group.cancel_scope.cancel()


async def test_a_batch_that_is_settled_shows_that_mongodb_takes_writes() -> None:
    async with playing() as scene:
        giving_way, begun = scene.budget.giving_way, current_time()
        giving_way._clock = current_time
        await scene.asked()
        assert giving_way._settled_at < begun
        scene.link.deliver(delivery(1))
        await scene.until_settled()
        assert giving_way._settled_at >= begun
