"""A pipeline of a time-series logger, whose turn, loss and end are played by the test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from anyio import Event, Semaphore, create_task_group, fail_after

from collector.actors.mongo_destinations import MongoDestinations
from collector.actors.pipeline import Pipeline
from collector.errors import SinkUnavailable
from collector.events import (
    BatchSettled,
    LoggerState,
    OwnershipChange,
    OwnershipChanged,
    State,
)
from collector.jetstream.connection import Reconnects
from collector.settings import Settings
from collector.sinks.timeseries.ownership import claim_id
from tests.support.fakes import (
    ATTACHED,
    KEY,
    FakeCatalog,
    FakeLetters,
    FakeLink,
    FakeSource,
    Reports,
)
from tests.support.moving import ENVIRON, shared
from tests.support.ownership_fakes import SLOTS, FakeClaims, FakeOwners, FakeStore
from transfer.names import Names
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest


CLAIM = claim_id(ATTACHED.incarnation)
AWAY = SinkUnavailable("connection lost", ambiguous=True)


class Scene:
    """A pipeline that runs."""

    def __init__(self, source: FakeSource, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source, self.store, self.letters, self.link = source, store, FakeLetters(), FakeLink()
        self.reports, self.stopping, self.reconnects = Reports(), Event(), Reconnects()
        self.returned = Event()
        self.claims = FakeClaims(mark=store.mark)
        self.owners = FakeOwners(self.claims, self.reports)
        monkeypatch.setattr("collector.actors.mongo_destinations.TimeSeriesStore", lambda *_, **__: store)
        monkeypatch.setattr("collector.actors.mongo_destinations.DeadLetterStore", lambda *_: self.letters)
        claims: Any = self.claims
        owners: Any = self.owners
        nothing: Any = None
        catalog: Any = FakeCatalog(timeseries=True)
        settings = Settings.read({**ENVIRON, "COLLECTOR_WRITES": str(SLOTS), "COLLECTOR_BATCH_ENTRIES": "10"})
        destinations = MongoDestinations(
            names=Names("beta"),
            settings=settings,
            database=nothing,
            catalog=catalog,
            claims=claims,
            owners=owners,
            report=self.reports,
            write_slots=Semaphore(64),
        )
        of_replica = shared(
            self.link, self.reports, self.reconnects, source, settings=settings, destinations=destinations
        )
        self.pipeline = Pipeline(LoggerSpec(KEY), of_replica)

    async def run(self) -> None:
        await self.pipeline.run(self.stopping)
        self.returned.set()

    async def own(self) -> None:
        """Wait until it stands by, give it its turn, and wait until it has asked for messages."""
        asked = len(self.link.requests)
        await self.standing_by()
        self.owners.give_turn()
        while len(self.link.requests) == asked:
            await self.link.asked.wait()

    async def standing_by(self, times: int = 1) -> None:
        await self.reports.until(lambda: self.states.count(State.STANDBY) >= times)

    async def until_settled(self, batches: int = 1) -> None:
        await self.reports.until(lambda: len(self.reports.of(BatchSettled)) >= batches)

    @property
    def states(self) -> list[State | None]:
        return [event.state for event in self.reports.of(LoggerState)]

    @property
    def changes(self) -> list[OwnershipChange]:
        return [event.change for event in self.reports.of(OwnershipChanged)]

    def answers(self, kind: bytes) -> set[str]:
        return {reply for reply, answer in self.link.answers if answer == kind}


@asynccontextmanager
async def playing(
    monkeypatch: pytest.MonkeyPatch, store: FakeStore | None = None, source: FakeSource | None = None
) -> AsyncIterator[Scene]:
    scene = Scene(source or FakeSource(), store or FakeStore(), monkeypatch)
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(scene.run)
            yield scene
            scene.stopping.set()
    assert scene.owners.open == 0
    assert all(session.ended for session in scene.claims.sessions)
    assert scene.claims.claims[CLAIM].owner != "me"
