"""A pipeline of a time-series logger, whose turn, loss and end are played by the test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from anyio import Event, Semaphore, create_task_group, fail_after
from pymongo.errors import OperationFailure

from collector.actors.destinations import MongoDestinations
from collector.actors.pipeline import Pipeline
from collector.errors import OwnershipLost, SinkUnavailable
from collector.events import (
    BatchSettled,
    LoggerState,
    OwnershipChange,
    OwnershipChanged,
    Retried,
    Returned,
    State,
    Suspected,
    Suspicion,
)
from collector.jetstream.connection import Reconnects
from collector.settings import Settings
from collector.sinks.timeseries.ownership import Claim, claim_id, write_number
from tests.actors.test_pipeline import NO_STREAM
from tests.support.fakes import (
    ANOTHER_LIFE,
    ATTACHED,
    KEY,
    FakeCatalog,
    FakeLetters,
    FakeLink,
    FakeSource,
    Reports,
    delivery,
    frame,
    settled,
)
from tests.support.moving import ENVIRON, shared
from tests.support.ownership_fakes import SLOTS, BucketStore, FakeClaims, FakeOwners, FakeStore
from transfer.names import Names
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLAIM = claim_id(ATTACHED.incarnation)
AWAY = SinkUnavailable("connection lost", ambiguous=True)


class Scene:
    """A pipeline that runs."""

    def __init__(self, source: FakeSource, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source, self.store, self.letters, self.link = source, store, FakeLetters(), FakeLink()
        self.reports, self.stopping, self.reconnects = Reports(), Event(), Reconnects()
        self.returned = Event()
        self.claims = FakeClaims(mark=store.mark)
        self.owners = FakeOwners(self.claims, self.reports)
        monkeypatch.setattr("collector.actors.destinations.TimeSeriesStore", lambda *_, **__: store)
        monkeypatch.setattr("collector.actors.destinations.DeadLetterStore", lambda *_: self.letters)
        claims: Any = self.claims
        owners: Any = self.owners
        nothing: Any = None
        catalog: Any = FakeCatalog(timeseries=True)
        settings = Settings.read({**ENVIRON, "COLLECTOR_WRITES": str(SLOTS), "COLLECTOR_BATCH_ENTRIES": "10"})
        destinations = MongoDestinations(
            names=Names("beta"),
            settings=settings,
            database=nothing,
            catalog=catalog,
            claims=claims,
            owners=owners,
            report=self.reports,
            write_slots=Semaphore(64),
        )
        of_replica = shared(
            self.link, self.reports, self.reconnects, source, settings=settings, destinations=destinations
        )
        self.pipeline = Pipeline(LoggerSpec(KEY), of_replica)

    async def run(self) -> None:
        await self.pipeline.run(self.stopping)
        self.returned.set()

    async def own(self) -> None:
        """Wait until it stands by, give it its turn, and wait until it has asked for messages."""
        asked = len(self.link.requests)
        await self.standing_by()
        self.owners.give_turn()
        while len(self.link.requests) == asked:
            await self.link.asked.wait()

    async def standing_by(self, times: int = 1) -> None:
        await self.reports.until(lambda: self.states.count(State.STANDBY) >= times)

    async def until_settled(self, batches: int = 1) -> None:
        await self.reports.until(lambda: len(self.reports.of(BatchSettled)) >= batches)

    @property
    def states(self) -> list[State | None]:
        return [event.state for event in self.reports.of(LoggerState)]

    @property
    def changes(self) -> list[OwnershipChange]:
        return [event.change for event in self.reports.of(OwnershipChanged)]

    def answers(self, kind: bytes) -> set[str]:
        return {reply for reply, answer in self.link.answers if answer == kind}


@asynccontextmanager
async def playing(
    monkeypatch: pytest.MonkeyPatch, store: FakeStore | None = None, source: FakeSource | None = None
) -> AsyncIterator[Scene]:
    scene = Scene(source or FakeSource(), store or FakeStore(), monkeypatch)
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(scene.run)
            yield scene
            scene.stopping.set()
    assert scene.owners.open == 0
    assert all(session.ended for session in scene.claims.sessions)
    assert scene.claims.claims[CLAIM].owner != "me"


# standing by


async def test_while_another_replica_owns_it_nothing_is_pulled_and_a_stop_ends_it_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with playing(monkeypatch) as scene:
        await scene.standing_by()
        await settled()
        scene.stopping.set()
        await scene.returned.wait()
    assert (scene.link.requests, scene.states, scene.claims.calls) == ([], [State.STANDBY], [])


async def test_given_its_turn_it_writes_and_at_the_stop_it_drains_and_gives_the_claim_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with playing(monkeypatch) as scene:
        await scene.own()
        scene.link.deliver(delivery(1), delivery(2))
        await scene.until_settled()
        scene.link.late = [frame(delivery(3))]
    assert scene.answers(b"+ACK") == {delivery(number).reply for number in (1, 2, 3)}
    assert scene.answers(b"-NAK") == set()
    assert scene.store.there == {1, 2, 3}
    assert scene.states == [State.STANDBY, State.RUNNING, State.DRAINING]
    assert scene.changes == [OwnershipChange.TAKEN, OwnershipChange.GIVEN_BACK]
    assert scene.claims.claims[CLAIM] == Claim(None, 1)


async def test_a_stream_that_was_made_anew_while_it_stood_by_is_another_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing(monkeypatch, source=FakeSource(ATTACHED, ANOTHER_LIFE)) as scene:
        await scene.standing_by()
        scene.owners.give_turn()
        await scene.standing_by(2)
        assert scene.link.requests == []
        assert scene.claims.claims[CLAIM] == Claim(None, 1), "the old life's is given back"
        scene.owners.give_turn()
        await scene.link.asked.wait()
    assert [one.claim for one in scene.owners.all] == [CLAIM, claim_id(ANOTHER_LIFE.incarnation)]


async def test_asked_to_stop_while_it_waits_for_jetstream_as_the_owner_it_gives_the_claim_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with playing(monkeypatch, source=FakeSource(ATTACHED, NO_STREAM)) as scene:
        await scene.standing_by()
        scene.owners.give_turn()
        await scene.reports.until(lambda: State.BACKING_OFF in scene.states)
    assert scene.changes == [OwnershipChange.TAKEN, OwnershipChange.GIVEN_BACK]


# numbers, mark and suspects


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


# lost


@pytest.mark.parametrize("way", ["refused", "by the board"])
async def test_what_is_held_when_ownership_is_lost_is_neither_acked_nor_naked_and_it_stands_by_again(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FakeStore()
    store.let_insert = Event()
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(delivery(1), delivery(2))
        await store.inserting.wait()
        scene.link.deliver(delivery(3), delivery(2, delivered=2))
        await settled()
        scene.claims.claims[CLAIM] = Claim("other", 2)
        store.fenced = True
        if way == "by the board":
            scene.owners.all[-1].lost.set()
        else:
            store.let_insert.set()
        await scene.standing_by(2)
        assert scene.link.answers == []
        assert scene.reports.of(Returned) == []
        assert scene.link.drained.is_set(), "it pulls no more"
    assert scene.changes == [OwnershipChange.TAKEN, OwnershipChange.LOST]
    assert "give_back" not in scene.claims.calls
    assert scene.link.answers == []
    assert scene.store.there == set()


async def test_after_a_loss_it_owns_again_from_the_mark_as_it_is_then_under_higher_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FakeStore()
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(delivery(1))
        await scene.until_settled()
        scene.claims.claims[CLAIM] = Claim("other", 2)
        scene.owners.all[-1].lost.set()
        await scene.standing_by(2)
        scene.claims.mark = store.mark = 100
        scene.claims.claims[CLAIM] = Claim(None, 2)
        await scene.own()
        scene.link.deliver(delivery(1, delivered=2), delivery(101))
        await scene.until_settled(2)
    assert store.looked_up == [[1]]
    assert store.inserts[-1][1:] == (write_number(3, 1), [101])


async def test_asked_to_stop_when_ownership_is_lost_it_returns_and_answers_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FakeStore(AWAY, OwnershipLost("it"))
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(delivery(1))
        await scene.reports.until(lambda: scene.reports.of(Retried))
        scene.claims.claims[CLAIM] = Claim("other", 2)
        scene.owners.all[-1].lost.set()
        scene.stopping.set()
        await scene.returned.wait()
    assert scene.link.answers == []


# handing over


async def test_handing_over_it_drains_gives_back_and_stands_by_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore()
    store.let_insert = Event()
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(delivery(1))
        await store.inserting.wait()
        scene.link.late = [frame(delivery(2))]
        scene.owners.all[-1].handing_over.set()
        await settled()
        assert scene.changes == [OwnershipChange.TAKEN], "as long as it writes it is the owner"
        store.let_insert.set()
        await scene.standing_by(2)
        assert scene.claims.claims[CLAIM] == Claim(None, 1)
    assert scene.answers(b"+ACK") == {delivery(1).reply, delivery(2).reply}
    assert scene.states == [State.STANDBY, State.RUNNING, State.DRAINING, State.STANDBY]
    assert scene.changes == [OwnershipChange.TAKEN, OwnershipChange.GIVEN_BACK]


async def test_handing_over_in_an_outage_of_mongodb_what_is_held_is_given_back_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More batches than there are sessions: those that have one keep it, the others find none."""
    store = FakeStore(*[AWAY] * 1000)
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        for sequence in range(1, 41, 10):
            scene.link.deliver(*(delivery(sequence + number) for number in range(10)))
            await settled()
        await scene.reports.until(lambda: len(scene.reports.of(Retried)) >= SLOTS)
        scene.owners.all[-1].handing_over.set()
        await scene.standing_by(2)
    assert len(scene.answers(b"-NAK")) == 40
    assert scene.answers(b"+ACK") == set()
    assert {slot for slot, _, _ in store.inserts} == set(range(SLOTS))


async def test_a_copy_that_waits_is_given_back_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore(*[AWAY] * 1000)
    async with playing(monkeypatch, store) as scene:
        await scene.own()
        scene.link.deliver(delivery(1))
        await store.inserting.wait()
        scene.link.deliver(delivery(1, delivered=2))
        await settled()
    assert scene.answers(b"-NAK") == {delivery(1).reply, delivery(1, delivered=2).reply}


# the unforeseen


async def test_what_nobody_foresaw_gives_all_back_the_claim_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012 - the crash ends what goes on in the block
        async with playing(monkeypatch, FakeStore(ValueError("boom"))) as scene:
            await scene.own()
            scene.link.deliver(delivery(1))
            await scene.stopping.wait()
    assert raised.group_contains(ValueError, match="boom")
    assert scene.answers(b"-NAK") == {delivery(1).reply}
    assert scene.claims.claims[CLAIM] == Claim(None, 1)
    assert scene.changes == [OwnershipChange.TAKEN, OwnershipChange.GIVEN_BACK]


TAKEN = {"index": 0, "code": 11000, "keyPattern": {"_id": 1}, "errmsg": "no"}


@pytest.mark.parametrize(
    "error", [TAKEN, {"index": 0, "code": 361, "errmsg": "no"}, {"index": 0, "code": 166, "errmsg": "no"}]
)
async def test_a_collection_that_is_not_the_one_that_was_looked_at_is_looked_at_again_and_nothing_is_acked(
    monkeypatch: pytest.MonkeyPatch, error: dict[str, Any]
) -> None:
    """It refuses a second identity, has another UUID, or is a view by now."""
    async with playing(monkeypatch, FakeStore({"ok": 1.0, "writeErrors": [error]})) as scene:
        await scene.own()
        scene.link.deliver(delivery(1))
        await scene.standing_by(2)
        assert scene.answers(b"+ACK") == set()
        assert scene.answers(b"-NAK") == {delivery(1).reply}
        assert scene.changes == [OwnershipChange.TAKEN, OwnershipChange.GIVEN_BACK]


@pytest.mark.parametrize("where", ["standing by", "taking", "attaching", "writing", "giving back"])
async def test_cancelled_anywhere_the_claim_is_given_back(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, store = FakeSource(), FakeStore()
    scene = Scene(source, store, monkeypatch)
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(scene.run)
            await scene.standing_by()
            if where == "taking":
                scene.claims.held["take"] = Event()
            if where == "attaching":
                source.let_look = Event()
            if where != "standing by":
                scene.owners.give_turn()
            if where in {"writing", "giving back"}:
                await scene.link.asked.wait()
                store.let_insert = Event()
                scene.link.deliver(delivery(1))
                await store.inserting.wait()
            if where == "giving back":
                scene.claims.held["give_back"] = Event()
                store.let_insert.set()
                scene.stopping.set()
                await scene.claims.until("give_back")
            await settled()
            group.cancel_scope.cancel()
            for held in (source.let_look, store.let_insert, *scene.claims.held.values()):
                held.set()
    assert scene.owners.open == 0
    assert scene.claims.claims[CLAIM].owner is None
    assert all(session.ended for session in scene.claims.sessions)
    assert scene.changes in ([], [OwnershipChange.TAKEN, OwnershipChange.GIVEN_BACK])


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
