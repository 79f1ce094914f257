"""The upkeep: one task for all loggers, and how little a logger at rest has of its own."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

from anyio import CancelScope, Event, create_task_group, fail_after

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

MOST_TASKS = 1
"""The supervisor of one logger, in which the pipeline runs and its consumer waits."""
MOST_SCOPES = 2
"""That of the task, and that of the stages."""
MOST_OBJECTS = 160
"""Objects that the garbage collector would traverse."""
LOGGERS = 20


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


def objects() -> tuple[int, int, int]:
    """Return how many tasks, cancel scopes and objects there are."""
    gc.collect()
    there = gc.get_objects()
    return len(asyncio.all_tasks()), sum(isinstance(one, CancelScope) for one in there), len(there)


async def objects_of(loggers: int) -> tuple[int, int, int]:
    """Return how many tasks, cancel scopes and objects so many loggers at rest have."""
    reports, stopping = Reports(), Event()
    of_replica = shared(FakeLink(), reports, source=AnySource())
    pipelines = Pipelines(lambda spec: Pipeline(spec, of_replica), reports)
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(pipelines.run, stopping)
            await settled()
            before = objects()
            for number in range(loggers):
                pipelines.want(LoggerSpec(f"logger{number}"))
            await reports.until(lambda: [one.state for one in reports.of(LoggerState)].count(State.RUNNING) == loggers)
            await settled()
            tasks, scopes, every = (now - then for now, then in zip(objects(), before, strict=True))
            stopping.set()
    return tasks, scopes, every


async def test_a_logger_at_rest_has_few_tasks_scopes_and_objects() -> None:
    await objects_of(1)
    tasks, scopes, every = await objects_of(LOGGERS)
    assert tasks <= LOGGERS * MOST_TASKS
    assert LOGGERS <= scopes <= LOGGERS * MOST_SCOPES
    assert every <= LOGGERS * MOST_OBJECTS
