"""Batcher and writer run while entries come; at rest a logger has neither, and nothing is lost in between."""

from __future__ import annotations

import asyncio

from collector.events import BatchSettled
from tests.actors.test_pipeline import playing
from tests.support.fakes import delivery, settled


def tasks() -> set[str]:
    """Return the kinds of the tasks that write."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return {name.rpartition(" ")[2] for name in names if name.endswith(("batcher", "writer"))}


async def test_they_begin_with_the_first_entry_and_end_when_nothing_came_between_two_looks() -> None:
    async with playing() as scene:
        await scene.asked()
        (logger,) = scene.of_replica.kept
        assert tasks() == set()
        for number in range(1, 4):
            scene.link.deliver(delivery(number))
            await scene.until_settled(number)
            await settled()
            logger.rest()
            await settled()
            assert tasks() == {"batcher", "writer"}, "something came since the last look"
            logger.rest()
            await settled()
            assert tasks() == set()
    assert [one.batch for one in scene.reports.of(BatchSettled)] == [1, 2, 3]


async def test_they_go_on_while_something_is_in_hand() -> None:
    async with playing() as scene:
        await scene.asked()
        (logger,) = scene.of_replica.kept
        scene.link.deliver(delivery(1))
        assert logger.in_hand
        for _ in range(3):
            logger.rest()
        await scene.until_settled()
    assert scene.answers(b"+ACK") == {delivery(1).reply}


async def test_a_logger_that_rests_drains_at_a_stop_as_one_that_works() -> None:
    async with playing() as scene:
        await scene.asked()
        (logger,) = scene.of_replica.kept
        for _ in range(2):
            logger.rest()
        scene.link.deliver(delivery(1), delivery(2))
        scene.stopping.set()
    assert scene.answers(b"+ACK") == {delivery(1).reply, delivery(2).reply}
