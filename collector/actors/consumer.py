"""The consumer: pulls the messages of one logger, decodes them, and hands them on as fast as the mailbox takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import BrokenResourceError, CancelScope, move_on_after

from collector.actors.deadline import Deadline
from collector.actors.handing_on import HandingOn
from collector.events import Failed, Failure, Stage, failure_of
from collector.jetstream.endings import LARGEST
from collector.jetstream.messages import Signal
from collector.runtime.backoff import exponential
from transfer.errors import TransferError, Unavailable, UnknownStream

if TYPE_CHECKING:
    from collections.abc import Set

    from anyio import Event

    from collector.actors.moving import Moving
    from collector.flow.batching import HandedOn
    from collector.jetstream.source import Attached
    from collector.runtime.mailbox import Sends

_ASK_AGAIN = exponential(0.1, 2.0)
_PAUSE = exponential(0.5, 2.0)
"""Seconds before the next check and request after a signal. The pause prevents a hot loop; and nats-server 2.15.1 may
give a durable that is re-created immediately after its deletion the old one's state."""


class Consumer:
    """Moves deliveries from a pull subscription to the batcher's mailbox.

    Order: as delivered, but a delivery waits while the target does not admit it (a copy, for a time-series collection).
    Loss: none; a received delivery is in hand until it is answered. The consumer returns when it is asked to stop,
    after all messages in flight have come, when stream or durable were replaced, or when the batcher has ended.
    """

    __slots__ = (
        "_accounts",
        "_deadline",
        "_gathering",
        "_handing_on",
        "_in_hand",
        "_key",
        "_moving",
        "_outbox",
        "_pull",
        "_report",
        "_requests",
    )

    def __init__(self, moving: Moving, outbox: Sends[HandedOn]) -> None:
        self._key = moving.key
        self._moving = moving
        self._pull = moving.pull
        self._in_hand = moving.in_hand
        self._accounts = moving.accounts
        self._gathering = moving.gathering
        self._requests = moving.requests
        self._outbox = outbox
        self._report = moving.shared.report
        self._deadline = Deadline(moving.pull, moving.shared.alarms.set, moving.shared.clock)
        self._handing_on = HandingOn(moving, outbox, self._comes_more)

    def _comes_more(self) -> bool:
        return bool(self._pull.outstanding.requests)

    async def run(self, stopping: Event) -> None:
        """Pull until asked to stop, then hand on the messages in flight and close the mailbox."""
        async with self._outbox:
            try:
                await self._consume(stopping)
            except BrokenResourceError:
                return  # the batcher has ended, as the writer has with an error of its own

    async def _consume(self, stopping: Event) -> None:
        with self._moving.shared.nats.reconnects.listening(self._pull.forget_requests):
            try:
                await self._pull.open()
                await self._requests.top_up(None)
                while not stopping.is_set() and await self._step(stopping):
                    pass
            finally:
                self._deadline.end()
                with CancelScope(shield=True):  # it has deadlines of its own
                    self._handing_on.add(await self._pull.drain())
                    await self._pull.answer_aside()
        left = self._handing_on.undecoded
        if left and stopping.is_set() and (not self._pull.unsure or await self._verified(stopping)):
            await self._handing_on.hand_on()

    async def settle(self, stopping: Event) -> None:
        """Send the owed answers after a last check; call it when all deliveries in hand are written."""
        await self._moving.settler.answer_kept()
        if self._owes and await self._verified(stopping):
            await self._moving.settler.answer_owed()

    @property
    def _owes(self) -> bool:
        return self._pull.can_ask and (self._in_hand.owes or (self._pull.has_aside and not self._pull.may_answer))

    async def _step(self, stopping: Event) -> bool:
        """Wait for deliveries, signals or room, and handle them; return whether stream and durable are the same."""
        self._deadline.watch(self._accounts.asks_again_within)
        await self._pull.changed.wait()
        self._handing_on.look_at_age()
        deliveries = self._pull.take()
        signals = self._pull.signals()
        if signals - {Signal.LOOK}:
            self._report_signals(signals)
            with move_on_after(_PAUSE(max(1, self._pull.endings.fruitless))):
                await stopping.wait()
        owes = self._owes
        if (signals or owes or (deliveries and self._pull.unsure)) and not await self._verified(stopping):
            return False
        if Signal.SILENT in signals and not await self._listens():
            return False
        if owes:
            await self._moving.settler.answer_owed()
        if self._gathering.missed():
            await self._moving.settler.answer_kept()
        await self._pull.answer_aside()
        await self._requests.top_up(deliveries[-1] if deliveries else None)
        self._moving.level.touch()
        self._handing_on.add(deliveries)
        await self._handing_on.hand_on()
        return True

    def _report_signals(self, signals: Set[Signal]) -> None:
        endings = self._pull.endings
        error = f"the server said {endings.last_words!r}"
        if endings.fruitless > 1:
            error += f" {endings.fruitless} times in a row, and sent nothing"
        if endings.too_small >= LARGEST:
            error += f": expected the next message to be no larger than {LARGEST} bytes; remove it from the stream"
        if Signal.SILENT in signals:
            failure, error = Failure.SILENT, "no heartbeat of the server came in time"
        elif Signal.CUT in signals:
            failure, error = Failure.DURABLE_LOST, "expected messages with their bodies, got some without"
        else:
            failure = Failure.DURABLE_LOST if Signal.RECHECK in signals else Failure.UNAVAILABLE
        self._report(Failed(self._key, Stage.PULL, failure, error, "looking at stream and durable, then asking again"))

    async def _verified(self, stopping: Event) -> bool:
        """Tell whether stream and durable are still the same; a missing durable is made again.

        A stream that was made anew counts from 1: under the old incarnation its entries would pass for old ones.
        While JetStream does not answer, the check is repeated, and the deliveries in hand are kept.
        """
        try:
            attached = await self._check(stopping)
        except TransferError as exc:
            self._pull.fail_check()
            self._fail(exc, "preparing the pipeline again")
            if isinstance(exc, UnknownStream):
                self._in_hand.disown()
            return False
        if attached is None:
            return False
        if attached.incarnation != self._moving.attached.incarnation:
            self._pull.fail_check()
            self._in_hand.disown()
            return False
        self._pull.end_check()
        return True

    async def _listens(self) -> bool:
        """Subscribe anew; return whether the server accepts it."""
        try:
            with CancelScope(shield=True):  # it has deadlines of its own
                await self._pull.open_anew()
        except TransferError as exc:
            self._fail(exc, "preparing the pipeline again")
            return False
        return True

    async def _check(self, stopping: Event) -> Attached | None:
        """Check stream and durable until JetStream answers; None when asked to stop before that."""
        attempt = 0
        while True:
            try:
                async with self._moving.shared.turns:
                    self._pull.begin_check()
                    with CancelScope(shield=True):
                        return await self._moving.source.attach()
            except Unavailable as exc:
                self._fail(exc, "asking again")
            attempt += 1
            with move_on_after(_ASK_AGAIN(attempt)):
                await stopping.wait()
            if stopping.is_set():
                return None

    def _fail(self, exc: TransferError, action: str) -> None:
        self._report(Failed(self._key, Stage.PULL, failure_of(exc), str(exc), action))
