"""The writer: stores batches in a sink, several at a time, keeps what cannot be stored, and answers JetStream."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from anyio import EndOfStream, Semaphore, create_task_group, move_on_after
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from collector.backoff import exponential
from collector.errors import SinkUnavailable
from collector.events import BatchSettled, Failed, Failure, Report, Retried, Stage, WritesInProgress
from collector.settlement import settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from anyio import Event
    from anyio.abc import ObjectReceiveStream

    from collector.codec import Codec
    from collector.in_hand import InHand
    from collector.model import Batch, Entry, Refusal, Reject
    from collector.settlement import Answer
    from collector.sinks import Sink

RETRY_CAP = 2.0
"""Seconds between two tries of a write; an outage that ends is noticed within them."""


class Answering(Protocol):
    """Where the answers to JetStream go."""

    async def answer(self, answers: Sequence[Answer]) -> int:
        """Send them; return how many could not be sent."""


class Letters(Protocol):
    """Where dead letters go."""

    async def store(self, rejects: Sequence[Reject]) -> None:
        """Store them durably, each once. Raises SinkUnavailable."""


class Writer:
    """Writes and settles batches, at most `writes` at a time, in no order among them.

    A batch is answered when each of its entries is stored or kept as a dead letter, never before. While the sink is
    unavailable it tries again in place; when it is asked to stop meanwhile it gives up and leaves the batch in hand.
    Raises OwnershipLost when the sink does; then nothing that is in hand may be answered.
    """

    def __init__(
        self,
        key: str,
        *,
        codec: Codec,
        sink: Sink,
        letters: Letters,
        answering: Answering,
        in_hand: InHand,
        inbox: ObjectReceiveStream[Batch],
        writes: int,
        on_settled: Callable[[Batch], None],
        report: Report,
        clock: Callable[[], float],
    ) -> None:
        self._key = key
        self._codec = codec
        self._sink = sink
        self._letters = letters
        self._answering = answering
        self._in_hand = in_hand
        self._inbox = inbox
        self._free = Semaphore(writes)
        self._writes = 0
        self._on_settled = on_settled
        self._report = report
        self._clock = clock

    async def run(self, stopping: Event) -> None:
        """Write until the mailbox ends and all writes have."""
        async with self._inbox, create_task_group() as group:
            while True:
                await self._free.acquire()
                try:
                    batch = await self._inbox.receive()
                except EndOfStream:
                    return
                group.start_soon(self._write, batch, stopping, name=f"{self._key} batch {batch.id}")
                del batch  # else a logger that nothing comes from keeps its last one in memory

    async def _write(self, batch: Batch, stopping: Event) -> None:
        self._count(+1)
        try:
            await self._store_and_settle(batch, stopping)
        except SinkUnavailable as exc:
            self._report(Failed(self._key, Stage.WRITE, Failure.UNAVAILABLE, str(exc), "stopping: giving it back"))
        finally:
            self._count(-1)
            self._free.release()

    def _count(self, change: int) -> None:
        self._writes += change
        self._report(WritesInProgress(self._key, self._writes))

    async def _store_and_settle(self, batch: Batch, stopping: Event) -> None:
        started = self._clock()
        writing = self._sink.begin(batch.entries)
        if batch.entries:
            await self._retrying(Stage.WRITE, stopping)(writing.attempt)
        refused = writing.written.refused
        rejects = [*batch.rejects, *self._codec.rejects(refused)] if refused else batch.rejects
        write_seconds = self._clock() - started
        oldest = min([delivery.published_ns for delivery in batch.deliveries]) / 1e9
        latency = max(0.0, time.time() - oldest)  # two clocks
        if rejects:
            await self._retrying(Stage.DEAD_LETTER, stopping)(self._letters.store, rejects)
        kept = _kept(batch, refused) if rejects else ()
        answers = self._in_hand.owned(settle(batch.deliveries, kept, rejects))
        unanswered = len(batch.deliveries) - len(answers) + await self._answering.answer(answers)
        self._in_hand.release(batch.deliveries, batch.weight)
        self._on_settled(batch)
        self._report(
            BatchSettled(
                self._key,
                batch=batch.id,
                trigger=batch.trigger,
                messages=len(batch.deliveries),
                entries=len(batch.entries) + len(batch.rejects),
                bytes=batch.bytes,
                written=writing.written.stored,
                duplicates=writing.written.duplicates,
                dead_letters=Counter(reject.reason for reject in rejects),
                write_seconds=write_seconds,
                latency_seconds=latency,
                unanswered=unanswered,
            )
        )

    def _retrying(self, stage: Stage, stopping: Event) -> Callable[..., Awaitable[None]]:
        async def sleep(seconds: float) -> None:
            with move_on_after(seconds):
                await stopping.wait()

        def before_sleep(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            ambiguous = isinstance(error, SinkUnavailable) and error.ambiguous
            failure = Failure.AMBIGUOUS if ambiguous else Failure.UNAVAILABLE
            delay = state.next_action.sleep if state.next_action else 0.0
            self._report(Retried(self._key, stage, failure, state.attempt_number, delay, str(error)))

        curve = exponential(0.1, RETRY_CAP)
        return AsyncRetrying(
            retry=retry_if_exception_type(SinkUnavailable),
            wait=lambda state: curve(state.attempt_number),
            stop=lambda _: stopping.is_set(),
            sleep=sleep,
            before_sleep=before_sleep,
            reraise=True,
        )


def _kept(batch: Batch, refused: Sequence[Refusal]) -> list[Entry]:
    """Return the entries that are stored."""
    gone = {id(refusal.entry) for refusal in refused}
    return [entry for entry in batch.entries if id(entry) not in gone]
