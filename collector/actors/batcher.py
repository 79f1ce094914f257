"""The batcher: gathers decoded deliveries into batches, and offers each batch when it is full or has to leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import BrokenResourceError, EndOfStream

from collector.flow.batching import BatchPolicy, HandedOn, OpenBatch
from collector.model import Decoded, Trigger

if TYPE_CHECKING:
    from collector.runtime.mailbox import Receives, Sends


class Batcher:
    """Moves decoded deliveries into open batches, and fills an offered batch until it is full or taken.

    Order: as received. Loss: none, also when cancelled, because its deliveries are in hand elsewhere. The batcher
    returns when its mailbox has ended and the last batch is handed on, or when the writer has ended.
    """

    def __init__(
        self,
        policy: BatchPolicy,
        inbox: Receives[HandedOn],
        outbox: Sends[OpenBatch],
        first: int = 1,
    ) -> None:
        """Batch with these limits; `first` is the number of the first batch."""
        self._policy = policy
        self._open_batch = OpenBatch(first, policy)
        self._leaving: list[OpenBatch] = []
        self._inbox = inbox
        self._outbox = outbox

    @property
    def last(self) -> int:
        """The number of the last batch."""
        return self._open_batch.id

    async def run(self) -> None:
        """Batch until the mailbox ends."""
        async with self._inbox, self._outbox:
            try:
                await self._batch()
            except BrokenResourceError:
                return  # the writer has ended with an error of its own

    async def _batch(self) -> None:
        try:
            while True:
                handed_on = await self._inbox.receive()
                self._add(handed_on.decoded)
                if handed_on.leaves and self._open_batch and self._open_batch.offered is None:
                    self._offer(Trigger.AGE)
                await self._send()
        except EndOfStream:
            if self._open_batch and self._open_batch.offered is None:
                self._offer(Trigger.DRAIN)
            await self._send()

    def _add(self, many: list[Decoded]) -> None:
        for decoded in many:
            rest: Decoded | None = decoded
            while rest is not None:
                if self._open_batch.taken or self._open_batch.full:
                    self._open_batch = OpenBatch(self._open_batch.id + 1, self._policy)
                fitting, rest = rest.cut(self._open_batch.room)
                self._open_batch.add(fitting)
                if self._open_batch.offered is None and (limit := self._open_batch.full):
                    self._offer(limit)

    def _offer(self, why: Trigger) -> None:
        self._open_batch.offered = why
        self._leaving.append(self._open_batch)

    async def _send(self) -> None:
        leaving, self._leaving = self._leaving, []
        for open_batch in leaving:
            await self._outbox.send(open_batch)
