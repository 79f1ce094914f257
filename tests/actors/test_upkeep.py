"""The upkeep: one task for all loggers, and how few tasks a logger at rest has of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyio import Event, create_task_group, fail_after

from collector.actors.pipeline import Pipeline
from collector.actors.supervisor import Pipelines
from collector.actors.upkeep import Rounds, Upkeep
from collector.events import LoggerState, State
from tests.support.fakes import FakeLink, FakeSource, Reports, settled
from tests.support.keeping import Kept
from tests.support.moving import shared
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    import pytest

MOST_TASKS = 2
"""The supervisor of one logger, and its pipeline, in which the consumer waits."""


async def test_all_jobs_run_until_it_is_asked_to_stop() -> None:
    began, ended, stopping = list[str](), list[str](), Event()

    def job(name: str) -> None:
        began.append(name)

    async def first() -> None:
        job("first")
        try:
            await Event().wait()
        finally:
            ended.append("first")

    async def second() -> None:
        job("second")
        await Event().wait()

    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(Upkeep(first, second).run, stopping)
            await settled()
            assert (sorted(began), ended) == (["first", "second"], [])
            stopping.set()
    assert ended == ["first"]


async def test_every_logger_that_moves_is_asked_to_give_way_in_each_period(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.actors.upkeep._PERIOD", 0.001)
    monkeypatch.setattr("collector.actors.upkeep._AT_ONCE", 2)
    asked = Event()

    class Asked(Kept):
        def give_way(self) -> None:
            super().give_way()
            if self.asked == 3:
                asked.set()

    loggers = [*(Kept() for _ in range(5)), Asked()]
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(Rounds(loggers).run)
            await asked.wait()
            group.cancel_scope.cancel()
    assert {one.asked for one in loggers} == {3}


class AnySource(FakeSource):
    """The source of whichever logger."""

    def of(self, key: str) -> FakeSource:
        del key
        return self


async def tasks_of(loggers: int) -> int:
    """Return how many tasks so many loggers at rest have."""
    reports, stopping = Reports(), Event()
    of_replica = shared(FakeLink(), reports, source=AnySource())
    pipelines = Pipelines(lambda spec: Pipeline(spec, of_replica), reports)
    before = len(asyncio.all_tasks())
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(pipelines.run, stopping)
            await settled()
            for number in range(loggers):
                pipelines.want(LoggerSpec(f"logger{number}"))
            await reports.until(lambda: [one.state for one in reports.of(LoggerState)].count(State.RUNNING) == loggers)
            await settled()
            tasks = len(asyncio.all_tasks()) - before - 1
            stopping.set()
    return tasks


async def test_a_logger_at_rest_has_few_tasks() -> None:
    assert await tasks_of(20) <= 20 * MOST_TASKS
