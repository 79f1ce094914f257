"""The writer in front of a scripted sink."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from anyio import Event, Semaphore, WouldBlock, create_memory_object_stream, create_task_group, fail_after
from anyio.lowlevel import checkpoint

from collector.actors.writer import Writer
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
    WritesInProgress,
)
from collector.flow.batching import OpenBatch
from collector.flow.in_hand import InHand
from collector.flow.settler import Settler
from collector.model import Decoded, Delivery, Entry, Reason, Refusal, Trigger
from collector.settings import Settings
from collector.sinks import PassAll
from tests.support.fakes import (
    KEY,
    FakeLetters,
    FakeLink,
    FakeSink,
    FakeWriting,
    Reports,
    all_known,
    all_stored,
    decoded,
    delivery,
    fails,
    open_batch,
    refuses,
    settled,
    unopened,
)
from tests.support.moving import ENVIRON, moving, shared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Sequence

    from anyio.abc import TaskGroup

DOWN = SinkUnavailable("no primary")


class Woken:
    """What the writer needs of a pull: a link that answers, and to be woken."""

    def __init__(self, link: FakeLink) -> None:
        self.link = link
        self.woken = 0

    async def answer(self, answers: Sequence[tuple[str, bytes]]) -> int:
        return await self.link.answer(answers)

    def wake(self) -> None:
        self.woken += 1


class Settled(PassAll):
    """An admission that notes what was settled."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[int], int]] = []
        """The sequences of each batch, and how many entries it had."""

    def settled(self, deliveries: Collection[Delivery], entries: Iterable[Entry]) -> None:
        self.batches.append(([one.sequence for one in deliveries], len(list(entries))))


class Scene:
    """A writer that runs."""

    def __init__(self, sink: FakeSink, letters: FakeLetters, writes: int, write_slots: int) -> None:
        self.sink, self.letters, self.link = sink, letters, FakeLink()
        self.reports, self.stopping = Reports(), Event()
        self.write_slots = Semaphore(write_slots)
        self._drafts = 0
        self.send, inbox = create_memory_object_stream[OpenBatch](0)
        self.group: TaskGroup
        settings = Settings.read({**ENVIRON, "COLLECTOR_WRITES": str(writes)})
        self.admission, self.pull = Settled(), Woken(self.link)
        pull: Any = self.pull
        whole = moving(
            shared(self.link, self.reports, settings=settings),
            sink=sink,
            letters=letters,
            admission=self.admission,
            write_slots=self.write_slots,
        )
        self.in_hand = whole.in_hand
        self.writer = Writer(
            replace(whole, pull=pull, settler=Settler(KEY, self.in_hand, self.link, self.reports)), inbox
        )

    async def write(self, *contents: list[Decoded]) -> None:
        """Offer a draft of each, full, and have it in hand."""
        for content in contents:
            self.in_hand.take([delivery for one in content for delivery in one.deliveries])
            await self.send.send(self.open_batch(content))

    def open_batch(self, content: list[Decoded]) -> OpenBatch:
        self._drafts += 1
        return open_batch(*content, number=self._drafts)

    @property
    def answers(self) -> list[bytes]:
        return [answer for _, answer in self.link.answers]

    async def until_settled(self, batches: int) -> list[BatchSettled]:
        await self.reports.until(lambda: len(self.reports.of(BatchSettled)) == batches)
        return self.reports.of(BatchSettled)


@asynccontextmanager
async def playing(
    sink: FakeSink | None = None, letters: FakeLetters | None = None, writes: int = 2, write_slots: int = 9
) -> AsyncIterator[Scene]:
    scene = Scene(sink or FakeSink(), letters or FakeLetters(), writes, write_slots)
    with fail_after(60):
        async with scene.send, create_task_group() as scene.group:
            scene.group.start_soon(scene.writer.run, scene.stopping)
            yield scene
            await scene.send.aclose()


async def test_what_is_stored_is_acked_counted_and_no_longer_in_hand() -> None:
    async with playing() as scene:
        await scene.write([decoded(1), decoded(2)])
        (event,) = await scene.until_settled(1)
    assert scene.answers == [b"+ACK", b"+ACK"]
    assert (len(scene.in_hand), scene.admission.batches, scene.pull.woken) == (0, [([1, 2], 2)], 1)
    assert (event.messages, event.entries, event.written, event.duplicates, event.unanswered) == (2, 2, 2, 0, 0)
    assert (event.trigger, event.bytes, event.dead_letters.total()) == (Trigger.ENTRIES, 2, 0)
    assert scene.reports.of(WritesInProgress) == [WritesInProgress(KEY, 1), WritesInProgress(KEY, 0)]


async def test_a_duplicate_is_acknowledged_as_written() -> None:
    async with playing(FakeSink(all_known)) as scene:
        await scene.write([decoded(1)])
        (event,) = await scene.until_settled(1)
    assert scene.answers == [b"+ACK"]
    assert (event.written, event.duplicates) == (0, 1)


async def test_a_refused_entry_is_kept_as_a_dead_letter_and_terminated_with_its_reason() -> None:
    async with playing(FakeSink(refuses(2))) as scene:
        await scene.write([decoded(1), decoded(2), decoded(3)])
        (event,) = await scene.until_settled(1)
    assert scene.answers == [b"+ACK", b"+TERM document_invalid", b"+ACK"]
    (letter,) = scene.letters.stored
    assert (letter.delivery.sequence, letter.error, letter.body) == (2, "expected a better one", b"x")
    assert (event.written, dict(event.dead_letters)) == (2, {Reason.DOCUMENT_INVALID: 1})


async def test_an_entry_that_could_not_be_opened_is_kept_without_being_written() -> None:
    async with playing() as scene:
        bad = delivery(1)
        await scene.write([unopened(bad)])
        await scene.until_settled(1)
    assert scene.sink.writes == []
    assert scene.answers == [b"+TERM malformed"]
    assert len(scene.letters.stored) == 1


async def test_a_bundle_with_one_refused_entry_is_acked_and_the_entry_kept() -> None:
    def refuse_one(writing: FakeWriting) -> None:
        writing.written.refused.append(Refusal(writing.left.pop(1), Reason.DOCUMENT_INVALID, "expected a better one"))
        all_stored(writing)

    bundle = bytes.fromhex("93") + 3 * bytes.fromhex("81 a464617461 80")
    one = decoded(1, entries=3, body=bundle)
    headed = b"NATS/1.0\r\nContent-Type: application/vnd.transfer.bundle+msgpack\r\n\r\n"
    of = msgspec.structs.replace(one.deliveries[0], raw_headers=headed)
    entries = [Entry(of, entry.position, entry.document, own_id=False) for entry in one.entries]
    async with playing(FakeSink(refuse_one)) as scene:
        await scene.write([Decoded([of], entries, [], 1)])
        (event,) = await scene.until_settled(1)
    assert scene.answers == [b"+ACK"]
    assert [(letter.position, letter.body) for letter in scene.letters.stored] == [
        (1, bytes.fromhex("81 a464617461 80"))
    ]
    assert event.written == 2


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


async def test_what_is_known_of_a_batch_is_remembered_over_its_attempts() -> None:
    def half(writing: FakeWriting) -> None:
        left = writing.left[2:]
        writing.left = writing.left[:2]
        refuses(1)(writing)
        writing.left = left
        raise SinkUnavailable("write error 91")

    async with playing(FakeSink(half)) as scene:
        await scene.write([decoded(1), decoded(2), decoded(3), decoded(4)])
        (event,) = await scene.until_settled(1)
    assert [[one.delivery.sequence for one in write] for write in scene.sink.writes] == [[1, 2, 3, 4], [3, 4]]
    assert scene.answers == [b"+TERM document_invalid", b"+ACK", b"+ACK", b"+ACK"]
    assert (event.written, event.dead_letters.total()) == (3, 1)
    assert scene.reports.of(Retried)[0].error == "write error 91"


async def test_nothing_is_answered_before_its_dead_letter_is_stored() -> None:
    async with playing(FakeSink(refuses(1)), FakeLetters(DOWN, DOWN)) as scene:
        await scene.write([decoded(1), decoded(2)])
        await scene.reports.until(lambda: len(scene.reports.of(Retried)) == 2)
        assert (scene.answers, len(scene.in_hand), scene.letters.stored) == ([], 2, [])
        await scene.until_settled(1)
    assert scene.answers == [b"+TERM document_invalid", b"+ACK"]
    assert [retry.stage for retry in scene.reports.of(Retried)] == [Stage.DEAD_LETTER] * 2
    assert len(scene.sink.writes) == 1, "what is stored is not written again for the sake of a letter"


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
    assert scene.reports.of(WritesInProgress)[-1] == WritesInProgress(KEY, 0)


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


async def test_a_batch_that_waits_for_its_turn_is_not_on_its_way() -> None:
    async with playing(write_slots=1) as scene:
        await scene.write_slots.acquire()
        await scene.write([decoded(1)], [decoded(2)])
        await settled()
        assert scene.reports.of(WritesInProgress) == []
        scene.write_slots.release()
        await scene.until_settled(2)
    assert [event.writes for event in scene.reports.of(WritesInProgress)][-1] == 0


async def test_asked_to_stop_with_a_sink_that_works_it_writes_what_is_there() -> None:
    async with playing() as scene:
        scene.stopping.set()
        await scene.write([decoded(1)], [decoded(2)])
    assert scene.answers == [b"+ACK", b"+ACK"]


async def test_several_batches_are_written_at_a_time_and_not_more() -> None:
    sink = FakeSink()
    sink.let_write = Event()
    async with playing(sink, writes=2) as scene:
        await scene.write([decoded(1)], [decoded(2)])
        await settled()
        with pytest.raises(WouldBlock):  # nobody receives
            scene.send.send_nowait(scene.open_batch([decoded(3)]))
        sink.let_write.set()
        await scene.write([decoded(3)])
        await scene.until_settled(3)
    assert sink.most_at_once == 2


async def test_a_batch_is_what_was_there_when_its_write_had_its_turn() -> None:
    async with playing(write_slots=1) as scene:
        await scene.write_slots.acquire()
        one = open_batch(decoded(1), limit=10)
        await scene.send.send(one)
        await settled()
        one.add(decoded(2))
        scene.write_slots.release()
        (event,) = await scene.until_settled(1)
    assert (event.messages, event.trigger) == (2, Trigger.DRAIN)
    assert one.taken


async def test_whoever_backs_off_holds_no_turn() -> None:
    """A logger whose collection takes nothing must not keep others from writing."""
    async with playing(FakeSink(fails(DOWN), refuses(1)), FakeLetters(DOWN), write_slots=1) as scene:
        await scene.write([decoded(1)])
        for retries in (1, 2):
            await scene.reports.until(lambda: len(scene.reports.of(Retried)) >= retries)  # noqa: B023 - waited for here
            assert scene.write_slots.value == 1
        await scene.until_settled(1)
    assert [retry.stage for retry in scene.reports.of(Retried)] == [Stage.WRITE, Stage.DEAD_LETTER]


@pytest.mark.parametrize(("unsent", "owed"), [(3, [1, 2, 3]), (2, [2, 3]), (1, [3]), (0, [])])
async def test_answers_that_are_not_sent_are_counted_and_owed_without_what_they_answer(
    unsent: int, owed: list[int]
) -> None:
    async with playing() as scene:

        async def lose(answers: Sequence[tuple[str, bytes]]) -> int:
            assert len(answers) == 3
            return unsent

        scene.link.answer = lose  # type: ignore[method-assign]
        await scene.write([decoded(1), decoded(2), decoded(3)])
        (event,) = await scene.until_settled(1)
    assert (event.unanswered, event.owed, len(scene.in_hand), scene.in_hand.bytes) == (0, unsent, 0, 0)
    assert scene.in_hand.take_owed() == [(delivery(number).reply, b"+ACK") for number in owed]
    assert not scene.in_hand.owes


@pytest.mark.parametrize("how", ["disown", "drop"])
async def test_what_is_owed_is_forgotten_with_its_stream_or_its_owner(how: str) -> None:
    in_hand = InHand()
    in_hand.owe([(delivery(1).reply, b"+ACK")])
    getattr(in_hand, how)()
    assert not in_hand.owes


async def test_what_was_disowned_while_it_was_written_is_not_answered() -> None:
    sink = FakeSink()
    sink.let_write = Event()
    async with playing(sink) as scene:
        await scene.write([decoded(1), decoded(2)])
        await sink.writing.wait()
        scene.in_hand.disown()
        sink.let_write.set()
        (event,) = await scene.until_settled(1)
    assert scene.answers == []
    assert (event.written, event.unanswered) == (2, 2)


async def test_a_latency_is_never_negative_whatever_the_clocks_say() -> None:
    async with playing() as scene:
        future = msgspec.structs.replace(delivery(1), published_ns=4_000_000_000 * 10**9)
        await scene.write([Decoded([future], [Entry(future, None, {"_id": 1}, own_id=False)], [], 1)])
        (event,) = await scene.until_settled(1)
    assert event.latency_seconds >= 0


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
