"""A pipeline whose logger has a rule: what the rule drops is answered for, counted, and nowhere stored."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from anyio import Event, create_task_group, fail_after

from collector.actors.pipeline import Pipeline
from collector.events import BatchSettled, LoggerState, Received, State
from collector.settings import Settings
from collector.sinks.timeseries.horizon import Horizon
from collector.telemetry.metrics import Metrics
from collector.telemetry.status import Status
from tests.support.fakes import KEY, FakeLetters, FakeLink, FakeSink, Reports, delivery
from tests.support.moving import ENVIRON, FakeDestination, shared
from tests.support.rules import ByFate
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from collector.events import Event as Happening


class Observed(Reports):
    """Reports that metrics and status hear too."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics, self.status = Metrics("beta", "0", 1), Status("beta", "0")

    def __call__(self, event: Happening) -> None:
        super().__call__(event)
        self.metrics.observe(event)
        self.status.observe(event)


class Scene:
    """A pipeline with a rule."""

    def __init__(self, **target: Any) -> None:
        self.link, self.reports, self.stopping = FakeLink(), Observed(), Event()
        self.sink, self.letters = FakeSink(), FakeLetters()
        of_replica = shared(
            self.link,
            self.reports,
            settings=Settings.read({**ENVIRON, "COLLECTOR_BATCH_ENTRIES": "4"}),
            destinations=FakeDestination(self.sink, self.letters, **target),
            rules_of=lambda spec: [ByFate(f"rule of {spec.key}")],
        )
        self.pipeline = Pipeline(LoggerSpec(KEY), of_replica)

    async def come(self, *fates: str) -> None:
        bodies = [msgspec.msgpack.encode({"data": {"n": n, "fate": fate}}) for n, fate in enumerate(fates, 1)]
        self.link.deliver(*(delivery(number, body) for number, body in enumerate(bodies, 1)))
        await self.reports.until(
            lambda: sum(one.messages for one in self.reports.of(BatchSettled)) == len(fates),
        )

    def answers(self, kind: bytes) -> set[str]:
        return {reply for reply, answer in self.link.answers if answer == kind}

    @property
    def written(self) -> list[int]:
        return [entry.document["n"] for write in self.sink.writes for entry in write]


@asynccontextmanager
async def playing(**target: Any) -> AsyncIterator[Scene]:
    scene = Scene(**target)
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(scene.pipeline.run, scene.stopping)
            await scene.reports.until(
                lambda: [one for one in scene.reports.of(LoggerState) if one.state is State.RUNNING]
            )
            while not scene.link.requests:
                await scene.link.asked.wait()
            yield scene
            scene.stopping.set()


FATES = ["", "drop", "poison", "drop", "drop", "drop", "drop", "drop", "change"]


async def test_what_a_rule_drops_is_acked_stored_nowhere_and_counted() -> None:
    async with playing() as scene:
        await scene.come(*FATES)
    replies = [delivery(number).reply for number in range(1, len(FATES) + 1)]
    assert scene.answers(b"+TERM rule") == {replies[2]}
    assert scene.answers(b"+ACK") == set(replies) - {replies[2]}
    assert scene.written == [1, 9]
    assert [one.delivery.sequence for one in scene.letters.stored] == [3]
    batches = scene.reports.of(BatchSettled)
    assert sum(one.entries for one in batches) == len(FATES), "each entry has one fate"
    assert sum(one.entries for one in scene.reports.of(Received)) == len(FATES)
    rule = f"rule of {KEY}"
    assert sum(one.dropped.get(rule, 0) for one in batches) == 6
    text = scene.reports.metrics.text(0.0).decode()
    assert f'collector_dropped_entries_total{{log_namespace="beta",logger="{KEY}",rule="{rule}"}} 6.0' in text
    status = scene.reports.status.snapshot()
    assert (status["entries"]["dropped"], status["loggers"][KEY]["dropped"]) == (6, 6)


async def test_of_a_logger_whose_entries_are_all_dropped_the_messages_are_gone_and_batches_stay_bounded() -> None:
    async with playing() as scene:
        await scene.come(*["drop"] * 10)
    assert len(scene.answers(b"+ACK")) == 10
    assert scene.sink.writes == []
    assert max(one.messages for one in scene.reports.of(BatchSettled)) <= 4


async def test_what_is_dropped_leaves_the_horizon_of_a_time_series_logger() -> None:
    horizon = Horizon(0)
    async with playing(admission=horizon) as scene:
        await scene.come(*FATES)
    assert (horizon.highest, horizon._sequences, horizon._identities, horizon.suspects) == (
        len(FATES),
        set(),
        set(),
        {},
    )
