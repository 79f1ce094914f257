"""Turns: how many loggers ask for their stream and durable at the same time."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from anyio import Event, Semaphore, create_task_group, fail_after

from collector.actors.pipeline import Pipeline
from collector.actors.supervisor import Pipelines
from collector.events import LoggerState, State
from tests.support.fakes import ATTACHED, FakeLink, Reports, settled
from tests.support.moving import shared
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from collector.jetstream.source import Attached

TURNS = 3
LOGGERS = [f"logger{number}" for number in range(10)]


class SlowSource:
    """The source of whichever logger, which answers when the test says so."""

    def __init__(self) -> None:
        self.asking = self.most = self.asked = 0
        self.answers = Event()

    def of(self, key: str) -> SlowSource:
        """See `Sources`."""
        del key
        return self

    async def attach(self) -> Attached:
        """See `DurableSource`."""
        self.asked += 1
        self.asking += 1
        self.most = max(self.most, self.asking)
        await self.answers.wait()
        self.asking -= 1
        return ATTACHED


@asynccontextmanager
async def asking() -> AsyncIterator[tuple[SlowSource, Reports, Event]]:
    """Have the pipelines of all loggers ask as far as they may; they end when they are asked to stop."""
    source, reports, stopping = SlowSource(), Reports(), Event()
    of_replica = shared(FakeLink(), reports, source=source, turns=Semaphore(TURNS, fast_acquire=True))
    pipelines = Pipelines(lambda spec: Pipeline(spec, of_replica), reports)
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(pipelines.run, stopping)
            await settled()
            for key in LOGGERS:
                pipelines.want(LoggerSpec(key))
            await settled()
            yield source, reports, stopping


async def test_only_some_loggers_ask_at_the_same_time_and_all_of_them_get_their_turn() -> None:
    async with asking() as (source, reports, stopping):
        assert source.asking == TURNS
        source.answers.set()
        await reports.until(lambda: [one.state for one in reports.of(LoggerState)].count(State.RUNNING) == len(LOGGERS))
        stopping.set()
    assert source.most == TURNS


async def test_a_stop_waits_for_those_that_ask_and_not_for_the_turns_of_the_others() -> None:
    async with asking() as (source, _, stopping):
        stopping.set()
        await settled()
        source.answers.set()
    assert source.asked == TURNS
