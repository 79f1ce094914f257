"""A plain collection as a destination: it is looked at again at each reconcile, and left when it is another one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event, Semaphore, create_task_group, fail_after

from collector.actors.mongo_destinations import MongoDestinations
from collector.errors import CollectionChanged, SinkUnavailable, WrongCollection
from collector.events import Failed, LoggerState, State
from collector.mongodb.listed import Collection
from collector.settings import Settings
from tests.support.fakes import ATTACHED, KEY, Reports
from tests.support.moving import ENVIRON
from transfer.names import Names
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from collector.sinks import Target

THERE, ANOTHER = Collection(uuid=b"1"), Collection(uuid=b"2")


class Catalog:
    """Readings that are played by the test: each gives what is next, the last one for ever."""

    def __init__(self, *found: Collection | Exception | None) -> None:
        self.found = list(found)
        self.reads = 0
        self._read = Event()

    async def until(self, reads: int) -> None:
        while self.reads < reads:
            await self._read.wait()

    async def read(self, *collections: str) -> list[Collection | None]:
        self.reads += 1
        self._read.set()
        self._read = Event()
        found = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if isinstance(found, Exception):
            raise found
        return [found, *(None for _ in collections[1:])]


@asynccontextmanager
async def opened(catalog: Catalog, reports: Reports, stopping: Event | None = None) -> AsyncIterator[Target | None]:
    nothing: Any = None
    found: Any = catalog
    topology = SimpleNamespace(server_descriptions=dict)
    database: Any = SimpleNamespace(client=SimpleNamespace(topology_description=topology))
    destinations = MongoDestinations(
        names=Names("beta"),
        settings=Settings.read(ENVIRON),
        database=database,
        catalog=found,
        claims=nothing,
        owners=nothing,
        report=reports,
        write_slots=Semaphore(1),
    )
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(destinations.looking.run, 0.01)
            async with destinations.of(LoggerSpec(KEY)).opened(ATTACHED, stopping or Event()) as target:
                yield target
            group.cancel_scope.cancel()


async def test_a_collection_that_stays_as_it_is_is_never_left() -> None:
    catalog, reports = Catalog(THERE, SinkUnavailable("down"), THERE), Reports()
    async with opened(catalog, reports) as target:
        assert target is not None
        await catalog.until(5)
        assert not target.leaving.is_set()
        assert target.letter_slots is target.write_slots, "both take connections of one client"
    assert reports.of(Failed) == []


@pytest.mark.parametrize("now", [ANOTHER, None, WrongCollection("a view")], ids=["another", "gone", "a view"])
async def test_a_collection_that_is_another_one_is_left(now: Any) -> None:
    async with opened(Catalog(THERE, now), Reports()) as target:
        assert target is not None
        await target.leaving.wait()


async def test_a_collection_that_the_first_insert_makes_is_not_left() -> None:
    catalog = Catalog(None, THERE)
    async with opened(catalog, Reports()) as target:
        assert target is not None
        await catalog.until(5)
        assert not target.leaving.is_set()


async def test_what_keeps_it_from_being_opened_is_said_once_and_waited_for() -> None:
    reports = Reports()
    catalog = Catalog(SinkUnavailable("down"), SinkUnavailable("down"), WrongCollection("a view"), THERE)
    async with opened(catalog, reports) as target:
        assert target is not None
    assert reports.of(LoggerState) == [
        LoggerState(KEY, State.BACKING_OFF, "down"),
        LoggerState(KEY, State.MISCONFIGURED, "a view"),
    ]


async def test_asked_to_stop_before_it_could_be_opened_it_gives_none() -> None:
    stopping = Event()
    stopping.set()
    async with opened(Catalog(SinkUnavailable("down")), Reports(), stopping) as target:
        assert target is None


def fail(error: Exception) -> None:
    raise error


async def test_a_write_that_finds_another_collection_is_said_and_swallowed() -> None:
    reports = Reports()
    async with opened(Catalog(THERE), reports):
        fail(CollectionChanged("beta"))
    assert [one.action for one in reports.of(Failed)] == ["looking at the collection again"]


async def test_what_nobody_foresaw_is_not_swallowed() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with opened(Catalog(THERE), Reports()):
            fail(ValueError("boom"))
    assert raised.group_contains(ValueError, match="boom")
