"""One tenure of a replica: what consumer, batcher and writer do with the service's own decisions, in the same order.

From the service: `Horizon`, `InHand`, `OpenBatch`, `TimeSeriesSink`, `settle`. Written after it, line for line where
the order matters: `Consumer._turn`, `Writer._store_and_settle`, `AckExtender`, and the end of `Stages.run`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from collector.errors import OwnershipLost, SinkUnavailable
from collector.events import Suspected
from collector.flow.batching import BatchPolicy, OpenBatch
from collector.flow.in_hand import InHand
from collector.flow.settlement import IN_PROGRESS, NAK, settle
from collector.model import Decoded, Entry, Reason, Rejected, Trigger
from tests.simulation.model_client import StoreModel
from tests.simulation.model_jetstream import ACK_WAIT, JetStream, Subscription
from tests.simulation.scheduler import Bell, Sleep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from collector.events import Event
    from collector.flow.settlement import Answer
    from collector.model import Batch, Delivery
    from collector.sinks.timeseries.ownership import Tenure
    from tests.simulation.model_client import Client
    from tests.simulation.scheduler import Action, Task, Waited

_DRAIN_TIMEOUT = 20.0
_SILENCE = 5.0
_BATCH_AGE = 0.1
_TURN_TAKEN = 0.1
"""How often a write has to wait until those of other loggers let it."""
_TURN = 0.5


class Moving:
    """Moves entries from JetStream into MongoDB from the taking of the claim until its end."""

    def __init__(self, client: Client, jetstream: JetStream, tenure: Tenure, *, batch_entries: int) -> None:
        self.epoch = tenure.epoch
        self.ended = Bell()
        self.lost = False
        self.stopping = False
        self._world = client.world
        self._process = client.process
        self._client = client
        self._jetstream = jetstream
        self._horizon = self._world.rules.horizon(tenure.mark)
        self._sink = self._world.rules.make_sink(StoreModel(client), tenure, self._horizon, self._report)
        self._writes = tenure.slots
        self._room = batch_entries * (tenure.slots + 2)
        self._in_hand = InHand()
        self._policy = BatchPolicy(batch_entries, 1 << 20)
        self._open_batch = OpenBatch(1, self._policy)
        self._offered: deque[OpenBatch] = deque()
        self._writing = 0
        self._inbox: list[Delivery] = []
        self._asked = 0
        self._heard = 0.0
        self._changed = Bell()
        self._drained = Bell()
        self._subscription = Subscription(self._world, self._process, self._receive)
        self._tasks = [self._start(self._consume()), self._start(self._keep())]
        self._after(_SILENCE, self._look)

    def stop(self) -> None:
        """Drain, give back what is left, and end."""
        if not self.stopping:
            self.stopping = True
            self._subscription.open = False
            self._changed.ring()
            self._tasks.append(self._start(self._drain()))

    def lose(self) -> None:
        """Drop all without a word, and end."""
        if not self.lost:
            self.lost = True
            self._world.say(self._process.name, "drops {} that it holds", [one.sequence for one in self._in_hand.all()])
            self._in_hand.drop()
            self._end()

    def disconnect(self) -> None:
        """Lose the connection to JetStream, and have a new one as soon as it is noticed."""
        self._subscription.reconnect()
        self._after(self._world.travel(), self._ask_again)

    def hear_that_the_durable_is_gone(self) -> None:
        """Answer nothing that is in hand any more, and ask again."""
        self._in_hand.disown()
        self._ask_again()

    def gone(self) -> None:
        """Take note that the process was killed."""
        self._subscription.open = False

    # The consumer.

    def _receive(self, delivery: Delivery) -> None:
        self._heard = self._world.scheduler.now
        self._in_hand.take([delivery])
        self._inbox.append(delivery)
        self._asked = max(0, self._asked - 1)
        self._changed.ring()

    async def _consume(self) -> None:
        while True:
            deliveries, self._inbox = self._inbox, []
            if not self.stopping:
                self._top_up()
            for delivery in deliveries:
                opened = self._open(delivery)
                if self._horizon.admit(opened):
                    self._hand_on(opened)
                else:
                    self._world.tally["copies that waited"] += 1
                    self._world.say(self._process.name, "holds back a copy: sequence {}", delivery.sequence)
            if self.stopping:
                self._offer(self._open_batch, Trigger.DRAIN)
                self._drained.ring()
                return
            for opened in self._horizon.released():
                self._world.say(self._process.name, "releases the copy of sequence {}", opened.deliveries[0].sequence)
                self._hand_on(opened)
            await self._changed

    def _open(self, delivery: Delivery) -> Decoded:
        identities = self._jetstream.contents(delivery.sequence)
        self._world.say(
            self._process.name,
            "receives sequence {} (delivery {}), entries {}, horizon {}",
            *(delivery.sequence, delivery.num_delivered, identities, self._horizon.highest),
        )
        return Decoded([delivery], [Entry(delivery, None, {"_id": one}, False) for one in identities], [], 1)

    def _top_up(self) -> None:
        free = self._room - len(self._in_hand) - self._asked
        if free > 0:
            self._asked += free
            self._after(self._world.travel(), self._jetstream.ask, self._subscription, self._asked, outside=True)

    def _look(self) -> None:
        """Ask again after silence: what was asked for may be lost."""
        if self._world.scheduler.now - self._heard >= _SILENCE and not self.stopping:
            self._heard = self._world.scheduler.now
            self._ask_again()
        if not self.lost:
            self._after(_SILENCE, self._look)

    def _ask_again(self) -> None:
        self._asked = 0
        self._changed.ring()

    # The batcher.

    def _hand_on(self, opened: Decoded) -> None:
        if self._open_batch.taken or self._open_batch.full:
            self._open_batch = OpenBatch(self._open_batch.id + 1, self._policy)
        if not self._open_batch:
            self._after(_BATCH_AGE, self._offer, self._open_batch, Trigger.AGE)
        self._open_batch.add(opened)
        if self._open_batch.full:
            self._offer(self._open_batch, self._open_batch.full)

    def _offer(self, open_batch: OpenBatch, why: Trigger) -> None:
        if open_batch and open_batch.offered is None and not self.lost:
            open_batch.offered = why
            self._offered.append(open_batch)
            self._write_on()

    # The writer.

    def _write_on(self) -> None:
        while self._offered and self._writing < self._writes:
            self._writing += 1
            self._tasks = [task for task in self._tasks if not task.done]
            self._tasks.append(self._start(self._write(self._offered.popleft())))

    async def _write(self, open_batch: OpenBatch) -> None:
        try:
            if self._world.random.random() < _TURN_TAKEN:
                await Sleep(_TURN * self._world.random.random())
            await self._store_and_settle(open_batch.take())
        except OwnershipLost:
            self._world.say(self._process.name, "is refused")
            self.lose()
            return
        except SinkUnavailable:
            pass  # asked to stop meanwhile: it stays in hand and is given back
        self._writing -= 1
        self._write_on()
        self._drained.ring()

    async def _store_and_settle(self, batch: Batch) -> None:
        writing = self._sink.begin(batch.entries)
        await self._patiently(writing.attempt)
        refused = writing.written.refused
        rejects = [_reject(refusal.entry) for refusal in refused]
        if rejects:
            identities = [reject.identity for reject in rejects]
            await self._patiently(lambda: self._client.call(self._client.mongo.keep_letters, identities))
        gone = {id(refusal.entry) for refusal in refused}
        kept = [entry for entry in batch.entries if id(entry) not in gone]
        self._answer(self._in_hand.owned(settle(batch.deliveries, kept, rejects)))
        self._in_hand.release(batch.deliveries)
        self._horizon.settled(batch.deliveries, batch.entries)
        self._changed.ring()

    async def _patiently(self, attempt: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await attempt()
            except SinkUnavailable:
                if self.stopping:
                    raise
            else:
                return
            await Sleep(0.1 + 1.9 * self._world.random.random())

    # Answers, and the end.

    async def _keep(self) -> None:
        while True:
            await Sleep(ACK_WAIT / 3)
            self._answer([(delivery.reply, IN_PROGRESS) for delivery in self._in_hand.all()])

    async def _drain(self) -> None:
        late = self._world.scheduler.now + _DRAIN_TIMEOUT
        self._after(_DRAIN_TIMEOUT, self._drained.ring)
        while self._holds_something and self._world.scheduler.now < late:
            await self._drained
        left = self._in_hand.all()
        self._world.say(self._process.name, "gives back {}", [delivery.sequence for delivery in left])
        self._answer([(delivery.reply, NAK) for delivery in left])
        self._in_hand.drop()
        self._end()

    @property
    def _holds_something(self) -> bool:
        draft_is_left = self._open_batch and not self._open_batch.taken
        return bool(self._inbox or draft_is_left or self._offered or self._writing)

    def _answer(self, answers: Iterable[Answer]) -> None:
        """Let each answer travel on its own; each may get lost."""
        world = self._world
        for reply, payload in answers:
            if world.stormy(world.weather.lost / 2):
                world.tally["answers lost"] += 1
            else:
                self._after(world.travel(), self._jetstream.answer, reply, payload, outside=True)

    def _end(self) -> None:
        self._subscription.open = False
        for task in self._tasks:
            task.cancel()
        self.ended.ring()

    def _report(self, event: Event) -> None:
        if isinstance(event, Suspected):
            self._world.tally["suspects"] += event.suspects.total()

    def _start(self, coroutine: Coroutine[Waited, None, None]) -> Task:
        return self._world.scheduler.start(self._process, coroutine)

    def _after(self, delay: float, action: Action, *arguments: object, outside: bool = False) -> None:
        self._world.scheduler.after(delay, None if outside else self._process, action, *arguments)


def _reject(entry: Entry) -> Rejected:
    identity = entry.document["_id"]
    return Rejected(entry.delivery, entry.position, identity, Reason.DOCUMENT_INVALID, "expected another one", b"")
