"""The pipeline of a time-series logger writes each entry once, by numbers, the mark and what it looks up."""

from __future__ import annotations

import msgspec
import pytest
from anyio import Event
from pymongo.errors import OperationFailure

from collector.events import (
    BatchSettled,
    Retried,
    Suspected,
    Suspicion,
)
from collector.sinks.timeseries.ownership import write_number
from tests.support.fakes import (
    delivery,
    settled,
)
from tests.support.ownership_fakes import SLOTS, BucketStore, FakeStore
from tests.support.owning_pipeline import AWAY, playing


async def test_every_command_has_a_number_of_its_own_above_the_fence_of_its_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with playing(monkeypatch) as scene:
        await scene.own()
        for sequence in range(1, 5):
            scene.link.deliver(delivery(sequence))
            await scene.until_settled(sequence)
    used = [(slot, number) for slot, number, _ in scene.store.inserts]
    assert len(set(used)) == 4
    for slot in range(SLOTS):
        numbers = [number for its, number in used if its == slot]
        assert numbers == [write_number(1, count) for count in range(1, len(numbers) + 1)]


async def test_an_unknown_result_is_asked_for_again_under_the_same_number_until_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    majority = {"ok": 1.0, "writeConcernError": {"code": 64, "codeName": "WriteConcernFailed"}}
    stepped_down = OperationFailure("no", 11602, {"codeName": "InterruptedDueToReplStateChange"})
    async with playing(monkeypatch, FakeStore(AWAY, majority, stepped_down)) as scene:
        await scene.own()
        scene.link.deliver(delivery(1), delivery(2))
        await scene.reports.until(lambda: len(scene.reports.of(Retried)) == 3)
        assert scene.link.answers == []
        scene.link.deliver(delivery(3))
        await scene.until_settled(2)
    again = [insert for insert in scene.store.inserts if insert[2] == [1, 2]]
    assert len(again) == 4
    assert len({(slot, number) for slot, number, _ in again}) == 1
    (other,) = [insert for insert in scene.store.inserts if insert[2] == [3]]
    assert other[0] != again[0][0], "its session waits for the result"
    assert scene.store.looked_up == [], "it is not a suspect"
    assert scene.answers(b"+ACK") == {delivery(number).reply for number in (1, 2, 3)}


async def test_when_the_server_has_forgotten_what_a_number_did_its_entries_are_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FakeStore(AWAY, OperationFailure("no", 217, {"codeName": "IncompleteTransactionHistory"}))
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        store.there = {1}
        scene.link.deliver(delivery(1), delivery(2))
        await scene.until_settled()
    assert store.looked_up == [[1, 2]]
    assert [sequences for _, _, sequences in store.inserts] == [[1, 2], [1, 2], [2]]
    numbers = [number for _, number, _ in store.inserts]
    assert numbers[0] == numbers[1] < numbers[2]


@pytest.mark.parametrize("guilty", [set[int](), {5}, {1, 8}, set(range(1, 9))], ids=str)
async def test_of_a_bucket_that_was_refused_only_what_is_refused_alone_is_a_dead_letter(
    guilty: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an index on a measured field mongod refuses the neighbours of a guilty entry too."""
    store = BucketStore(guilty)
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(*(delivery(sequence) for sequence in range(1, 9)))
        await scene.until_settled()
    assert store.there == set(range(1, 9)) - guilty
    assert {reject.delivery.sequence for reject in scene.letters.stored} == guilty
    (event,) = scene.reports.of(BatchSettled)
    assert (event.written, event.duplicates) == (8 - len(guilty), 0)
    used = [(slot, number) for slot, number, _ in store.inserts]
    assert len(set(used)) == len(used), "each command has a number of its own"
    assert len(used) <= 1 + 6 * len(guilty), "by halves"
    first, *later = [sequences for _, _, sequences in store.inserts]
    assert first == list(range(1, 9))
    assert store.looked_up == later, "before it is written again each is looked up"


async def test_only_what_may_have_been_written_is_looked_up_and_only_what_is_missing_inserted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FakeStore(mark=10)
    store.there = {8, 9}
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(*(delivery(sequence) for sequence in range(8, 14)))
        await scene.until_settled()
    assert store.looked_up == [[8, 9, 10]]
    assert sorted(sequence for _, _, several in store.inserts for sequence in several) == [10, 11, 12, 13]
    (event,) = scene.reports.of(BatchSettled)
    assert (event.written, event.duplicates) == (4, 2)
    suspects = [event.suspects for event in scene.reports.of(Suspected)]
    assert sum((dict(one).get(Suspicion.BELOW_HORIZON, 0) for one in suspects), 0) == 3
    assert scene.answers(b"+ACK") == {delivery(number).reply for number in range(8, 14)}


async def test_a_copy_that_comes_while_the_first_is_written_waits_and_is_acked_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FakeStore()
    store.let_insert = Event()
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(delivery(1))
        await store.inserting.wait()
        scene.link.deliver(delivery(1, delivered=2))
        await settled()
        assert (len(store.inserts), store.looked_up) == (1, [])
        store.let_insert.set()
        await scene.until_settled(2)
    assert (len(store.inserts), store.looked_up) == (1, [[1]])
    assert scene.answers(b"+ACK") == {delivery(1).reply, delivery(1, delivered=2).reply}


async def test_a_poison_message_is_kept_and_does_not_hold_up_its_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing(monkeypatch) as scene:
        await scene.own()
        scene.link.deliver(delivery(1, b"\xc1"), delivery(2))
        await scene.until_settled()
        scene.link.deliver(delivery(1, b"\xc1", delivered=2))
        await scene.until_settled(2)
    assert scene.answers(b"+TERM malformed") == {delivery(1).reply, delivery(1, delivered=2).reply}


async def test_one_identity_twice_in_a_message_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In two commands, of which the second is looked up after the first is known to be written."""
    store = FakeStore()
    lone = b"\x81\xa4data\x81\xa3_id\x07"
    bundle = msgspec.structs.replace(
        delivery(1, b"\x92" + lone * 2),
        raw_headers=b"NATS/1.0\r\nContent-Type: application/vnd.transfer.bundle+msgpack\r\n\r\n",
    )
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(bundle)
        await scene.until_settled()
    assert store.looked_up == [[1], [1]]
    assert [sequences for _, _, sequences in store.inserts] == [[1]]
    (event,) = scene.reports.of(BatchSettled)
    assert (event.written, event.duplicates) == (1, 1)
    assert scene.answers(b"+ACK") == {bundle.reply}
