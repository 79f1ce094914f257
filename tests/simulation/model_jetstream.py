"""JetStream, as far as the protocol needs it: one work-queue stream with one durable, which several replicas pull.

It delivers what is new in the order of its sequence, and again what was not answered within ack wait. It forgets: in a
crash the deliveries and acks of the last moments, in a change of leader acks alone, and with the durable, which is in
memory, all that it has ever delivered. It believes any answer for a message that it remembers to have delivered, also
that of an old holder: in progress prolongs the time of the new one, a nak redelivers at once, an ack removes. Facts:
docs/timeseries.md.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector.flow.settlement import IN_PROGRESS, NAK
from collector.model import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.scheduler import Process
    from tests.simulation.world import Identity, World

ACK_WAIT = 30.0
REQUEST_EXPIRES = 60.0
_AGAIN = b"NATS/1.0\r\nTransfer-Attempt: 2\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Message:
    """What was published: the entries of one message, of which some can never be stored."""

    identities: tuple[Identity, ...]
    attempt: int = 1


@dataclass(slots=True)
class Pending:
    """A delivery that is not answered."""

    count: int
    deadline: float


class Subscription:
    """Where the deliveries of one tenure go. What is sent over one connection keeps its order."""

    def __init__(self, world: World, process: Process, receive: Callable[[Delivery], None]) -> None:
        self.wanted = 0
        self.wanted_until = 0.0
        self.open = True
        self.connection = 0
        self._world = world
        self._process = process
        self._receive = receive
        self._last = 0.0

    def send(self, delivery: Delivery) -> None:
        """Let a delivery travel."""
        scheduler = self._world.scheduler
        self._last = max(self._last, scheduler.now + self._world.travel())
        scheduler.after(self._last - scheduler.now, self._process, self._arrive, delivery, self.connection)

    def reconnect(self) -> None:
        """Begin a new connection; what the old one still holds gets lost, or comes late."""
        self.connection += 1
        self._last = 0.0
        self.wanted = 0

    def _arrive(self, delivery: Delivery, connection: int) -> None:
        if not self.open:
            return
        world = self._world
        if connection != self.connection:
            if world.random.random() < 0.5:
                return
            world.tally["late on an old connection"] += 1
        self._receive(delivery)


class JetStream:
    """The stream and its durable."""

    def __init__(self, world: World, on_removed: Callable[[Message], None]) -> None:
        self.messages: dict[int, Message] = {}
        """By sequence, what nobody has acked."""
        self._world = world
        self._on_removed = on_removed
        self._flush = world.random.choice((0.3, 2.0, 10.0))
        self._published: list[Message] = []
        self._subscriptions: list[Subscription] = []
        self._cursor = 0
        """The highest sequence that was delivered."""
        self._count = 0
        self._pending: dict[int, Pending] = {}
        self._again: deque[int] = deque()
        self._flushed = 0.0
        self._durable = (0, 0, dict[int, int]())
        self._acked_since: dict[int, Message] = {}

    def publish(self, message: Message) -> None:
        """Store a message under the next sequence."""
        self._published.append(message)
        self.messages[len(self._published)] = message
        text = "publishes {} as sequence {}" if message.attempt == 1 else "publishes {} again, as sequence {}"
        self._world.say("publisher", text, message.identities, len(self._published))
        self._dispatch()

    def ask(self, subscription: Subscription, messages: int) -> None:
        """Take a pull request."""
        if subscription.open:
            if subscription not in self._subscriptions:
                self._subscriptions.append(subscription)
            subscription.wanted = messages
            subscription.wanted_until = self._world.scheduler.now + REQUEST_EXPIRES
            self._dispatch()

    def answer(self, reply: str, payload: bytes) -> None:
        """Take an answer, whoever it comes from."""
        self._flush_sometimes()
        sequence = int(reply.split(".")[5])
        pending = self._pending.get(sequence)
        if payload == IN_PROGRESS:
            if pending is not None:
                pending.deadline = self._world.scheduler.now + ACK_WAIT
        elif payload == NAK:
            if pending is not None:
                self._redeliver(sequence)
                self._dispatch()
        elif sequence in self.messages and sequence <= self._cursor:
            self._remove(sequence)

    def nak_any(self) -> None:
        """Hear an old holder's nak of something that somebody may be writing at the moment."""
        if self._pending:
            sequence = self._world.random.choice(list(self._pending))
            self._world.say("somebody", "naks sequence {}", sequence)
            self._redeliver(sequence)
            self._dispatch()

    def crash(self) -> None:
        """Forget the deliveries and acks of the last moments, and all requests."""
        self._world.tally["forgotten deliveries"] += self._count - self._durable[1]
        self._cursor, self._count, pending = self._durable
        self._recall_acks()
        deadline = self._world.scheduler.now + ACK_WAIT
        known = {sequence: count for sequence, count in pending.items() if sequence in self.messages}
        self._pending = {sequence: Pending(count, deadline) for sequence, count in known.items()}
        self._again.clear()
        self._forget_requests()
        for sequence in self._pending:
            self._watch(sequence)

    def change_leader(self) -> None:
        """Forget acks of the last moments, but no delivery, and all requests."""
        now = self._world.scheduler.now
        for sequence in self._recall_acks():
            self._pending.setdefault(sequence, Pending(1, now + ACK_WAIT))
            self._watch(sequence)
        self._forget_requests()

    def lose_durable(self, *, acks: bool) -> None:
        """Have a new durable in its place, which counts from 1; forget all requests, and on demand the last `acks`."""
        self._world.tally["deliveries of a lost durable"] += self._count
        if acks:
            self._recall_acks()
        self._cursor = self._count = 0
        self._durable = (0, 0, {})
        self._pending.clear()
        self._again.clear()
        self._forget_requests()

    def _recall_acks(self) -> list[int]:
        recalled = sorted(self._acked_since)
        self._world.tally["forgotten acks"] += len(recalled)
        self._world.say("JetStream", "forgets the acks of {}; delivered up to {}", recalled, self._cursor)
        self.messages.update(self._acked_since)
        self._acked_since.clear()
        return recalled

    def _forget_requests(self) -> None:
        for subscription in self._subscriptions:
            subscription.wanted = 0

    def _remove(self, sequence: int) -> None:
        message = self.messages.pop(sequence)
        self._acked_since[sequence] = message
        self._pending.pop(sequence, None)
        self._on_removed(message)
        self._dispatch()

    def _flush_sometimes(self) -> None:
        now = self._world.scheduler.now
        if now - self._flushed >= self._flush:
            counts = {sequence: pending.count for sequence, pending in self._pending.items()}
            self._durable = (self._cursor, self._count, counts)
            self._flushed = now
            self._acked_since.clear()

    def _dispatch(self) -> None:
        self._flush_sometimes()
        while (subscription := self._asking()) is not None and (sequence := self._next()) is not None:
            self._deliver(sequence, subscription)

    def _asking(self) -> Subscription | None:
        now = self._world.scheduler.now
        asking = [one for one in self._subscriptions if one.wanted and one.open and now < one.wanted_until]
        return self._world.random.choice(asking) if asking else None

    def _next(self) -> int | None:
        while self._again:
            sequence = self._again.popleft()
            if sequence in self.messages:
                return sequence
        while self._cursor < len(self._published):
            self._cursor += 1
            if self._cursor in self.messages:
                return self._cursor
        return None

    def _deliver(self, sequence: int, subscription: Subscription) -> None:
        before = self._pending.get(sequence)
        count = 1 if before is None else before.count + 1
        self._pending[sequence] = Pending(count, self._world.scheduler.now + ACK_WAIT)
        self._watch(sequence)
        self._count += 1
        subscription.wanted -= 1
        message = self.messages[sequence]
        reply = f"$JS.ACK.stream.durable.{count}.{sequence}.{self._count}.0.0"
        headers = _AGAIN if message.attempt > 1 else b""
        self._world.tally["deliveries"] += 1
        self._world.tally["redeliveries"] += count > 1
        subscription.send(Delivery("subject", reply, b"", headers, "stream", sequence, count, 0))

    def _watch(self, sequence: int) -> None:
        pending = self._pending[sequence]
        delay = max(0.0, pending.deadline - self._world.scheduler.now)
        self._world.scheduler.after(delay, None, self._expire, sequence, pending)

    def _expire(self, sequence: int, pending: Pending) -> None:
        if self._pending.get(sequence) is not pending:
            return
        if pending.deadline > self._world.scheduler.now + 1e-6:
            self._watch(sequence)
        else:
            self._redeliver(sequence)
            self._dispatch()

    def _redeliver(self, sequence: int) -> None:
        if sequence not in self._again:
            self._again.append(sequence)

    def contents(self, sequence: int) -> Sequence[Identity]:
        """Return the entries of a message."""
        return self._published[sequence - 1].identities
