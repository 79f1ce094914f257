"""The pipeline of one logger: consumer, batcher and writer in one task group, which share their fate.

Its state is in JetStream, so starting it again is always safe: what it had in hand is given back or comes again.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import CancelScope, Event, create_memory_object_stream, create_task_group, current_time, move_on_after, sleep

from collector.actors.ack_extender import AckExtender
from collector.actors.backoff import exponential
from collector.actors.batcher import Batcher
from collector.actors.consumer import Consumer, PullLimits
from collector.actors.waiting import first_of
from collector.actors.writer import Writer
from collector.dead_letters.store import DeadLetterStore
from collector.decoding.codec import Codec
from collector.errors import CollectionChanged, OwnershipLost, SinkUnavailable, WrongCollection, leaves
from collector.events import Failed, Failure, Held, LoggerState, Report, Returned, Stage, State
from collector.flow.batching import BatchPolicy, OpenBatch
from collector.flow.in_hand import InHand
from collector.flow.pool import PATIENCE
from collector.flow.settlement import NAK
from collector.jetstream.doubts import Doubts
from collector.jetstream.pull import Pull
from collector.model import Decoded
from collector.sinks.mongodb import MongoSink
from collector.sinks.place import Place, Seen
from collector.sinks.timeseries.horizon import Horizon
from collector.sinks.timeseries.sink import TimeSeriesSink
from collector.sinks.timeseries.store import TimeSeriesStore
from transfer.errors import Conflict, TransferError, Unavailable
from transfer.jetstream.comparison import not_meant

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio import Semaphore
    from pymongo.asynchronous.database import AsyncDatabase

    from collector.actors.owners import Candidacy, Owners
    from collector.flow.budget import Accounts, Budget
    from collector.jetstream.connection import NatsConnection
    from collector.jetstream.source import Attached, DurableSource
    from collector.model import Batch
    from collector.mongodb.collections import CollectionCatalog
    from collector.settings import Settings
    from collector.sinks import Sink
    from collector.sinks.timeseries.claims import Claims, Fenced
    from transfer.names import Names
    from transfer.wire import LoggerSpec

_T = TypeVar("_T")
_ATTACH_CAP = 2.0
"""Seconds between two looks for a stream that does not exist yet."""
_ANEW_PAUSE = 0.2
_UNHEARD_PAUSE = 10.0
"""Seconds before a subscription is asked for again that the server has refused."""
_RETURN_TIMEOUT = 2.0
_WAY_PERIOD = 5.0
"""Seconds between two looks whether others wait for what is held here."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all pipelines of a replica share."""

    names: Names
    settings: Settings
    nats: NatsConnection
    source: DurableSource
    database: AsyncDatabase[dict[str, Any]]
    catalog: CollectionCatalog
    budget: Budget
    claims: Claims
    owners: Owners
    report: Report
    write_slots: Semaphore
    """Writes that are under way at a time, of all loggers."""
    doubts: Doubts = field(default_factory=Doubts)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where entries go; for a time-series collection also what keeps them from going there twice, and until when."""

    sink: Sink
    seen: Seen
    horizon: Horizon | None = None
    handing_over: Event = field(default_factory=Event)
    lost: Event = field(default_factory=Event)
    changed: Event = field(default_factory=Event)
    """Set when the collection is not as it was seen any more: then it is looked at again, and what is in hand first
    written."""


class Pipeline:
    """Moves the entries of one logger from its stream into its collection until it is asked to stop."""

    def __init__(self, spec: LoggerSpec, shared: Shared) -> None:
        self.name = f"pipeline {spec.key}"
        self._key = spec.key
        self._spec = spec
        self._shared = shared
        self._collection = shared.names.collection(spec.key)
        names = self._collection, shared.names.dead_letters(spec.key)
        self._place = Place(shared.database, shared.catalog, spec.collection, names, shared.settings.write_timeout)

    async def run(self, stopping: Event) -> None:
        """Find stream and collection, move entries, and begin again when the stream is made anew."""
        with self._shared.budget.expecting():
            while not stopping.is_set():
                await self._live(stopping)
                with move_on_after(_ANEW_PAUSE):  # whatever makes a stream anew again and again makes no hot loop of us
                    await stopping.wait()

    async def _live(self, stopping: Event) -> None:
        """Move the entries of one incarnation of the stream."""
        attached = await self._patiently(self._attach, stopping)
        if attached is None:
            return
        seen = await self._patiently(self._place.prepare, stopping)
        if seen is None:
            return
        try:
            if seen.is_timeseries:
                await self._own(attached, stopping, seen)
            else:
                await self._move(attached, stopping, self._plain(seen))
        except* CollectionChanged as changed:
            self._place.doubt(seen)
            for one in leaves(changed):
                self._shared.report(
                    Failed(self._key, Stage.WRITE, Failure.UNAVAILABLE, str(one), "looking at the collection again")
                )

    async def _patiently(self, prepare: Callable[[], Awaitable[_T]], *ends: Event) -> _T | None:
        """Try until it works; None when one of these is set before that. A reason to wait is reported once."""
        curve, attempt, said = exponential(0.1, _ATTACH_CAP), 0, ""
        while not any(end.is_set() for end in ends):
            try:
                with CancelScope(shield=True):  # drivers are never cut; each call has a deadline of its own
                    return await prepare()
            except (TransferError, SinkUnavailable, WrongCollection) as exc:
                if str(exc) != said:
                    said = str(exc)
                    wrong = isinstance(exc, Conflict | WrongCollection)
                    state = State.MISCONFIGURED if wrong else State.BACKING_OFF
                    self._shared.report(LoggerState(self._key, state, said))
            attempt += 1
            with move_on_after(curve(attempt)):
                await first_of(*ends)
        return None

    async def _attach(self) -> Attached:
        return await self._shared.source.attach(self._key)

    async def _own(self, attached: Attached, stopping: Event, seen: Seen) -> None:
        """Stand by, and move entries while this replica is the one owner of a time-series logger."""
        with self._shared.owners.candidacy(self._key, attached.incarnation) as candidacy:
            self._shared.report(LoggerState(self._key, State.STANDBY, "another replica may own it"))
            fenced = await candidacy.own(stopping)
            if fenced is None:
                return
            lost = False
            ends = (stopping, candidacy.handing_over, candidacy.lost)
            try:
                now = await self._patiently(self._attach, *ends)  # it may have been made anew meanwhile
                if now is not None and now.incarnation == attached.incarnation:
                    await self._move(attached, stopping, self._owned(fenced, candidacy, seen))
            except* OwnershipLost:
                lost = True
            finally:
                await candidacy.give_back(lost=lost or candidacy.lost.is_set())

    def _plain(self, seen: Seen) -> _Target:
        """Return the collection that all replicas write into."""
        shared, finding = self._shared, self._place.finding(seen)
        return _Target(MongoSink(shared.database, self._collection, shared.settings.write_timeout, finding), seen)

    def _owned(self, fenced: Fenced, candidacy: Candidacy, seen: Seen) -> _Target:
        """Return the collection that only this replica writes into, for as long as it is the owner."""
        shared, horizon = self._shared, Horizon(fenced.tenure.mark)
        timeout, uuid = shared.settings.write_timeout, self._place.uuid(seen.collection) if seen.collection else None
        store = TimeSeriesStore(shared.database, self._collection, shared.claims, fenced, timeout, uuid=uuid)
        sink = TimeSeriesSink(self._key, store, fenced.tenure, horizon, shared.report)
        return _Target(sink, seen, horizon, candidacy.handing_over, candidacy.lost)

    async def _move(self, attached: Attached, stopping: Event, target: _Target) -> None:
        shared, in_hand = self._shared, InHand()
        pull = Pull(
            shared.nats.link,
            inbox=shared.nats.connection.new_inbox(),
            stream=shared.names.stream(self._key),
            durable=shared.names.durable(self._key),
            in_hand=in_hand,
            clock=current_time,
        )
        if not await self._listens(pull, stopping, target.handing_over, target.lost):
            return
        ending = Event()
        moving = shared.doubts.moving(self._key, attached)
        with closing(shared.budget.open(pull.wake)) as accounts, moving as doubted, CancelScope() as drained:
            try:
                async with create_task_group() as helpers:
                    ends = (stopping, target.handing_over, target.changed, doubted)
                    helpers.start_soon(self._keep_moving, ends, ending, pull, drained, name=f"{self._key} stop")
                    helpers.start_soon(self._until_lost, target.lost, name=f"{self._key} loss")
                    helpers.start_soon(self._look_again, target, name=f"{self._key} collection")
                    helpers.start_soon(self._give_way, accounts, in_hand, target, name=f"{self._key} way")
                    extender = AckExtender(in_hand, shared.nats.link, attached.ack_wait)
                    helpers.start_soon(extender.run, name=f"{self._key} keeper")
                    shared.report(LoggerState(self._key, State.RUNNING, self._risks(attached, target)))
                    await self._run_stages(attached, target, pull, in_hand, accounts=accounts, ending=ending)
                    helpers.cancel_scope.cancel()
            except* OwnershipLost:
                in_hand.drop()
                raise
            finally:
                await self._give_back(in_hand)

    async def _listens(self, pull: Pull, *ends: Event) -> bool:
        """Subscribe; when the server refuses, say why, wait, and return False, so that an owner gives back."""
        try:
            with CancelScope(shield=True):  # it has deadlines of its own
                await pull.open()
        except Unavailable as exc:
            self._shared.report(LoggerState(self._key, State.BACKING_OFF, str(exc)))
            with move_on_after(_UNHEARD_PAUSE):
                await first_of(*ends)
            return False
        return True

    def _risks(self, attached: Attached, target: _Target) -> str:
        """Say what may happen to the entries, but for what the logger's spec states."""
        of_stream = map(str, not_meant(attached.risks, self._spec.stream))
        return "; ".join(filter(None, (*of_stream, target.seen.differences)))

    async def _keep_moving(self, ends: tuple[Event, ...], ending: Event, pull: Pull, drained: CancelScope) -> None:
        """Wake the consumer when the moving is to end, and cut the draining short at its deadline."""
        await first_of(*ends)
        ending.set()
        self._shared.report(LoggerState(self._key, State.DRAINING))
        drained.deadline = current_time() + self._shared.settings.drain_timeout
        pull.wake()

    async def _until_lost(self, lost: Event) -> None:
        await lost.wait()
        raise OwnershipLost(self._key)

    async def _look_again(self, target: _Target) -> None:
        """Look at the collection at each reconcile, all pipelines at the same moment: so they ask together."""
        period = self._shared.settings.reconcile_period
        while not target.changed.is_set():
            await sleep(period - current_time() % period)
            try:
                with CancelScope(shield=True):
                    seen = await self._place.inspect()
            except WrongCollection:
                target.changed.set()
            except SinkUnavailable:
                continue  # the writes say so too
            else:
                if seen != target.seen and (target.seen.collection is not None or seen.differences):
                    target.changed.set()

    async def _give_way(self, accounts: Accounts, in_hand: InHand, target: _Target) -> None:
        """Begin again, at the end of the line, when what cannot be written keeps others from their next message."""
        while not (in_hand and accounts.has_to_give_way()):  # noqa: ASYNC110 - it is about nothing that happens
            await sleep(_WAY_PERIOD)
        why = (
            f"expected to write what it holds within {PATIENCE:g} s, as other loggers wait for its room, but could not"
        )
        action = "giving it back, and taking it again in turn"
        self._shared.report(Failed(self._key, Stage.WRITE, Failure.UNAVAILABLE, why, action))
        target.changed.set()

    async def _run_stages(
        self, attached: Attached, target: _Target, pull: Pull, in_hand: InHand, *, accounts: Accounts, ending: Event
    ) -> None:
        shared, settings = self._shared, self._shared.settings
        decoded_in, decoded_out = create_memory_object_stream[list[Decoded]](1)
        open_batches_in, open_batches_out = create_memory_object_stream[OpenBatch](1)
        codec = Codec(attached.incarnation)
        policy = BatchPolicy(settings.batch_entries, settings.batch_bytes, settings.batch_age)
        consumer = Consumer(
            self._key,
            source=shared.source,
            attached=attached,
            pull=pull,
            codec=codec,
            in_hand=in_hand,
            horizon=target.horizon,
            accounts=accounts,
            room=PullLimits(settings.most_held, settings.batch_bytes),
            outbox=decoded_in,
            reconnects=shared.nats.reconnects,
            report=shared.report,
            clock=current_time,
        )

        def on_settled(batch: Batch) -> None:
            if target.horizon is not None:
                target.horizon.settled(batch.deliveries, batch.entries)
            accounts.settled()
            pull.wake()

        writer = Writer(
            self._key,
            codec=codec,
            sink=target.sink,
            letters=DeadLetterStore(
                shared.database, shared.names.dead_letters(self._key), settings.write_timeout, time.time
            ),
            answering=pull,
            in_hand=in_hand,
            inbox=open_batches_out,
            writes=settings.writes,
            write_slots=shared.write_slots,
            on_settled=on_settled,
            report=shared.report,
            clock=current_time,
            why=self._risks(attached, target),
        )
        batcher = Batcher(policy, decoded_out, open_batches_in, current_time)
        async with create_task_group() as stages:
            stages.start_soon(consumer.run, ending, name=f"{self._key} consumer")
            stages.start_soon(batcher.run, name=f"{self._key} batcher")
            stages.start_soon(writer.run, ending, name=f"{self._key} writer")
        await consumer.settle(ending)

    async def _give_back(self, in_hand: InHand) -> None:
        """Nak what is left, so that another replica gets it now and not after ack wait."""
        left = in_hand.all()
        if left:
            unsent = len(left)
            with CancelScope(shield=True), move_on_after(_RETURN_TIMEOUT):
                unsent = await self._shared.nats.link.answer([(delivery.reply, NAK) for delivery in left])
            if len(left) > unsent:
                self._shared.report(Returned(self._key, len(left) - unsent))
        self._shared.report(Held(self._key, 0, 0))
