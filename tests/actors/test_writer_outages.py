"""The writer in an outage, at a stop, and at what nobody foresaw."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from anyio import Event
from anyio.lowlevel import checkpoint

from collector.errors import OwnershipLost, SinkUnavailable
from collector.events import (
    BatchSettled,
    Failed,
    Failure,
    LoggerState,
    Retried,
    Stage,
    State,
    Unsettled,
)
from collector.model import Delivery
from tests.support.fakes import (
    KEY,
    FakeLetters,
    FakeSink,
    all_stored,
    decoded,
    fails,
    refuses,
    settled,
)
from tests.support.writing import DOWN, playing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.model import Rejected


async def test_while_the_sink_is_unavailable_it_tries_again_in_place_and_answers_nothing() -> None:
    async with playing(FakeSink(fails(DOWN), fails(SinkUnavailable("lost", ambiguous=True)))) as scene:
        await scene.write([decoded(1)])
        await scene.reports.until(lambda: len(scene.reports.of(Retried)) == 2)
        assert (scene.answers, len(scene.in_hand)) == ([], 1)
        (event,) = await scene.until_settled(1)
    assert scene.answers == [b"+ACK"]
    assert [(retry.failure, retry.attempt) for retry in scene.reports.of(Retried)] == [
        (Failure.UNAVAILABLE, 1),
        (Failure.AMBIGUOUS, 2),
    ]
    first, second = (retry.delay for retry in scene.reports.of(Retried))
    assert 0.1 <= first < second
    assert event.write_seconds >= first + second


@pytest.mark.parametrize("letters", [FakeLetters(), FakeLetters(*[DOWN] * 4)])
async def test_a_logger_whose_batches_keep_failing_is_failing_until_the_first_is_settled(
    letters: FakeLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.telemetry.failing.FAILING_AFTER", 0.25)
    sink = FakeSink(*[fails(DOWN)] * 4) if not letters.script else FakeSink(refuses(1))
    async with playing(sink, letters) as scene:
        await scene.write([decoded(1)])
        await scene.until_settled(1)
        await scene.write([decoded(2)])
        await scene.until_settled(2)
    states = scene.reports.of(LoggerState)
    assert states == [LoggerState(KEY, State.FAILING, "no primary"), LoggerState(KEY, State.RUNNING)]
    tries = [event for event in scene.reports.all if isinstance(event, (Retried, LoggerState))]
    assert tries.index(states[0]) > 1, "not at the first"


async def test_a_logger_of_which_other_batches_are_settled_is_not_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.telemetry.failing.FAILING_AFTER", 10.0)
    async with playing(FakeSink(fails(DOWN), all_stored, fails(DOWN), all_stored)) as scene:
        for number in (1, 2):
            await scene.write([decoded(number)])
        await scene.until_settled(2)
    assert scene.reports.of(LoggerState) == []


async def test_once_it_is_to_stop_its_state_is_that_of_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.telemetry.failing.FAILING_AFTER", 0.0)
    async with playing(FakeSink(fails(DOWN), fails(DOWN))) as scene:
        await scene.write([decoded(1)])
        await scene.reports.until(lambda: scene.reports.of(LoggerState))
        scene.stopping.set()
    assert scene.reports.of(LoggerState) == [LoggerState(KEY, State.FAILING, "no primary")]


@pytest.mark.parametrize("letters", [FakeLetters(), FakeLetters(*[DOWN] * 100)])
async def test_asked_to_stop_in_an_outage_it_gives_up_and_leaves_the_batch_in_hand(letters: FakeLetters) -> None:
    sink = FakeSink(*[fails(DOWN)] * 100) if not letters.script else FakeSink(refuses(1))
    async with playing(sink, letters) as scene:
        await scene.write([decoded(1)])
        await scene.reports.until(lambda: scene.reports.of(Retried))
        scene.stopping.set()
    assert (scene.answers, len(scene.in_hand)) == ([], 1)
    assert len(scene.reports.of(Failed)) == 1
    assert scene.level.writes == 0


async def test_what_is_stored_of_a_batch_that_is_given_up_is_counted() -> None:
    """Its dead letter could not be stored; the next replica finds the others there, and counts them as duplicates."""
    async with playing(FakeSink(refuses(1)), FakeLetters(*[DOWN] * 100)) as scene:
        await scene.write([decoded(1), decoded(2), decoded(3)])
        await scene.reports.until(lambda: scene.reports.of(Retried))
        scene.stopping.set()
    assert scene.reports.of(BatchSettled) == []
    assert scene.reports.of(Unsettled) == [Unsettled(KEY, 2, 0, Counter())]


async def test_what_is_given_up_before_anything_is_stored_is_not_counted() -> None:
    async with playing(FakeSink(*[fails(DOWN)] * 100)) as scene:
        await scene.write([decoded(1)])
        await scene.reports.until(lambda: scene.reports.of(Retried))
        scene.stopping.set()
    assert scene.reports.of(Unsettled) == []


async def test_cancelled_while_it_answers_it_answers_to_the_end_and_nothing_of_it_is_left_in_hand() -> None:
    """Whatever is in hand is given back, also what was acked."""
    async with playing() as scene:
        answer = scene.link.answer

        async def cancelled_meanwhile(answers: Sequence[tuple[str, bytes]]) -> int:
            scene.group.cancel_scope.cancel()
            await checkpoint()
            return await answer(answers)

        scene.link.answer = cancelled_meanwhile  # type: ignore[method-assign]
        await scene.write([decoded(1)])
        await settled()
    assert (scene.answers, len(scene.in_hand)) == ([b"+ACK"], 0)
    assert len(scene.reports.of(BatchSettled)) == 1
    assert scene.reports.of(Unsettled) == []


async def test_whoever_backs_off_holds_no_turn() -> None:
    """A logger whose collection takes nothing must not keep others from writing."""
    async with playing(FakeSink(fails(DOWN), refuses(1)), FakeLetters(DOWN), write_slots=1) as scene:
        await scene.write([decoded(1)])
        for retries in (1, 2):
            await scene.reports.until(lambda: len(scene.reports.of(Retried)) >= retries)  # noqa: B023 - waited for here
            assert scene.write_slots.value == 1
        await scene.until_settled(1)
    assert [retry.stage for retry in scene.reports.of(Retried)] == [Stage.WRITE, Stage.DEAD_LETTER]


class StalledLetters(FakeLetters):
    """A place of dead letters that takes nothing until the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.let_store = Event()

    async def store(self, rejects: Sequence[Rejected]) -> None:
        await self.let_store.wait()
        await super().store(rejects)


async def test_a_store_of_dead_letters_that_stalls_holds_no_write_slot() -> None:
    """Loggers without a dead letter share the write slots; there may be a single one, as for standard output."""
    letters = StalledLetters()
    async with playing(FakeSink(refuses(1)), letters, write_slots=1) as scene:
        await scene.write([decoded(1)], [decoded(2)])
        (event,) = await scene.until_settled(1)
        assert (event.batch, event.dead_letters) == (2, Counter())
        letters.let_store.set()
        await scene.until_settled(2)
    assert [one.delivery.sequence for one in letters.stored] == [1]


@pytest.mark.parametrize("where", ["write", "letter"])
async def test_what_nobody_foresaw_crashes_it_and_leaves_everything_in_hand(where: str) -> None:
    boom = ValueError("boom")
    sink = FakeSink(fails(boom)) if where == "write" else FakeSink(refuses(1))
    letters = FakeLetters(boom) if where == "letter" else FakeLetters()
    with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012 - the crash ends what goes on in the block
        async with playing(sink, letters) as scene:
            await scene.write([decoded(1)], [decoded(2)])
            await settled()
    assert raised.group_contains(ValueError, match="boom")
    assert b"x" in {one.body for one in scene.in_hand.all() if isinstance(one, Delivery)}
    assert not scene.link.answers or where == "letter"
    assert 1 in {one.sequence for one in scene.in_hand.all()}


@pytest.mark.parametrize(
    "where", ["receiving", "writing", "backing off", "storing letters", "waiting for a free write"]
)
async def test_cancelled_anywhere_it_leaves_in_hand_what_it_has_not_answered(where: str) -> None:
    sink = FakeSink(*[fails(DOWN)] * 100) if where == "backing off" else FakeSink(refuses(1))
    letters = FakeLetters(*[DOWN] * 100) if where == "storing letters" else FakeLetters()
    if where in {"writing", "waiting for a free write"}:
        sink.let_write = Event()
    async with playing(sink, letters, writes=1) as scene:
        if where != "receiving":
            await scene.write([decoded(1)])
        await settled()
        scene.group.cancel_scope.cancel()
    assert (scene.link.answers, scene.admission.batches) == ([], [])
    assert len(scene.in_hand) == (where != "receiving")


async def test_ownership_that_is_lost_ends_it_at_once_and_answers_nothing() -> None:
    """Two writes find it out together; a third, whose result is known, has been answered for."""
    sink = FakeSink(all_stored, fails(OwnershipLost("it")), fails(OwnershipLost("it")))
    with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012 - the loss ends what goes on in the block
        async with playing(sink) as scene:
            await scene.write([decoded(1)])
            await scene.until_settled(1)
            sink.let_write = Event()
            await scene.write([decoded(2)], [decoded(3)])
            await settled()
            sink.let_write.set()
            await scene.stopping.wait()
    assert raised.group_contains(OwnershipLost)
    assert scene.answers == [b"+ACK"]
    assert {one.sequence for one in scene.in_hand.all()} == {2, 3}
    assert scene.reports.of(Retried) == []
