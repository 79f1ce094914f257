"""The consumer: pulls the messages of one logger, decodes them, and hands them on as fast as the mailbox takes them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from anyio import CancelScope, lowlevel, move_on_after

from collector.actors.backoff import exponential
from collector.events import Failed, Failure, Held, Received, Stage, failure_of
from collector.flow.in_hand import MESSAGE
from collector.flow.pool import SMALLEST_ASK
from collector.jetstream.messages import Signal, still_pending
from collector.jetstream.pull import LARGEST
from transfer.errors import TransferError, Unavailable, UnknownStream

if TYPE_CHECKING:
    from anyio import Event
    from anyio.abc import ObjectSendStream

    from collector.actors.moving import Moving
    from collector.decoding.unpacking import Inflated
    from collector.jetstream.source import Attached
    from collector.model import Decoded, Delivery

_SLICE = 250
"""Messages that are decoded without a checkpoint: about a millisecond."""
_SLICE_BYTES = 64 * 1024
"""Inflated bytes that are decoded before the mailbox has to take them."""
_ASK_AGAIN = exponential(0.1, 2.0)
_PAUSE = exponential(0.5, 2.0)
"""Seconds before the next check and request after a signal. The pause prevents a hot loop; and nats-server 2.15.1 may
give a durable that is re-created immediately after its deletion the old one's state."""


@dataclass(frozen=True, slots=True)
class PullLimits:
    """The messages that a logger may request and hold at a time, and the bytes of one request."""

    messages: int
    request_bytes: int


class Consumer:
    """Moves deliveries from a pull subscription to the batcher's mailbox.

    Order: as delivered, but a delivery waits while the target does not admit it (a copy, for a time-series collection).
    Loss: none; a received delivery is in hand until it is answered. The consumer returns when it is asked to stop,
    after all messages in flight have come, or when stream or durable were replaced.
    """

    def __init__(self, moving: Moving, outbox: ObjectSendStream[list[Decoded]]) -> None:
        settings = moving.shared.settings
        self._key = moving.key
        self._moving = moving
        self._pull = moving.pull
        self._in_hand = moving.in_hand
        self._accounts = moving.accounts
        self._admission = moving.target.admission
        self._limits = PullLimits(settings.most_held, settings.batch_bytes)
        self._outbox = outbox
        self._report = moving.shared.report
        self._clock = moving.shared.clock
        self._undecoded: deque[Delivery] = deque()
        self._max_at_once = _SLICE
        """Deliveries that are decoded at once at most: few while there is little room."""
        self._alone = False
        """Whether the last request was for one message."""

    async def run(self, stopping: Event) -> None:
        """Pull until asked to stop, then hand on the messages in flight and close the mailbox."""
        async with self._outbox:
            with self._moving.shared.nats.reconnects.listening(self._pull.forget_requests):
                try:
                    await self._pull.open()
                    await self._top_up(flowing=False)
                    while not stopping.is_set() and await self._step(stopping):
                        pass
                finally:
                    with CancelScope(shield=True):  # it has deadlines of its own
                        self._undecoded += await self._pull.drain()
                        await self._pull.answer_aside()
            if self._undecoded and stopping.is_set() and (not self._pull.unsure or await self._verified(stopping)):
                await self._hand_on()

    async def settle(self, stopping: Event) -> None:
        """Send the owed answers after a last check; call it when all deliveries in hand are written."""
        if self._owes and await self._verified(stopping):
            await self._moving.settler.answer_owed()

    @property
    def _owes(self) -> bool:
        return self._pull.can_ask and (self._in_hand.owes or (self._pull.has_aside and not self._pull.may_answer))

    async def _step(self, stopping: Event) -> bool:
        """Wait for deliveries, signals or room, and handle them; return whether stream and durable are the same."""
        again = self._accounts.asks_again_within
        with move_on_after(min(max(0.0, self._pull.deadline - self._clock()), again)):
            await self._pull.changed.wait()
        if again == math.inf and not self._pull.changed.is_set() and self._clock() < self._pull.deadline:
            return True  # heartbeats have moved the deadline
        deliveries = self._pull.take()
        signals = self._pull.signals()
        if signals - {Signal.LOOK}:
            self._report_signals(signals)
            with move_on_after(_PAUSE(max(1, self._pull.fruitless))):
                await stopping.wait()
        owes = self._owes
        if (signals or owes or (deliveries and self._pull.unsure)) and not await self._verified(stopping):
            return False
        if Signal.SILENT in signals and not await self._listens():
            return False
        if owes:
            await self._moving.settler.answer_owed()
        await self._pull.answer_aside()
        await self._top_up(flowing=bool(deliveries) and self._is_flowing(deliveries[-1]))
        self._undecoded += deliveries
        await self._hand_on()
        await self._send(self._admission.released())
        return True

    def _is_flowing(self, last: Delivery) -> bool:
        """Tell whether messages keep coming: more are in hand than requested; else the logger is nearly idle.

        After a request for a lone message, other messages have to be pending too.
        """
        alone, self._alone = self._alone, False
        more_came = self._in_hand.whole > self._pull.outstanding.messages
        return more_came and (not alone or still_pending(last) > 0)

    def _report_signals(self, signals: set[Signal]) -> None:
        pull = self._pull
        error = f"the server said {pull.last_words!r}"
        if pull.fruitless > 1:
            error += f" {pull.fruitless} times in a row, and sent nothing"
        if pull.too_small >= LARGEST:
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

    async def _hand_on(self) -> None:
        """Decode and hand on the deliveries that there is room for; the others stay undecoded."""
        decoded: list[Decoded] = []
        messages = size = 0
        while inflated := self._admitted():
            for _ in inflated.deliveries:
                self._undecoded.popleft()
            for one in self._moving.codec.decode_inflated(inflated, weigh=self._accounts.decoded.is_scarce):
                if one is None:
                    await lowlevel.checkpoint()
                    continue
                self._in_hand.count_decoded(one)
                decoded += self._admission.admitted(one)
            messages, size = messages + len(inflated.deliveries), size + inflated.size
            if messages >= _SLICE or size >= _SLICE_BYTES:
                await self._send(decoded)
                decoded, messages, size = [], 0, 0
        await self._send(decoded)

    def _admitted(self) -> Inflated | None:
        """Return the next inflated deliveries that the budget has room for when decoded; None without room for one."""
        account = self._accounts.decoded
        account.use(self._in_hand.decoded_bytes)
        if not self._undecoded:
            account.withdraw()
            return None
        inflated = self._moving.codec.inflated_from(list(islice(self._undecoded, self._max_at_once)))
        while len(inflated.deliveries) > 1 and not account.has_room(inflated.ceiling):
            self._max_at_once = len(inflated.deliveries) // 2
            inflated = self._moving.codec.inflated_from(inflated.deliveries[: self._max_at_once])
        if len(inflated.deliveries) == 1 and not account.reserve(inflated.ceiling):
            return None
        account.withdraw()
        self._max_at_once = min(_SLICE, 2 * self._max_at_once)
        return inflated

    async def _send(self, decoded: list[Decoded]) -> None:
        if not decoded:
            return
        deliveries = [delivery for one in decoded for delivery in one.deliveries]
        self._report(
            Received(
                self._key,
                messages=len(deliveries),
                entries=sum([one.total for one in decoded]),
                bytes=sum([len(delivery.body) + len(delivery.raw_headers) for delivery in deliveries]),
                redelivered=sum([delivery.num_delivered > 1 for delivery in deliveries]),
            )
        )
        await lowlevel.checkpoint()
        await self._outbox.send(decoded)

    async def _top_up(self, *, flowing: bool) -> None:
        """Request more when a third of the limit is free, so that requests are few and overlap."""
        outstanding = self._pull.outstanding
        self._count()
        self._report(Held(self._key, len(self._in_hand), self._in_hand.memory_bytes))
        if not self._pull.can_ask:
            return
        account = self._accounts.received
        if not self._pull.too_small:
            account.withdraw()
        free = self._limits.messages - self._in_hand.whole - outstanding.messages
        if outstanding.requests and free < self._limits.messages // 3:
            return
        if self._pull.too_small:
            if not outstanding.requests:
                await self._ask_for_one()
            return
        free_bytes = min(account.available(flowing=flowing), self._limits.request_bytes)
        if free > 0 and free_bytes >= SMALLEST_ASK:
            messages = min(free, free_bytes // (2 * MESSAGE))
            account.use(account.used + free_bytes)
            await self._pull.ask(messages, free_bytes - messages * MESSAGE)
            self._count()

    async def _ask_for_one(self) -> None:
        """Request a lone message that is larger than an ordinary request, if the budget has room for it now."""
        account, size = self._accounts.received, self._pull.alone_bytes
        if account.reserve(size + MESSAGE):
            account.use(account.used + size + MESSAGE)
            self._alone = True
            await self._pull.ask_for_one(size)
            self._count()

    def _count(self) -> None:
        outstanding = self._pull.outstanding
        self._accounts.received.use(outstanding.bytes + outstanding.messages * MESSAGE + self._in_hand.bytes)
