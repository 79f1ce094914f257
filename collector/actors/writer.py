"""The writer: stores batches in a sink, several at a time, and rejects as dead letters; then it answers JetStream."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

from anyio import EndOfStream, create_task_group, move_on_after

from collector.errors import SinkUnavailable
from collector.events import BatchSettled, Failed, Failure, LoggerState, Retried, Stage, State, Unsettled
from collector.model import Trigger
from collector.runtime.backoff import exponential
from collector.telemetry.failing import Failing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from anyio import Event
    from anyio.abc import TaskGroup

    from collector.actors.moving import Storing
    from collector.flow.batching import OpenBatch
    from collector.model import Batch, Delivery, Entry, Reason, Refusal, Rejected
    from collector.runtime.mailbox import Receives
    from collector.sinks import Slots, Writing

RETRY_CAP = 2.0
"""Seconds between two tries of a write at most, within which the end of an outage is noticed."""
_PAUSE = exponential(0.1, RETRY_CAP)
_WAIT = 2
"""Workers that wait for a batch at most: one, and the one that has just written the batch before."""
_LEAST_ACK_WAIT = 20.0
"""Seconds: with a shorter ack wait no ack is kept, because its message would come again meanwhile."""
_FEW = 32
"""Messages of a batch up to which its logger trickles."""
_NO_LETTERS: Final[Counter[Reason]] = Counter()
_NOTHING_DROPPED: Final[Mapping[str, int]] = {}


class Writer:
    """Writes and settles batches, at most `writes` at a time, in no order among them.

    An open batch is taken when its first write gets one of the write slots of all loggers. Each further attempt takes a
    slot of its own, and a wait between two attempts holds none. The store of dead letters takes a letter slot instead.
    The slots are in front of the connection pool: waiting for a pooled connection would count against the write's own
    timeout, so 1,000 loggers could time each other out.
    A batch is answered when each of its entries is stored or kept as a dead letter, never before. While the sink is
    unavailable, the writer tries again in place; when it is asked to stop meanwhile, it leaves the batch in hand.
    A logger whose batches keep failing is reported as failing, and as running when its next batch is settled.
    Raises OwnershipLost when the sink does; then no delivery in hand may be answered.
    """

    def __init__(self, moving: Storing, inbox: Receives[OpenBatch]) -> None:
        self._key = moving.key
        self._moving = moving
        self._target = moving.target
        self._in_hand = moving.in_hand
        self._level = moving.level
        self._inbox = inbox
        self._most = moving.shared.settings.writes
        self._workers = self._waiting = 1
        self._failing = Failing()
        self._may_keep = moving.attached.ack_wait >= _LEAST_ACK_WAIT and not self._target.stood_by
        self._report = moving.shared.report
        self._clock = moving.shared.clock

    async def run(self, stopping: Event) -> None:
        """Write until the mailbox and all writes have ended."""
        async with self._inbox, create_task_group() as group:
            await self._work(stopping, group)

    async def _work(self, stopping: Event, group: TaskGroup) -> None:
        """Write one batch after the other. There is another worker for the next batch, so that few tasks are made."""
        while True:
            try:
                open_batch = await self._inbox.receive()
            except EndOfStream:
                return
            self._waiting -= 1
            if not self._waiting and self._workers < self._most:
                self._workers += 1
                self._waiting += 1
                group.start_soon(self._work, stopping, group, name=f"{self._key} writer")
            await self._write(open_batch, stopping)
            del open_batch  # else an idle logger keeps its last batch in memory
            if self._waiting >= _WAIT:
                self._workers -= 1
                return
            self._waiting += 1

    async def _write(self, open_batch: OpenBatch, stopping: Event) -> None:
        storing = _Storing(open_batch)
        try:
            await self._store_and_settle(storing, stopping)
        except SinkUnavailable as exc:
            self._report(Failed(self._key, Stage.WRITE, Failure.UNAVAILABLE, str(exc), "stopping: giving it back"))
        finally:
            if open_batch.taken:
                self._level.writes -= 1
                self._level.touch()
                self._report_unsettled(storing)

    def _report_unsettled(self, storing: _Storing) -> None:
        """Report the stored entries of a batch that is given up; they come again and are found to be stored."""
        if storing.settled:
            return
        written, letters = storing.writing.written, Counter(reject.reason for reject in storing.kept)
        if written.stored or written.duplicates or letters:
            self._report(Unsettled(self._key, written.stored, written.duplicates, letters))

    async def _attempt(self, storing: _Storing) -> None:
        """Take the open batch at the first attempt, and write what is left of it."""
        if not storing.open_batch.taken:
            storing.started = self._clock()
            self._level.writes += 1
            self._level.touch()
            storing.batch = storing.open_batch.take()
            storing.writing = self._target.sink.begin(storing.batch.entries)
        if storing.batch.entries:
            await storing.writing.attempt()

    async def _store_and_settle(self, storing: _Storing, stopping: Event) -> None:
        target = self._target
        await self._until_done(Stage.WRITE, partial(self._attempt, storing), target.write_slots, stopping)
        batch, written = storing.batch, storing.writing.written
        write_seconds, latency = self._clock() - storing.started, _latency(batch)
        rejects = [*batch.rejects, *self._moving.codec.rejects(written.refused)] if written.refused else batch.rejects
        if rejects:
            store = partial(target.dead_letters.store, rejects)
            await self._until_done(Stage.DEAD_LETTER, store, target.letter_slots, stopping)
            storing.kept = rejects
        kept = _kept(batch, written.refused) if rejects else ()
        deliveries, later = _divided(batch.deliveries, written.deferred)
        if later:
            self._in_hand.slim(later)
        keeps_last = not later and not stopping.is_set() and self._keeps_last(batch)
        settle = self._moving.settler.settle(deliveries, kept, rejects, weight=batch.weight, keeps_last=keeps_last)
        unanswered, owed = await settle
        storing.settled = True
        self._let_go(batch, deliveries)
        self._report(
            BatchSettled(
                self._key,
                batch=batch.id,
                trigger=batch.trigger,
                messages=len(batch.deliveries),
                entries=len(batch.entries) + len(batch.rejects) + len(batch.dropped),
                bytes=batch.bytes,
                written=written.stored,
                duplicates=written.duplicates,
                dead_letters=Counter([reject.reason for reject in rejects]) if rejects else _NO_LETTERS,
                write_seconds=write_seconds,
                latency_seconds=latency,
                unanswered=unanswered,
                owed=owed + len(later),
                dropped=Counter([one.rule for one in batch.dropped]) if batch.dropped else _NOTHING_DROPPED,
            )
        )
        if self._failing.succeeded() and not stopping.is_set():
            self._report(LoggerState(self._key, State.RUNNING, self._moving.risks))

    def _keeps_last(self, batch: Batch) -> bool:
        """Tell whether the last ack waits for a newer message, see `Settler.settle`.

        Nothing waits where a replica owns the logger: its successor would have to look the message up.
        """
        trickles = batch.trigger is Trigger.AGE and len(batch.deliveries) <= _FEW
        return self._may_keep and trickles and self._moving.gathering.expects()

    def _let_go(self, batch: Batch, deliveries: Sequence[Delivery]) -> None:
        entries: Sequence[Entry] = batch.entries
        if len(deliveries) < len(batch.deliveries):
            settled = {delivery.reply for delivery in deliveries}
            entries = [entry for entry in entries if entry.delivery.reply in settled]
        self._target.admission.settled(deliveries, entries)
        self._moving.accounts.settled()
        if self._moving.requests.settled() or self._target.admission.holds:
            self._moving.pull.wake()

    async def _until_done(
        self, stage: Stage, attempt: Callable[[], Awaitable[None]], slots: Slots, stopping: Event
    ) -> None:
        """Try until it works; raise SinkUnavailable when it fails after the writer was asked to stop."""
        number, began = 0, 0.0
        while True:
            try:
                async with slots:
                    began = self._clock()  # a wait for a slot is no failure
                    return await attempt()
            except SinkUnavailable as exc:
                if stopping.is_set():
                    raise
                number += 1
                delay = _PAUSE(number)
                failure = Failure.AMBIGUOUS if exc.ambiguous else Failure.UNAVAILABLE
                self._report(Retried(self._key, stage, failure, number, delay, str(exc)))
                self._moving.gathering.miss()  # the next answers may be far away
                if self._failing.failed(began, self._clock(), str(exc)):
                    self._report(LoggerState(self._key, State.FAILING, str(exc)))
            with move_on_after(delay):
                await stopping.wait()


class _Storing:
    """The storing of one open batch, which is taken when its first attempt begins, and the known results."""

    __slots__ = ("batch", "kept", "open_batch", "settled", "started", "writing")

    batch: Batch
    writing: Writing
    started: float

    def __init__(self, open_batch: OpenBatch) -> None:
        self.open_batch = open_batch
        self.kept: Sequence[Rejected] = ()
        """The rejects that are stored as dead letters."""
        self.settled = False


def _latency(batch: Batch) -> float:
    """Return the seconds since JetStream has stored the oldest message."""
    oldest = min([delivery.published_ns for delivery in batch.deliveries]) / 1e9
    return max(0.0, time.time() - oldest)  # the clocks of two machines


def _kept(batch: Batch, refused: Sequence[Refusal]) -> list[Entry]:
    """Return the entries that are stored."""
    gone = {id(refusal.entry) for refusal in refused}
    return [entry for entry in batch.entries if id(entry) not in gone]


def _divided(deliveries: list[Delivery], deferred: Sequence[Entry]) -> tuple[list[Delivery], list[Delivery]]:
    """Return the deliveries to be answered now, and those that the sink answers later."""
    if not deferred:
        return deliveries, []
    replies = {entry.delivery.reply for entry in deferred}
    now = [delivery for delivery in deliveries if delivery.reply not in replies]
    return now, [delivery for delivery in deliveries if delivery.reply in replies]
