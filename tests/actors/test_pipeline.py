"""A whole pipeline between a scripted JetStream and a scripted sink."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event, create_task_group, current_time, fail_after

from collector.actors.pipeline import Pipeline
from collector.errors import SinkUnavailable
from collector.events import BatchSettled, Held, LoggerState, Returned, State
from collector.flow.budget import Budget
from collector.jetstream.connection import Reconnects
from tests.support.fakes import (
    ANOTHER_LIFE,
    ATTACHED,
    KEY,
    FakeLetters,
    FakeLink,
    FakeSink,
    FakeSource,
    Reports,
    delivery,
    fails,
    frame,
    settled,
)
from tests.support.moving import FakeDestination, shared
from transfer.difference import Difference, Remedy
from transfer.errors import DurableInUse, Misconfigured, Unavailable, UnknownStream
from transfer.wire import LoggerSpec, StreamSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import TaskGroup

NO_STREAM = UnknownStream("$JS.API.STREAM.INFO", 404, 10059, "stream not found")


class Scene:
    """A pipeline that runs."""

    def __init__(
        self,
        source: FakeSource,
        sink: FakeSink,
        letters: FakeLetters,
        spec: LoggerSpec,
    ) -> None:
        self.source, self.sink, self.letters, self.link = source, sink, letters, FakeLink()
        self.reports, self.stopping, self.reconnects = Reports(), Event(), Reconnects()
        self.budget = Budget(64 * 1024 * 1024)
        self.group: TaskGroup
        self.skew = 0.0
        """Seconds by which the pipeline's clock is ahead."""
        self.destination = FakeDestination(sink, letters)
        self.of_replica = of_replica = shared(
            self.link,
            self.reports,
            self.reconnects,
            source,
            destinations=self.destination,
            budget=self.budget,
            clock=lambda: current_time() + self.skew,
        )
        self.doubts = of_replica.doubts
        self.pipeline = Pipeline(spec, of_replica)

    async def asked(self, requests: int = 1) -> None:
        while len(self.link.requests) < requests:
            await self.link.asked.wait()

    async def until_settled(self, batches: int = 1) -> None:
        await self.reports.until(lambda: len(self.reports.of(BatchSettled)) >= batches)

    @property
    def states(self) -> list[State | None]:
        return [event.state for event in self.reports.of(LoggerState)]

    def answers(self, kind: bytes) -> set[str]:
        return {reply for reply, answer in self.link.answers if answer == kind}


@asynccontextmanager
async def playing(
    source: FakeSource | None = None,
    sink: FakeSink | None = None,
    letters: FakeLetters | None = None,
    spec: LoggerSpec | None = None,
) -> AsyncIterator[Scene]:
    actual = spec or LoggerSpec(KEY)
    scene = Scene(source or FakeSource(), sink or FakeSink(), letters or FakeLetters(), actual)
    with fail_after(60):
        async with create_task_group() as scene.group:
            scene.group.start_soon(scene.pipeline.run, scene.stopping)
            yield scene
            scene.stopping.set()
    assert scene.budget.decoded.accounts == set()
    assert scene.budget.used == 0
    assert not scene.reconnects._listeners


async def test_what_comes_is_stored_and_acked() -> None:
    async with playing() as scene:
        await scene.asked()
        scene.link.deliver(*(delivery(number) for number in range(1, 6)))
        await scene.until_settled()
    assert scene.answers(b"+ACK") == {delivery(number).reply for number in range(1, 6)}
    assert scene.states == [State.RUNNING, State.DRAINING]
    assert scene.reports.of(Returned) == []
    assert scene.reports.of(Held)[-1] == Held(KEY, 0, 0)


async def test_a_stream_that_does_not_exist_yet_is_waited_for_and_that_is_said_once() -> None:
    source = FakeSource(NO_STREAM, NO_STREAM, Unavailable("no leader"), ATTACHED)
    async with playing(source) as scene:
        await scene.asked()
    assert scene.states == [State.BACKING_OFF, State.BACKING_OFF, State.RUNNING, State.DRAINING]
    assert [event.why for event in scene.reports.of(LoggerState)][:2] == [str(NO_STREAM), "no leader"]


def paused(remedy: Remedy = Remedy.MEND) -> Difference:
    return Difference("durable 'x'", "pause_until", "not in the future", "2124", remedy, "why", "nats consumer resume")


async def test_what_somebody_else_has_to_change_is_a_state_of_its_own_until_it_is_changed() -> None:
    found = (Misconfigured(paused()), Misconfigured(paused()), DurableInUse("x"), ATTACHED)
    async with playing(FakeSource(*found)) as scene:
        await scene.asked()
    assert scene.states == [State.MISCONFIGURED, State.MISCONFIGURED, State.RUNNING, State.DRAINING]
    first = scene.reports.of(LoggerState)[0].why
    assert first == "durable 'x': expected pause_until not in the future, got 2124 (why); nats consumer resume"


async def test_a_pipeline_whose_stream_or_durable_is_doubted_writes_what_it_has_and_looks() -> None:
    source = FakeSource(ATTACHED, ATTACHED, Misconfigured(paused()), ATTACHED)
    async with playing(source) as scene:
        await scene.asked()
        scene.link.deliver(delivery(1))
        await settled()
        scene.doubts.doubt(KEY)
        await scene.asked(3)
        scene.doubts.doubt("another")
    assert scene.answers(b"+ACK") == {delivery(1).reply}
    began, mended = [State.RUNNING, State.DRAINING], [State.RUNNING, State.DRAINING]
    assert scene.states == [*began, State.MISCONFIGURED, *mended]


async def test_what_may_happen_to_entries_is_said_of_a_running_logger_unless_its_spec_states_it() -> None:
    old = Difference("stream 'x'", "max_age", "not set", "60 s", Remedy.RISK, "gone", "", 60 * 10**9, None, "max_age")
    risky = replace(ATTACHED, risks=(paused(Remedy.RISK), old))
    for stated, said in ((None, 2), (StreamSpec(max_age=60.0), 1), (StreamSpec(max_age=61.0), 2)):
        async with playing(FakeSource(risky), spec=LoggerSpec(KEY, stream=stated)) as scene:
            await scene.asked()
        assert len(scene.reports.of(LoggerState)[0].why.split("; stream")) == said


async def test_asked_to_stop_while_it_waits_for_a_stream_it_returns() -> None:
    async with playing(FakeSource(NO_STREAM)) as scene:
        await scene.reports.until(lambda: scene.states)
    assert scene.link.requests == []


async def test_asked_to_stop_what_is_under_way_is_still_written() -> None:
    async with playing() as scene:
        await scene.asked()
        scene.link.deliver(delivery(1))
        await settled()
        scene.link.late = [frame(delivery(2)), frame(delivery(3))]
    assert scene.answers(b"+ACK") == {delivery(number).reply for number in (1, 2, 3)}
    assert scene.answers(b"-NAK") == set()


async def test_asked_to_stop_in_an_outage_everything_in_hand_is_given_back() -> None:
    async with playing(sink=FakeSink(*[fails(SinkUnavailable("down"))] * 1000)) as scene:
        await scene.asked()
        scene.link.deliver(*(delivery(number) for number in range(1, 4)))
        await scene.reports.until(lambda: len(scene.sink.writes) > 1)
    assert scene.answers(b"-NAK") == {delivery(number).reply for number in (1, 2, 3)}
    assert scene.reports.of(Returned) == [Returned(KEY, 3)]


async def test_what_nobody_foresaw_is_a_crash_that_gives_everything_back_at_once() -> None:
    """No inbox is open any more by then: what is given back must not come straight back to us."""
    sink = FakeSink(fails(ValueError("boom")))
    with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012 - the crash ends what goes on in the block
        async with playing(sink=sink) as scene:
            await scene.asked()
            sink.let_write = Event()
            scene.link.deliver(*(delivery(number) for number in range(1, 4)))
            await sink.writing.wait()
            scene.link.deliver(*(delivery(number) for number in range(4, 6)))
            sink.let_write.set()
            await scene.stopping.wait()
    assert raised.group_contains(ValueError, match="boom")
    assert scene.answers(b"-NAK") == {delivery(number).reply for number in range(1, 6)}
    assert scene.link.drained.is_set()


async def test_a_drain_that_takes_too_long_is_cut_and_the_rest_given_back() -> None:
    sink = FakeSink()
    sink.let_write = Event()
    async with playing(sink=sink) as scene:  # 16 s less 10 s for a write and 5 s for the closing
        await scene.asked()
        scene.link.deliver(delivery(1))
        await sink.writing.wait()
    assert scene.answers(b"-NAK") == {delivery(1).reply}


async def test_a_stream_that_is_made_anew_begins_a_new_life_with_other_identities() -> None:
    source = FakeSource(ATTACHED, ATTACHED, ANOTHER_LIFE)
    async with playing(source) as scene:
        await scene.asked()
        scene.link.deliver(delivery(1))
        await scene.until_settled()
        scene.link.say("409 Consumer Deleted")
        await scene.asked(2)
        assert scene.link.requests[1][0].startswith("_INBOX.2.")
        scene.link.deliver(delivery(1))
        await scene.until_settled(2)
    identities = [write[0].document["_id"] for write in scene.sink.writes]
    assert identities == [attached.incarnation.identity(1) for attached in (ATTACHED, ANOTHER_LIFE)]
    assert scene.states == [State.RUNNING, State.RUNNING, State.DRAINING]


async def test_a_poison_message_is_kept_and_terminated_and_its_neighbours_stored() -> None:
    async with playing() as scene:
        await scene.asked()
        scene.link.deliver(delivery(1), delivery(2, b"\xc1"), delivery(3))
        await scene.until_settled()
    assert scene.answers(b"+ACK") == {delivery(1).reply, delivery(3).reply}
    assert scene.answers(b"+TERM malformed") == {delivery(2).reply}
    assert [letter.body for letter in scene.letters.stored] == [b"\xc1"]


def boom(*args: object, **named: object) -> Any:
    del args, named
    raise ValueError("boom")


PREPARED = ["rules_of", "not_meant", "Codec", "InHand", "Pull", "Settler", "Moving", "Stages"]
"""The functions and classes that the pipeline calls before its stages run; any of them may raise."""


@pytest.mark.parametrize("call", PREPARED)
async def test_what_nobody_foresaw_in_the_preparation_leaves_no_account_and_no_subscription(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(FakeSource(), FakeSink(), FakeLetters(), LoggerSpec(KEY))
    if call == "rules_of":
        of_replica = replace(scene.of_replica, rules_of=boom)
        scene.pipeline = Pipeline(LoggerSpec(KEY), of_replica)
    else:
        monkeypatch.setattr(f"collector.actors.pipeline.{call}", boom)
    with fail_after(60), pytest.raises(ValueError, match="boom"):
        await scene.pipeline.run(scene.stopping)
    assert scene.budget.decoded.accounts == scene.budget.received.accounts == set()
    assert scene.link.receive is FakeLink().receive
    assert scene.destination.ends == ["closed"]


async def test_cancelled_everything_in_hand_is_given_back() -> None:
    sink = FakeSink()
    sink.let_write = Event()
    scene = Scene(FakeSource(), sink, FakeLetters(), LoggerSpec(KEY))
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(scene.pipeline.run, scene.stopping)
            await scene.asked()
            scene.link.deliver(delivery(1), delivery(2))
            await sink.writing.wait()
            scene.link.deliver(delivery(3))
            group.cancel_scope.cancel()
    assert scene.answers(b"-NAK") == {delivery(number).reply for number in (1, 2, 3)}
    assert scene.budget.used == 0
