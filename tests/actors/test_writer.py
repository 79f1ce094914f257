"""The writer stores batches, keeps what cannot be stored, and has all of it answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from anyio import Event, WouldBlock

from collector.errors import SinkUnavailable
from collector.events import Held, Retried, Stage, WritesInProgress
from collector.flow.in_hand import InHand
from collector.model import Decoded, Entry, Reason, Refusal, Trigger
from tests.support.fakes import (
    KEY,
    FakeLetters,
    FakeSink,
    FakeWriting,
    all_known,
    all_stored,
    decoded,
    delivery,
    open_batch,
    refuses,
    settled,
    unopened,
)
from tests.support.writing import DOWN, playing

if TYPE_CHECKING:
    from collections.abc import Sequence


async def test_what_is_stored_is_acked_counted_and_no_longer_in_hand() -> None:
    async with playing() as scene:
        await scene.write([decoded(1), decoded(2)])
        (event,) = await scene.until_settled(1)
    assert scene.answers == [b"+ACK", b"+ACK"]
    assert (len(scene.in_hand), scene.admission.batches, scene.pull.woken) == (0, [([1, 2], 2)], 1)
    assert (event.messages, event.entries, event.written, event.duplicates, event.unanswered) == (2, 2, 2, 0, 0)
    assert (event.trigger, event.bytes, event.dead_letters.total()) == (Trigger.ENTRIES, 2, 0)
    assert scene.reports.all == [event], "what it holds and writes is told once a second"
    scene.levels.tell(scene.reports)
    assert scene.reports.all[1:] == [Held(KEY, 0, 0), WritesInProgress(KEY, 0)]


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


async def test_a_batch_that_waits_for_its_turn_is_not_on_its_way() -> None:
    async with playing(write_slots=1) as scene:
        await scene.write_slots.acquire()
        await scene.write([decoded(1)], [decoded(2)])
        await settled()
        assert scene.level.writes == 0
        scene.sink.let_write = Event()
        scene.write_slots.release()
        await settled()
        assert scene.level.writes == 1
        scene.sink.let_write.set()
        await scene.until_settled(2)
    assert scene.level.writes == 0


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


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(("unsent", "owed"), [(3, [1, 2, 3]), (2, [2, 3]), (1, [3]), (0, [])])
async def test_answers_that_are_not_sent_are_counted_and_owed_without_what_they_answer(
    unsent: int, owed: list[int], *, waits: bool
) -> None:
    async with playing() as scene:

        async def lose(answers: Sequence[tuple[str, bytes]]) -> int:
            assert waits
            assert len(answers) == 3
            return unsent

        scene.link.answer = lose  # type: ignore[method-assign]
        scene.link.answer_at_once = lambda _: None if waits else unsent  # type: ignore[method-assign, assignment]
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
