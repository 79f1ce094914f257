"""JetStream, as far as the protocol needs it: a work queue with its durable, or a limits stream read without acks.

The durable delivers in the order of sequences, and again what was not answered in time. It forgets: a server alone that
is killed forgets deliveries, acks and removals of the last moments, a new leader of three forgets acks, or deliveries
too. The old leader may still answer CONSUMER.INFO with its own state. Messages of a limits stream expire, or the stream
goes back, and gives its last sequences to other messages. Facts: docs/archive.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from collector.archive.reading import DurableFacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.jetstream.parser import AnyFrame
    from tests.simulation.archive.world import World
    from tests.simulation.scheduler import Process

STREAM, DURABLE = "S", "D"
REQUEST_EXPIRES = 3.0
_REMEMBERED = 0.5
"""Seconds of deliveries, acks and removals that a kill makes the server forget at most."""


@dataclass(eq=False)
class Inbox:
    """Where deliveries go: over one connection, which keeps their order, to one subscription."""

    process: Process
    receive: Callable[[AnyFrame], None]
    open: bool = True
    connection: int = 0
    latest: float = 0.0

    def reconnect(self) -> None:
        """Begin a new connection; all that is on the old one gets lost."""
        self.connection += 1
        self.latest = 0.0


@dataclass(slots=True)
class Request:
    """A pull request: how many messages it still wants, and until when."""

    inbox: Inbox
    connection: int
    wanted: int
    until: float


@dataclass(slots=True)
class Consumer:
    """A durable, or the consumer without acks of one reader."""

    next: int = 1
    number: int = 0
    """The consumer sequence of the last delivery."""
    highest: int = 0
    pending: dict[int, float] = field(default_factory=dict)
    """When each delivery that is not acked is delivered again."""
    acks: bool = True
    requests: list[Request] = field(default_factory=list)

    def copy(self) -> Consumer:
        """Return the state that the server keeps: no requests."""
        return Consumer(self.next, self.number, self.highest, dict(self.pending), self.acks)

    def facts(self) -> DurableFacts:
        """Return the answer to CONSUMER.INFO."""
        return DurableFacts(len(self.pending), self.number, self.highest)


class Stream:
    """The stream, and on a work queue its one durable."""

    def __init__(self, world: World, *, queue: bool, on_removed: Callable[[int], None]) -> None:
        self.queue = queue
        self.last = 0
        self.there: set[int] = set()
        self.expired: set[int] = set()
        self.times: dict[int, int] = {}
        """When each message was stored: no two were at the same time."""
        self.went_back = False
        self.keeps = False
        """Whether no message expires: without the one at the cursor nobody can tell that a stream went back."""
        self._now = 0
        self._world = world
        self._on_removed = on_removed
        self._ack_wait = world.random.choice((5.0, 20.0, 60.0))
        self._durable = Consumer()
        self._saved = (0.0, self._durable.copy(), set[int](), 0)
        self._old_leader: Consumer | None = None

    def publish(self) -> None:
        """Store the next message; on a limits stream it may expire."""
        self.last += 1
        self._now += 1
        self.times[self.last] = self._now
        self.there.add(self.last)
        self._world.tally["messages"] += 1
        if not self.queue and self._world.random.random() < 0.3:
            self._world.scheduler.after(self._world.random.uniform(20, 200), None, self._expire, self.last)
        self._serve(self._durable)

    def _expire(self, sequence: int) -> None:
        if self.keeps:
            return
        if self._world.scheduler.now < self._world.weather.until and sequence in self.there:
            self.there.discard(sequence)
            self.expired.add(sequence)
            self._world.tally["expired"] += 1

    # --- the consumers

    def reset(self) -> bool:
        """Have the durable deliver from the beginning of what is there, counting from 1."""
        requests = [one for one in self._durable.requests if one.inbox.open]  # the end of a subscription came before
        self._durable = Consumer(min(self.there, default=self.last + 1), requests=requests)
        self._world.tally["resets"] += 1
        self._world.say("JetStream", "resets the durable to {}", self._durable.next)
        return True

    def make_reader(self, after: int) -> Consumer:
        """Make a consumer without acks behind a sequence."""
        return Consumer(after + 1, acks=False)

    def pull(self, consumer: Consumer | None, inbox: Inbox, count: int) -> None:
        """Take a pull request: of the durable, or of a reader."""
        consumer = consumer or self._durable
        until = self._world.scheduler.now + REQUEST_EXPIRES
        consumer.requests.append(Request(inbox, inbox.connection, count, until))
        self._serve(consumer)

    def read(self, after: int, count: int) -> dict[int, int]:
        """Return the next sequences that are there, and when they were stored: direct gets."""
        found = sorted(sequence for sequence in self.there if sequence > after)[:count]
        return {sequence: self.times[sequence] for sequence in found}

    def facts_at(self, sequence: int) -> tuple[int, int | None]:
        """Return the last sequence, and when a message was stored that is there."""
        return self.last, self.times[sequence] if sequence in self.there else None

    def info(self) -> DurableFacts:
        """Return what the durable's leader says, or sometimes what the leader before it says."""
        if self._old_leader is not None and self._world.random.random() < 0.5:
            self._world.tally["answers of an old leader"] += 1
            return self._old_leader.facts()
        return self._durable.facts()

    def ack(self, sequence: int) -> None:
        """Take an ack, whoever it comes from."""
        self._save_sometimes()
        if self._durable.pending.pop(sequence, None) is not None and sequence in self.there:
            self.there.discard(sequence)
            self._on_removed(sequence)

    def _serve(self, consumer: Consumer) -> None:
        self._save_sometimes()
        now = self._world.scheduler.now
        while requests := [one for one in consumer.requests if one.wanted > 0 and one.until >= now]:
            consumer.requests = requests
            sequence = self._next(consumer, now)
            if sequence is None:
                return
            requests[0].wanted -= 1
            consumer.number += 1
            consumer.highest = max(consumer.highest, sequence)
            if consumer.acks:
                self._world.tally["redeliveries"] += sequence in consumer.pending
                consumer.pending.pop(sequence, None)
                consumer.pending[sequence] = now + self._ack_wait
            self._deliver(requests[0], sequence, consumer.number)

    def _next(self, consumer: Consumer, now: float) -> int | None:
        again = next((one for one, due in consumer.pending.items() if due <= now and one in self.there), None)
        if again is not None:
            return again
        while consumer.next <= self.last:
            consumer.next += 1
            if consumer.next - 1 in self.there:
                return consumer.next - 1
        return None

    def _deliver(self, request: Request, sequence: int, number: int) -> None:
        world, inbox = self._world, request.inbox
        world.tally["deliveries"] += 1
        world.say("JetStream", "delivers {} as {} to {}", sequence, number, inbox.process.name)
        reply = f"$JS.ACK.{STREAM}.{DURABLE}.1.{sequence}.{number}.{self.times[sequence]}.0".encode()
        inbox.latest = max(inbox.latest, world.scheduler.now + world.travel())
        delay = inbox.latest - world.scheduler.now
        world.scheduler.after(delay, inbox.process, self._arrive, request, (b"s", reply, b"", b""))

    @staticmethod
    def _arrive(request: Request, frame: AnyFrame) -> None:
        if request.inbox.open and request.connection == request.inbox.connection:
            request.inbox.receive(frame)

    # --- what the server forgets

    def _save_sometimes(self) -> None:
        now = self._world.scheduler.now
        if now - self._saved[0] >= _REMEMBERED:
            self._saved = (now, self._durable.copy(), set(self.there), self.last)

    def kill(self) -> None:
        """Forget deliveries, acks and removals since the last save; nothing that was published is forgotten."""
        _, durable, there, last = self._saved
        self.there = (there | set(range(last + 1, self.last + 1))) - self.expired
        self._durable, self._old_leader = durable.copy(), None
        for sequence in self._durable.pending:
            self._durable.pending[sequence] = self._world.scheduler.now + self._ack_wait

    def go_back(self, messages: int) -> None:
        """Forget the last messages of a limits stream, as a machine does that loses what was not on its disk."""
        self.last -= min(messages, self.last)
        self.there = {sequence for sequence in self.there if sequence <= self.last}
        self._durable = Consumer()
        self._saved = (self._world.scheduler.now, self._durable.copy(), set(self.there), self.last)
        self.went_back = True

    def change_leader(self) -> None:
        """Have a new leader: it has all deliveries and not the last acks, or not the last deliveries either.

        The messages of forgotten acks are gone all the same, or there again.
        """
        _, saved, there, _ = self._saved
        random, now, was = self._world.random, self._world.scheduler.now, self._durable
        self._old_leader = was.copy()
        self._world.scheduler.after(random.uniform(0, 10), None, self._forget_old_leader)
        pending = dict.fromkeys([*saved.pending, *was.pending], now + self._ack_wait)
        keeps_deliveries = random.random() < 0.5
        self._durable = Consumer(was.next, was.number, was.highest, pending) if keeps_deliveries else saved.copy()
        if random.random() < 0.5:
            known = {one for one in there if one in self._durable.pending or one >= self._durable.next}
            self.there |= known - self.expired

    def _forget_old_leader(self) -> None:
        self._old_leader = None
