"""The composition root: it opens all parts of a replica in order, and ends them in order.

endpoint                     answers from the first moment to the last
 └ MongoDB, NATS             opened until it works, closed last, each with a deadline
    └ root supervisor        one for one; gives up -> exit 1
       ├ owners, upkeep      end after the pipelines
       ├ registry, sampler, storage, presence
       └ pipelines           one for one, never gives up
          ├ pipeline[key]    consumer | batcher | writer: one for all
          └ archived[key]    owner of the archive | feed | batcher | writer: one for all
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import anyio
from anyio import CancelScope, Event, Semaphore, create_task_group, current_time, open_signal_receiver, sleep

from collector.actors.ack_extender import AckExtender
from collector.actors.archived import ArchivedPipeline, Archiving
from collector.actors.destinations import ChosenDestinations
from collector.actors.mongo_destinations import MongoDestinations
from collector.actors.moving import Shared
from collector.actors.owners import Owners
from collector.actors.pipeline import Pipeline
from collector.actors.presence import Presence
from collector.actors.registry import Registry
from collector.actors.sampler import Sampler
from collector.actors.storage import StorageWatcher
from collector.actors.supervisor import Pipelines, Supervisor
from collector.actors.upkeep import Rounds, Upkeep
from collector.errors import Aborted, ReaderGone
from collector.events import lifecycle
from collector.events.archiving import ArchiveGone
from collector.flow.batch_age import BatchAge
from collector.flow.budget import Budget
from collector.flow.homes import Homes
from collector.flow.levels import Levels
from collector.flow.ticks import between_reads
from collector.jetstream.beats import NatsBeats
from collector.jetstream.bucket import KvBucket
from collector.jetstream.connection import close, connect
from collector.jetstream.lag import JetStreamLag
from collector.jetstream.source import LoggerSources
from collector.jetstream.storage import JetStreamStorage
from collector.mongodb.calls import WRITES, database_of, open_mongo, watch_mongo
from collector.mongodb.collections import CollectionCatalog
from collector.mongodb.login import MongoLogin
from collector.runtime.gc_policy import GcPolicy
from collector.runtime.loop import new_event_loop
from collector.settings import Sink
from collector.sinks.timeseries.claims import Claims
from collector.telemetry.endpoint import serving
from collector.telemetry.log import LINES, EventLog
from collector.telemetry.metrics import Metrics
from collector.telemetry.observers import Observers
from collector.telemetry.status import Status
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from collector.actors.supervisor import Child
    from collector.jetstream.connection import NatsConnection
    from collector.settings import Settings
    from collector.telemetry.logger_status import Tally
    from transfer.environment import Environment
    from transfer.wire import LoggerSpec

_PULSE = 1.0
_LESS_OFTEN = 3
"""Readings of the lag for one reading of JetStream's storage."""
_SELDOMEST = 20.0
"""Seconds between two readings of the storage at most; after 60 s the numbers count as unknown."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
"""Signals that start a drain; a terminal that is closed sends SIGHUP, which Windows does not have."""


class Service:
    """One replica, from `run` to its end."""

    def __init__(self, settings: Settings, starting: lifecycle.Starting | None = None) -> None:
        release = version("transfer-collector")
        self._settings = settings
        self._me = _replica_id()
        self._starting = starting
        self._names = Names(settings.namespace)
        mongodb = settings.database is not None
        self._metrics = Metrics(
            settings.namespace,
            release,
            settings.buffer_bytes,
            logger_histograms=settings.logger_histograms,
            mongodb=mongodb,
        )
        self._status = Status(settings.namespace, release, buffer_limit=settings.buffer_bytes, mongodb=mongodb)
        self._report = Observers(
            {
                lifecycle.Observer.METRICS: self._metrics.observe,
                lifecycle.Observer.STATUS: self._status.observe,
                lifecycle.Observer.LOG: EventLog().observe,
            }
        )
        self._batch_age = BatchAge(settings.batch_age, settings.batch_age_limit)
        self._levels = Levels()
        self._stopping = Event()
        self._opening = CancelScope()
        self._everything = CancelScope()
        self._ended_by: ReaderGone | None = None

    async def run(self) -> Tally:
        """Serve until a signal; a second one cancels.

        Raises GaveUp, ConnectionClosed, Aborted and ReaderGone, and CannotListen when the endpoint's address cannot be
        listened on.
        """
        settings, served = self._settings, False
        if self._starting is not None:
            self._report(self._starting)
        with serving(settings.http, self._metrics, self._status) as (host, port):
            self._report(lifecycle.Listening(host, port))
            async with create_task_group() as group:
                self._everything = group.cancel_scope
                group.start_soon(self._handle_signals, name="signals")
                group.start_soon(self._pulse, name="pulse")
                await self._serve()
                served = True
                group.cancel_scope.cancel()
        if not served:
            raise Aborted("expected to drain before the end, but had to end at once: what was in hand is given back")
        if self._ended_by is not None:
            raise self._ended_by
        return self._status.tally

    async def _serve(self) -> None:
        async with self._mongodb() as mongodb:
            nats = None
            with self._opening:
                nats = await connect(self._settings.nats, self._report, self._between_reads)
            if nats is None:
                return
            try:
                sources = self._sources(nats)
                shared = Shared(
                    settings=self._settings,
                    nats=nats,
                    sources=sources,
                    destinations=ChosenDestinations(
                        settings=self._settings,
                        mongodb=mongodb,
                        report=self._report,
                        on_reader_gone=self._end_without_reader,
                    ),
                    budget=Budget(self._settings.buffer_bytes),
                    batch_age=self._batch_age,
                    homes=Homes(self._me),
                    report=self._report,
                    levels=self._levels,
                )
                await self._supervise(shared, sources, mongodb)
            finally:
                await close(nats.connection)

    def _between_reads(self) -> float:
        """Return how long the next read may wait while messages trickle."""
        now = time.monotonic()
        return between_reads(now, self._batch_age.at(now))

    @asynccontextmanager
    async def _mongodb(self) -> AsyncIterator[MongoDestinations | None]:
        """Open MongoDB, and follow its login; nothing where there is none."""
        settings = self._settings
        if settings.database is None:
            yield None
            return
        login = MongoLogin(settings.database)
        async with open_mongo(login.uri) as mongo, create_task_group() as group:
            group.start_soon(watch_mongo, mongo, login, self._report, name="mongodb watch")
            database = database_of(mongo, self._names.database)
            claims = Claims(database, self._me, settings.writes, settings.write_timeout)
            owners = Owners(claims, self._report, settings.hand_over_timeout)
            group.start_soon(login.follow, mongo, owners.pausing, self._report, name="mongodb login")
            yield MongoDestinations(
                names=self._names,
                settings=settings,
                database=database,
                catalog=CollectionCatalog(database, settings.write_timeout),
                claims=claims,
                owners=owners,
                report=self._report,
                write_slots=Semaphore(WRITES, fast_acquire=True),
            )
            group.cancel_scope.cancel()

    def _sources(self, nats: NatsConnection) -> LoggerSources:
        return LoggerSources(nats.connection.jetstream(), self._names, self._settings.ack_wait, self._report)

    async def _supervise(self, shared: Shared, sources: LoggerSources, mongodb: MongoDestinations | None) -> None:
        settings, report, nats = self._settings, self._report, shared.nats
        archiving = Archiving(settings, sources.archiving)
        pipelines = Pipelines(lambda spec: pipeline_of(spec, shared, archiving), report)
        bucket = KvBucket(nats.connection.jetstream(), self._names)
        registry = Registry(bucket, pipelines, nats.reconnects, report, settings.reconcile_period)
        lag = JetStreamLag(
            nats.connection.jetstream(),
            self._names,
            settings.lag_period,
            sources.needs_of,
            is_elsewhere=shared.homes.is_elsewhere,
            in_hand=shared.doubts.in_hand,
        )
        sampler = Sampler(lag, sources, shared.doubts, pipelines, report, period=settings.lag_period)
        storage = JetStreamStorage(nats.connection.jetstream(), self._names)
        watcher = StorageWatcher(storage, report, min(_LESS_OFTEN * settings.lag_period, _SELDOMEST))
        beats = NatsBeats(nats, self._names.replicas)
        presence = Presence(beats, shared.homes, nats.reconnects, report, self._batch_age.share)
        async with create_task_group() as group:
            group.start_soon(nats.watch, name="nats watch")
            async with (
                create_task_group() as owning
            ):  # claims and deliveries are kept until the last pipeline has drained
                drained = Event()
                owning.start_soon(Supervisor(self._to_the_end(shared, mongodb), report).run, drained, name="to the end")
                await Supervisor((pipelines, registry, sampler, watcher, presence), report).run(self._stopping)
                drained.set()
            group.cancel_scope.cancel()

    def _to_the_end(self, shared: Shared, mongodb: MongoDestinations | None) -> list[Child]:
        """Return the actors that pipelines need until the last one has drained."""
        extender = AckExtender(shared.kept, shared.nats.link, self._settings.ack_wait)
        jobs = [extender.run, Rounds(shared.kept).run]
        if mongodb is None:
            return [Upkeep(*jobs)]
        return [mongodb.owners, Upkeep(*jobs, partial(mongodb.looking.run, self._settings.reconcile_period))]

    async def _handle_signals(self) -> None:
        with open_signal_receiver(*_SIGNALS) as signals:
            async for received in signals:
                if self._stopping.is_set():
                    self._everything.cancel()
                    return
                self._stop(received.name)

    def _stop(self, why: str) -> None:
        self._report(lifecycle.Stopping(why))
        self._stopping.set()
        self._opening.cancel()
        self._everything.deadline = current_time() + self._settings.shutdown_timeout

    def _end_without_reader(self) -> None:
        """End where the entries of all loggers go to standard output; one logger's reader is that logger's affair."""
        if self._settings.sink is Sink.STDOUT and not self._stopping.is_set():
            self._ended_by = ReaderGone()
            self._stop("standard output closed")

    async def _pulse(self) -> None:
        """Measure the delay of the event loop, by which liveness is judged, and tell what is due once a second."""
        ready, age, policy = None, None, GcPolicy()
        policy.begin()
        while True:
            before = current_time()
            await sleep(_PULSE)
            self._report(lifecycle.LoopLag(max(0.0, current_time() - before - _PULSE)))
            self._levels.tell(self._report)
            policy.observe(self._status.loggers)
            if (now_age := self._batch_age.at(time.monotonic())) != age:
                age = now_age
                self._report(lifecycle.BatchAgeChanged(age))
            if lost := LINES.take_lost():
                self._report(lifecycle.LogLost(lost))
            if (now_ready := not self._status.not_ready) != ready:
                ready = now_ready
                self._report(lifecycle.Ready(ready))


def pipeline_of(spec: LoggerSpec, shared: Shared, archiving: Archiving) -> Child:
    """Return the pipeline of a logger. It is called when the logger's pipeline before it has ended."""
    if spec.archive is not None:
        return ArchivedPipeline(spec, shared, archiving)
    shared.report(ArchiveGone(spec.key))
    return Pipeline(spec, shared)


def _replica_id() -> str:
    """Return a name that no other replica has or had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def starting(environment: Environment) -> lifecycle.Starting:
    """Return the first event, after the settings were read from `environment`."""
    ignored = [str(one) for one in environment.misspelt("COLLECTOR_")]
    return lifecycle.Starting(version("transfer-collector"), environment.effective, ignored)


def serve(settings: Settings, starting: lifecycle.Starting | None = None) -> Tally:
    """Run a replica to its end, on uvloop where it is installed; `starting` is reported first."""

    async def run() -> Tally:
        return await Service(settings, starting).run()

    return anyio.run(run, backend_options={"loop_factory": new_event_loop})
