"""The cost of writing and settling a batch of five entries, counted: it is the same on every machine.

100 loggers with ten entries a second each make some hundred batches a second, and a batch costs the same whatever is
in it. Someone who makes a batch dearer finds it out here.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import lowlevel

from collector.events import BatchSettled, LoggerState, State
from collector.events.lifecycle import Observer
from collector.mongodb.calls import database_of, insert, open_mongo
from collector.telemetry.log import EventLog
from collector.telemetry.metrics import Metrics
from collector.telemetry.observers import Observers
from collector.telemetry.status import Status
from tests.support.fakes import KEY, Reports, decoded, settled
from tests.support.writing import playing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    import pytest

    from collector.events import Event
    from collector.local import Mongod

BATCHES = 50
_PASSED_OVER = frozenset({"asyncio", "tests", "contextlib.py"})
CALLS = 180
"""Calls of Python functions a batch, from the writer's mailbox to the settlement. 174 were counted."""
CALLS_OF_AN_INSERT = 70
"""63 were counted; through pymongo's own layers an insert is three tasks besides."""


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """Count the calls of Python functions in the block, but those of the event loop and of the tests.

    Each turn of a coroutine counts as one.
    """
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and not _PASSED_OVER & set(Path(frame.f_code.co_filename).parts):
            calls[frame.f_code.co_qualname] += 1

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


@contextmanager
def counted_tasks() -> Iterator[list[object]]:
    """Note the tasks that are made in the block."""
    loop, made = asyncio.get_running_loop(), list[object]()

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **more)
        made.append(task)
        return task

    loop.set_task_factory(make)
    try:
        yield made
    finally:
        loop.set_task_factory(None)


class Observed(Reports):
    """Reports that metrics, status and log of a replica hear too."""

    def __init__(self) -> None:
        super().__init__()
        metrics, status = Metrics("beta", "1", 1 << 20), Status("beta", "1")
        observers = {
            Observer.METRICS: metrics.observe,
            Observer.STATUS: status.observe,
            Observer.LOG: EventLog().observe,
        }
        self._observe = Observers(observers)

    def __call__(self, event: Event) -> None:
        """Take a report."""
        self.all.append(event)
        self._observe(event)


async def test_a_batch_is_one_event_and_no_task_and_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventLog, "_says_batches", False)  # as in release mode
    reports = Observed()
    reports(LoggerState(KEY, State.RUNNING))
    contents = [[decoded(batch * 5 + number) for number in range(5)] for batch in range(BATCHES + 5)]
    async with playing(write_slots=64, reports=reports) as scene:
        for content in contents:
            scene.in_hand.take([delivery for one in content for delivery in one.deliveries])
        batches = [scene.open_batch(content) for content in contents]
        for batch in batches[:5]:  # until the tasks are there that stay
            await scene.send.send(batch)
            await settled()
        reports.all.clear()
        with counted_tasks() as tasks, counted_calls() as calls:
            for batch in batches[5:]:
                await scene.send.send(batch)
                while not batch.taken or scene.level.writes:
                    await lowlevel.checkpoint()
    assert Counter(type(event) for event in reports.all) == {BatchSettled: BATCHES}
    assert tasks == []
    assert calls.total() < CALLS * BATCHES, most_common(calls)


def most_common(calls: Counter[str]) -> str:
    return ", ".join(f"{name} {count / BATCHES:g}" for name, count in calls.most_common(25))


async def test_an_insert_is_no_task_and_few_calls(mongod: Mongod, namespace: str) -> None:
    async with open_mongo(mongod.url) as client:
        database = database_of(client, namespace)

        async def write() -> None:
            await insert(database, "a", [{"n": number} for number in range(5)], 30)

        await write()
        tasks, calls = await _cost_of(write)
    assert tasks == 0
    assert calls.total() < CALLS_OF_AN_INSERT * BATCHES, most_common(calls)


async def _cost_of(write: Callable[[], Any]) -> tuple[int, Counter[str]]:
    """Return tasks and calls; pymongo's own watching is left out."""
    here = asyncio.current_task()
    calls: Counter[str] = Counter()
    with counted_tasks() as tasks:
        for _ in range(BATCHES):
            with counted_calls() as counted:
                await write()
            calls += counted
    of_pymongo = [task for task in tasks if task is not here and "monitor" in repr(task).lower()]
    return len(tasks) - len(of_pymongo), calls
