"""The batcher: gathers what the consumer opened into batches, and lets each go when it is full or old enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import BrokenResourceError, CancelScope, EndOfStream

from collector.batching import BatchPolicy, Pending
from collector.model import Batch, Opened, Trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import ObjectReceiveStream, ObjectSendStream


class Batcher:
    """Moves opened deliveries into batches.

    Order: as received. Loss: none, also when cancelled, because what it holds is in hand elsewhere. It returns when
    its mailbox has ended and the last batch is handed on, or when nobody takes batches any more.
    """

    def __init__(
        self,
        policy: BatchPolicy,
        inbox: ObjectReceiveStream[list[Opened]],
        outbox: ObjectSendStream[Batch],
        clock: Callable[[], float],
    ) -> None:
        self._policy = policy
        self._pending = Pending(policy)
        self._full: list[Batch] = []
        self._deadline = 0.0
        self._inbox = inbox
        self._outbox = outbox
        self._clock = clock

    async def run(self) -> None:
        """Batch until the mailbox ends."""
        async with self._inbox, self._outbox:
            try:
                await self._batch()
            except BrokenResourceError:
                return  # the writer has ended before its mailbox has, and says itself why

    async def _batch(self) -> None:
        try:
            while True:
                if not self._pending:
                    self._add(await self._inbox.receive())
                with CancelScope(deadline=self._deadline):  # the age of the batch, not a timer task
                    while self._pending and not self._full:
                        self._add(await self._inbox.receive())
                if self._pending and not self._full:
                    self._full.append(self._pending.take(Trigger.AGE))
                await self._send_full()
        except EndOfStream:
            if self._pending:
                self._full.append(self._pending.take(Trigger.DRAIN))
            await self._send_full()

    def _add(self, many: list[Opened]) -> None:
        for opened in many:
            rest: Opened | None = opened
            while rest is not None:
                if not self._pending:
                    self._deadline = self._clock() + self._policy.age
                fitting, rest = rest.cut(self._pending.room)
                if trigger := self._pending.add(fitting):
                    self._full.append(self._pending.take(trigger))

    async def _send_full(self) -> None:
        full, self._full = self._full, []
        for batch in full:
            await self._outbox.send(batch)
        if full and self._pending:  # what is left over waited for the writer: its age begins when it can be filled
            self._deadline = self._clock() + self._policy.age
