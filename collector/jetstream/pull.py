"""The pull subscription of one durable: requests, deliveries, and the statuses of JetStream.

In: frames of one inbox. Out: deliveries in the order in which they came, and `Signal`s for the consumer.
The requests are the documented ones (https://docs.nats.io/reference/reference-protocols/nats_api_reference,
`$JS.API.CONSUMER.MSG.NEXT`): `batch`, `max_bytes`, `expires`, `idle_heartbeat`. Every request has `max_bytes`, because
nats-server then reports when a request is done ("Batch Completed") and how much of it was not used. So the outstanding
messages and bytes are known exactly while requests overlap.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from anyio import move_on_after

from collector.flow.homes import AT_HOME, SHORT, SHORT_LIVED
from collector.flow.ticks import LONGEST_WAIT
from collector.jetstream.aside import Aside
from collector.jetstream.asking import pull_request
from collector.jetstream.certainty import Certainty
from collector.jetstream.endings import Endings
from collector.jetstream.messages import Bare, PullStatus, Signal, read_delivery, read_status, signal_of, unused
from collector.jetstream.outstanding import Outstanding
from collector.jetstream.pace import LIFETIME, Pace
from collector.runtime.latch import Latch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Set

    from collector.flow.in_hand import InHand
    from collector.flow.settlement import Answer
    from collector.jetstream.link import Link, Subscribed
    from collector.jetstream.outstanding import Asked
    from collector.jetstream.pace import Times
    from collector.jetstream.parser import AnyFrame
    from collector.jetstream.source import Attached
    from collector.model import Delivery

_LULL = LONGEST_WAIT + 0.02
"""Seconds without a message after which we assume that no message is in flight. Reads may be gathered meanwhile."""
_FLOWING = 0.5
"""Seconds that a drain waits for such a lull at most."""
_ASIDE_TIMEOUT = 1.0
"""Seconds for answers to messages that come again after the ack wait all the same."""
_FEW = Pace()
_NO_SIGNALS: frozenset[Signal] = frozenset()


def at_once(_messages: int, _size: int, _now: float) -> bool:
    """Wake the consumer for all messages that come."""
    return True


class Pull:
    """The pull subscription of one durable, from `open` to `drain`. Never more messages come than were asked for."""

    __slots__ = (
        "_aside",
        "_certainty",
        "_clock",
        "_deliveries",
        "_head",
        "_heard",
        "_heartbeat",
        "_in_hand",
        "_inbox",
        "_life",
        "_link",
        "_next",
        "_number",
        "_signals",
        "_stream",
        "_subscribed",
        "_taken_in_hand",
        "_wakes",
        "changed",
        "endings",
        "outstanding",
        "pace",
    )

    def __init__(
        self,
        link: Link,
        attached: Attached,
        *,
        inbox: str,
        in_hand: InHand,
        clock: Callable[[], float],
        pace: Pace = _FEW,
        wakes: Callable[[int, int, float], bool] = at_once,
    ) -> None:
        self.outstanding = Outstanding()
        self.endings = Endings()
        self._link = link
        self._inbox = inbox
        self._stream = attached.stream
        self._head = f"$JS.ACK.{attached.stream}.{attached.durable}"
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{attached.stream}.{attached.durable}"
        self._in_hand = in_hand
        self._clock = clock
        self._certainty = Certainty(lambda: link.life, clock)
        self._life = link.life
        """The connection on which the outstanding requests were made."""
        self.pace = pace
        self._heartbeat = pace.shortest
        """The longest heartbeat of the outstanding requests."""
        self._subscribed: Subscribed | None = None
        self._number = 0
        self._deliveries: list[Delivery] = []
        self._taken_in_hand = 0
        self._aside = Aside()
        self._signals: Set[Signal] = _NO_SIGNALS
        self._wakes = wakes
        self._heard = clock()
        self.changed = Latch()

    async def open(self) -> None:
        """Subscribe to the inbox, unless that is done; no message comes before `ask`. Raises `Unavailable`."""
        if self._subscribed is None:
            self._subscribed = await self._link.subscribe(f"{self._inbox}.*", self.receive)

    async def open_anew(self) -> None:
        """Subscribe again: the server may have ended the subscription, and does not tell that to a new connection."""
        subscribed, self._subscribed = self._subscribed, None
        if subscribed is not None:
            await subscribed.drain()
        await self.open()

    async def ask(self, messages: int, max_bytes: int, times: Times | None = None, *, priority: int = AT_HOME) -> None:
        """Ask for at most `messages` messages with at most `max_bytes` bytes; requests add up.

        Only an outstanding request is told by the server that the durable was deleted. A time without one makes the
        pull `unsure`.
        """
        self._forget_what_is_lost()
        self._number += 1
        request = f"{self._inbox}.{self._number}"
        now = self._clock()
        heartbeat, lifetime = times or self.pace.of(SHORT if priority in SHORT_LIVED else LIFETIME)
        if not self.outstanding.requests:
            self._heard, self._heartbeat = now, heartbeat
            self._certainty.gap()
        self._heartbeat = max(self._heartbeat, heartbeat)
        self.outstanding.asked(request, messages, max_bytes, self._number, now + lifetime / 2, priority=priority)
        wanted = pull_request(messages, max_bytes, lifetime, heartbeat, priority)
        await self._link.publish(self._next, wanted, request)

    async def ask_for_one(self, max_bytes: int, *, priority: int = AT_HOME) -> None:
        """Ask for a lone message, because it is larger than an ordinary request."""
        await self.ask(1, max_bytes, self.pace.alone, priority=priority)

    def receive(self, frames: Sequence[AnyFrame]) -> bool:
        """Take the frames of one read; called from the reading loop. From here on the deliveries are in hand.

        Return whether nobody is woken: then more frames may come before anybody looks.
        """
        self._heard = self._clock()
        before, size = self._received, 0
        for frame in frames:
            subject, reply, raw_headers, body = frame
            if reply.startswith(b"$JS.ACK."):
                try:
                    delivery = read_delivery(frame, self._head, self._stream)
                except ValueError:
                    continue  # anybody may publish to an inbox; an error here would end the reading of the connection
                if body or not raw_headers or not self._is_set_aside(delivery):
                    self._deliveries.append(delivery)
                size += len(subject) + len(reply) + len(raw_headers) + len(body)
            elif raw_headers and not body:
                self._count_came(before, size)
                before, size = self._received, 0
                self._handle_status(subject.decode("latin-1"), raw_headers)
        self._count_came(before, size)
        self._take_in_hand()
        return not self.changed.is_set()

    def _count_came(self, before: int, size: int) -> None:
        if messages := self._received - before:
            self.endings.came(size, self._number)
            self.outstanding.came(messages, size)
            if self._wakes(messages, size, self._heard):
                self.changed.set()

    @property
    def _received(self) -> int:
        return len(self._deliveries) + len(self._aside.answers)

    def _is_set_aside(self, delivery: Delivery) -> bool:
        """Set a message that is no entry aside, to be answered by `answer_aside`; return whether it was."""
        bare = self._aside.keep(delivery)
        if bare is Bare.CUT:
            self._signals |= {Signal.CUT}
            self._certainty.doubt()
        return bare is not Bare.ENTRY

    # --- whether stream and durable are the same

    @property
    def unsure(self) -> bool:
        """Whether stream and durable may have been made anew unnoticed since the last check, before the deliveries."""
        return not self._certainty.of_deliveries

    @property
    def may_answer(self) -> bool:
        """Whether an answer would reach the stream and the durable that its message came from."""
        watched = bool(self.outstanding.requests) and self._life == self._link.life
        return self._link.connected and self._certainty.of_answers(watched=watched)

    def begin_check(self) -> None:
        """Begin a check of stream and durable; see `end_check`."""
        self._certainty.begin_check()

    def end_check(self) -> None:
        """End a check that found the same stream and the durable; a status that came meanwhile makes it unsure."""
        self._certainty.end_check()

    def fail_check(self) -> None:
        """End a check that found another stream, or none that is certain: then no answer is sent until the next one."""
        self._certainty.doubt()

    # --- answering

    async def answer(self, answers: Sequence[Answer]) -> int:
        """Send answers in order, if they may be sent; return how many of the last were not sent."""
        return await self._link.answer(answers) if self.may_answer else len(answers)

    def answer_at_once(self, answers: Sequence[Answer]) -> int | None:
        """See `Answering`."""
        return self._link.answer_at_once(answers) if self.may_answer else len(answers)

    @property
    def has_aside(self) -> bool:
        """Whether messages wait for `answer_aside`."""
        return bool(self._aside.answers)

    async def answer_aside(self) -> None:
        """Let cut messages be delivered again, and remove markers; call it after a check of the durable.

        A second delivery is harmless, so a nak is sent always. An ack waits until it may be sent.
        """
        if answers := self._aside.take(certain=self.may_answer):
            with move_on_after(_ASIDE_TIMEOUT):
                await self._link.answer(answers)

    def _take_in_hand(self) -> None:
        self._in_hand.take(self._deliveries[self._taken_in_hand :])
        self._taken_in_hand = len(self._deliveries)

    def _handle_status(self, request: str, raw_headers: bytes) -> None:
        self._certainty.watched()
        status, words = read_status(raw_headers)
        if status is PullStatus.HEARTBEAT:
            return  # the consumer is not woken: the heartbeat has moved the deadline
        asked = self.outstanding.requests.get(request)
        if status in {PullStatus.REQUEST_DONE, PullStatus.REQUEST_EXPIRED, PullStatus.MESSAGE_TOO_LARGE}:
            rest = unused(raw_headers)
            self.outstanding.ended(request, *rest)
            if asked is not None and self.endings.is_refusal(status, asked, rest, self._clock()):
                self._refused(status, asked, words)
            if self._signals or (asked is not None and self.outstanding.priority > asked.priority):
                self.changed.set()  # also without any request: the priority is infinite then
            return
        self.changed.set()
        self.endings.last_words = words
        self.outstanding.ended_at_once(request)
        if status is PullStatus.DURABLE_DELETED:
            self._take_in_hand()
            self._in_hand.disown()
        if status is PullStatus.NOBODY_ANSWERS and self._certainty.is_new_connection:
            self._signals |= {Signal.LOOK}
            return
        if asked is not None:
            self._refused(status, asked, words)
        if signal := signal_of(status):
            self._signals |= {signal}
            self._certainty.doubt()

    def _refused(self, status: PullStatus, asked: Asked, words: str) -> None:
        if self.endings.refused(asked, words, self._number):
            self._signals |= {signal_of(status) or Signal.REFUSED}
            self._certainty.doubt()

    def take(self) -> list[Delivery]:
        """Return the deliveries that have come, in order, and renew `changed`."""
        deliveries, self._deliveries, self._taken_in_hand = self._deliveries, [], 0
        self.changed = Latch()
        return deliveries

    def signals(self) -> Set[Signal]:
        """Return the signals to act on, each once."""
        signals, self._signals = self._signals, _NO_SIGNALS
        if self._clock() >= self.deadline:
            self.outstanding.forget()
            if self._link.connected:
                signals |= {Signal.SILENT}
        return signals

    @property
    def deadline(self) -> float:
        """When silence becomes a signal, by the clock; infinite while no request is outstanding."""
        return self._heard + 2.5 * self._heartbeat if self.outstanding.requests else math.inf

    def heard_at(self) -> float | None:
        """When something was heard last, by the clock; None while no request is outstanding."""
        return self._heard if self.outstanding.requests else None

    @property
    def can_ask(self) -> bool:
        """Whether a request would reach the server; after a reconnect `forget_requests` is called."""
        return self._link.connected

    def forget_requests(self) -> None:
        """Drop the requests of the old connection, because the connection is a new one."""
        self._forget_what_is_lost()
        self.wake()

    def _forget_what_is_lost(self) -> None:
        """Drop requests whose connection is gone; this may be noticed before `forget_requests` is called."""
        if self._life != self._link.life:
            self._life = self._link.life
            self.outstanding.forget()
            self._heard = self._clock()

    def wake(self) -> None:
        """Wake the tasks that wait for `changed`."""
        self.changed.set()

    async def drain(self) -> list[Delivery]:
        """End the subscription, if there is one; return the deliveries that had still come.

        A message that nats-server is sending when the subscription ends counts as delivered, reaches nobody, and comes
        again only after the ack wait. So messages in flight are awaited first, for half a second at most.
        """
        came, self._wakes = self.take(), at_once
        with move_on_after(_FLOWING):
            while self.outstanding.requests and self._link.connected:
                with move_on_after(_LULL) as lull:
                    await self.changed.wait()
                if lull.cancelled_caught:
                    break
                came += self.take()
        subscribed, self._subscribed = self._subscribed, None
        if subscribed is not None:
            await subscribed.drain()
        if self.outstanding.requests:
            self._certainty.watched()
        self.outstanding.forget()
        return came + self.take()
