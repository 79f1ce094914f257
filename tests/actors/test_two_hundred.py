"""Two hundred pipelines of one replica, without servers: the trouble of some is not that of the others."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
from anyio import Event, create_task_group, fail_after

from collector.actors.pipeline import Pipeline
from collector.actors.supervisor import Pipelines
from collector.errors import SinkUnavailable
from collector.events import BatchSettled, Crashed, Failed, LoggerState, Retried, State
from collector.flow.budget import Budget
from collector.jetstream.connection import Reconnects
from collector.jetstream.pace import Pace
from tests.support.fakes import ATTACHED, FakeLetters, FakeLink, FakeSink, FakeSource, Reports, delivery, settled
from tests.support.moving import MIB, FakeDestination, shared
from transfer.errors import Unavailable
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from collector.jetstream.source import Attached
    from collector.sinks import Target
    from tests.support.fakes import FakeWriting

KINDS = {"good": 50, "streamless": 30, "away": 30, "poison": 30, "letterless": 30, "crashing": 30}
MESSAGES = 20
GOOD, POISON = b"\x81\xa4data\x80", b"\xc1"
AWAY = SinkUnavailable("away")


class AnySource(FakeSource):
    """A source of whatever logger."""

    def of(self, key: str) -> AnySource:
        del key
        return self


class AwaySink(FakeSink):
    """A sink that is away for good."""

    def __init__(self) -> None:
        super().__init__(self.refuse)

    def refuse(self, _: FakeWriting) -> None:
        self.script.append(self.refuse)
        raise AWAY


class AwayLetters(FakeLetters):
    """Dead letters that nobody can store."""

    async def store(self, rejects: object) -> None:
        del rejects
        raise AWAY


class CrashingDestination(FakeDestination):
    """A destination with a fault that nobody foresaw."""

    @asynccontextmanager
    async def opened(self, attached: Attached, stopping: Event) -> AsyncIterator[Target | None]:
        async with super().opened(attached, stopping) as target:
            if target is not None:
                raise RuntimeError("a fault")
            yield target


@dataclass
class Played:
    """The outside of one logger."""

    source: FakeSource
    destination: FakeDestination
    letters: FakeLetters
    link: FakeLink
    body: bytes


def played(kind: str) -> Played:
    source = AnySource(Unavailable("no leader")) if kind == "streamless" else AnySource(ATTACHED)
    letters = AwayLetters() if kind == "letterless" else FakeLetters()
    sink = AwaySink() if kind == "away" else FakeSink()
    destination = (CrashingDestination if kind == "crashing" else FakeDestination)(sink, letters)
    body = POISON if kind in {"poison", "letterless"} else GOOD
    return Played(source, destination, letters, FakeLink(), body)


class Scene:
    """All pipelines of a replica, each between an outside of its own; budget and supervisor are one for all."""

    def __init__(self) -> None:
        self.reports, self.stopping, self.budget, self.reconnects = (
            Reports(),
            Event(),
            Budget(64 * MIB, lambda: 0.0),
            Reconnects(),
        )
        self.outsides = {f"{kind}{n}": played(kind) for kind, count in KINDS.items() for n in range(count)}
        self.pipelines = Pipelines(self._pipeline, self.reports)

    def _pipeline(self, spec: LoggerSpec) -> Pipeline:
        outside = self.outsides[spec.key]
        return Pipeline(
            spec,
            shared(
                outside.link,
                self.reports,
                self.reconnects,
                outside.source,
                destinations=outside.destination,
                budget=self.budget,
            ),
        )

    def of(self, kind: str) -> dict[str, Played]:
        return {key: outside for key, outside in self.outsides.items() if key.startswith(kind)}

    def settled_entries(self, kind: str) -> int:
        return sum(event.written for event in self.reports.of(BatchSettled) if event.logger.startswith(kind))

    def failing(self) -> set[str]:
        return {event.logger for event in self.reports.of(Failed)}

    def deliver(self) -> None:
        """Let messages come to each logger that has asked for some."""
        for outside in self.outsides.values():
            if outside.link.requests:
                outside.link.deliver(*(delivery(number, outside.body) for number in range(1, MESSAGES + 1)))


@pytest.fixture
def heartbeats_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no logger pass for silent on a busy machine: nobody plays heartbeats."""
    monkeypatch.setattr("collector.actors.pipeline.Pace", partial(Pace, shortest=60.0))


@asynccontextmanager
async def playing() -> AsyncIterator[Scene]:
    scene = Scene()
    with fail_after(120):
        async with create_task_group() as group:
            group.start_soon(scene.pipelines.run, scene.stopping)
            await settled()
            for key in scene.outsides:
                scene.pipelines.want(LoggerSpec(key))
            await settled()
            yield scene
            scene.stopping.set()
    assert scene.budget.decoded.accounts == set()
    assert scene.budget.used == 0
    assert not scene.reconnects._listeners


@pytest.mark.usefixtures("heartbeats_are_rare")
async def test_the_trouble_of_150_pipelines_is_none_of_50_others() -> None:
    async with playing() as scene:
        scene.deliver()
        await scene.reports.until(lambda: scene.settled_entries("good") == MESSAGES * len(scene.of("good")))
        await scene.reports.until(lambda: len(scene.reports.of(Crashed)) >= 2 * len(scene.of("crashing")))
    replies = [(delivery(number).reply, b"+ACK") for number in range(1, MESSAGES + 1)]
    for outside in scene.of("good").values():
        assert outside.link.answers == replies
    troubled = {event.logger for event in scene.reports.of(Failed)} | {
        event.logger for event in scene.reports.of(Retried)
    }
    assert not troubled & scene.of("good").keys()
    states: dict[str, list[State | None]] = {key: [] for key in scene.outsides}
    for event in scene.reports.of(LoggerState):
        states[event.logger].append(event.state)
    for key in scene.of("good"):
        assert states[key] == [State.RUNNING, State.DRAINING, None]


async def test_each_kind_of_trouble_is_said_of_its_loggers_and_loses_nothing() -> None:
    async with playing() as scene:
        scene.deliver()
        poison = scene.of("poison").values()
        await scene.reports.until(lambda: all(len(one.letters.stored) == MESSAGES for one in poison))
        await scene.reports.until(lambda: {*scene.of("away"), *scene.of("letterless")} <= scene.failing())
    for outside in poison:
        assert {answer[:5] for _, answer in outside.link.answers} == {b"+TERM"}
        assert len(outside.link.answers) == MESSAGES
    for kind in ("away", "letterless"):
        for outside in scene.of(kind).values():
            answers = {answer[:4] for _, answer in outside.link.answers}
            assert answers <= {b"-NAK", b"+WPI"}, "nothing is answered for that is not stored"
    for key, outside in scene.of("streamless").items():
        assert not outside.link.requests
        assert State.BACKING_OFF in {event.state for event in scene.reports.of(LoggerState) if event.logger == key}


async def test_200_pipelines_ask_for_no_more_than_the_budget_has() -> None:
    async with playing() as scene:
        asked = sum(body["max_bytes"] for outside in scene.outsides.values() for _, body in outside.link.requests)
        assert 0 < asked <= scene.budget.received.limit
        assert sum(len(outside.link.requests) for outside in scene.outsides.values()) == sum(
            count for kind, count in KINDS.items() if kind not in {"streamless", "crashing"}
        )
