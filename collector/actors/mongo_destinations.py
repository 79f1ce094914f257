"""Destinations in MongoDB: plain collections, and time-series collections with their one owner."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from collector.actors.looking import Looking, Opened
from collector.actors.patience import Patience
from collector.dead_letters.store import DeadLetterStore
from collector.errors import CollectionChanged, OwnershipLost, leaves
from collector.events import Failed, Failure, LoggerState, Report, Stage, State
from collector.sinks import Target
from collector.sinks.mongodb import MongoSink
from collector.sinks.place import Place, Seen
from collector.sinks.timeseries.horizon import Horizon
from collector.sinks.timeseries.sink import TimeSeriesSink
from collector.sinks.timeseries.store import TimeSeriesStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio import Event, Semaphore
    from pymongo.asynchronous.database import AsyncDatabase

    from collector.actors.owners import Candidacy, Owners
    from collector.jetstream.source import Attached
    from collector.mongodb.collections import CollectionCatalog
    from collector.settings import Settings
    from collector.sinks.timeseries.claims import Claims, Fenced
    from transfer.names import Names
    from transfer.wire import LoggerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoDestinations:
    """Collections of one database, plain or time series. See `Destinations`."""

    names: Names
    settings: Settings
    database: AsyncDatabase[dict[str, Any]]
    catalog: CollectionCatalog
    claims: Claims
    owners: Owners
    report: Report
    write_slots: Semaphore
    """The write slots, fewer than the connections of the database's client."""
    looking: Looking = field(default_factory=Looking)
    """Inspects the collections again while its `run` runs."""

    def of(self, spec: LoggerSpec) -> MongoDestination:
        """Return the collection of one logger."""
        return MongoDestination(spec, self)


class MongoDestination:
    """The collection of one logger: made as declared, and inspected at each reconcile. See `Destination`.

    All replicas write into a plain collection. A time-series collection has one owner, so others stand by.
    """

    __slots__ = ("_collection", "_is_archived", "_key", "_letters", "_patience", "_place", "_shared")

    def __init__(self, spec: LoggerSpec, shared: MongoDestinations) -> None:
        self._key = spec.key
        self._is_archived = spec.archive is not None
        """Then only the owner of the archive is a candidate."""
        self._shared = shared
        self._patience = Patience(spec.key, shared.report)
        self._collection, self._letters = shared.names.collection(spec.key), shared.names.dead_letters(spec.key)
        names = self._collection, self._letters
        self._place = Place(shared.database, shared.catalog, spec.collection, names, shared.settings.write_timeout)

    @asynccontextmanager
    async def opened(self, attached: Attached, stopping: Event) -> AsyncIterator[Target | None]:
        """Make a missing collection; become the owner of a time-series collection."""
        seen = await self._patience.until_done(self._place.prepare, stopping)
        if seen is None:
            yield None
            return
        opened = self._owned(attached, stopping, seen) if seen.is_timeseries else nullcontext(self._plain(seen))
        try:
            async with opened as target:
                if target is None:
                    yield None
                    return
                looked_at = Opened(self._place, seen, target.leaving)
                self._shared.looking.begin(looked_at)
                try:
                    yield target
                finally:
                    self._shared.looking.end(looked_at)
        except* CollectionChanged as changed:
            self._place.doubt(seen)
            for one in leaves(changed):
                action = "looking at the collection again"
                self._shared.report(Failed(self._key, Stage.WRITE, Failure.UNAVAILABLE, str(one), action))

    def _plain(self, seen: Seen) -> Target:
        """Return the collection that all replicas write into."""
        shared = self._shared
        finding = self._place.finding(seen)
        sink = MongoSink(shared.database, self._collection, shared.settings.write_timeout, finding)
        return Target(
            sink=sink,
            dead_letters=self._dead_letters(),
            write_slots=shared.write_slots,
            letter_slots=shared.write_slots,
            risks=seen.differences,
        )

    @asynccontextmanager
    async def _owned(self, attached: Attached, stopping: Event, seen: Seen) -> AsyncIterator[Target | None]:
        """Stand by, and give the collection while this replica is the owner."""
        owners = self._shared.owners
        with owners.candidacy(self._key, attached.incarnation, stays=self._is_archived) as candidacy:
            self._shared.report(LoggerState(self._key, State.STANDBY, "another replica may own it"))
            fenced = await candidacy.own(stopping)
            if fenced is None:
                yield None
                return
            lost = False
            try:
                yield self._of_owner(fenced, candidacy, seen)
            except* OwnershipLost:
                lost = True
            finally:
                await candidacy.give_back(lost=lost or candidacy.lost.is_set())

    def _of_owner(self, fenced: Fenced, candidacy: Candidacy, seen: Seen) -> Target:
        """Return the collection that only this replica writes into, while it is the owner."""
        shared, horizon = self._shared, Horizon(fenced.tenure.mark)
        timeout, uuid = shared.settings.write_timeout, self._place.uuid(seen.collection) if seen.collection else None
        store = TimeSeriesStore(shared.database, self._collection, shared.claims, fenced, timeout, uuid=uuid)
        return Target(
            sink=TimeSeriesSink(self._key, store, fenced.tenure, horizon, shared.report),
            dead_letters=self._dead_letters(),
            write_slots=shared.write_slots,
            letter_slots=shared.write_slots,
            admission=horizon,
            leaving=candidacy.handing_over,
            lost=candidacy.lost,
            stood_by=True,
            risks=seen.differences,
        )

    def _dead_letters(self) -> DeadLetterStore:
        shared = self._shared
        return DeadLetterStore(shared.database, self._letters, shared.settings.write_timeout, time.time)
