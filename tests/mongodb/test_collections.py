"""What collections there are, as a real mongod says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group, wait_all_tasks_blocked

from collector.errors import SinkUnavailable
from collector.mongodb.calls import make_collection, open_mongo
from collector.mongodb.collections import CollectionCatalog
from transfer.wire import CollectionSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.local import Mongod

TIMEOUT = 5.0


class Counted:
    """Kinds whose questions are counted, and wait for the test."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self.catalog = CollectionCatalog(database, TIMEOUT)
        self.questions: list[set[str]] = []
        self.let_ask = anyio.Event()
        self.failures: list[Exception] = []
        self._list = self.catalog._list
        self.catalog._list = self.list  # type: ignore[method-assign]
        self.found: dict[str, bool | str] = {}

    async def list(self, collections: Any) -> Any:
        self.questions.append(set(collections))
        await self.let_ask.wait()
        if self.failures:
            raise self.failures.pop(0)
        return await self._list(collections)

    async def read(self, collection: str) -> None:
        try:
            (found,) = await self.catalog.read(collection)
            self.found[collection] = found is not None and found.is_timeseries
        except SinkUnavailable as exc:
            self.found[collection] = str(exc)


@pytest.fixture
async def counted(mongod: Mongod, namespace: str) -> AsyncIterator[Counted]:
    """Give kinds of a database with a plain and a time-series collection."""
    async with open_mongo(mongod.url) as client:
        database = client[namespace]
        await make_collection(database, "plain", CollectionSpec(), TIMEOUT)
        await make_collection(database, "series", CollectionSpec(kind="timeseries"), TIMEOUT)
        with anyio.fail_after(20):
            yield Counted(database)


async def test_a_collection_is_what_it_is_and_one_that_is_not_there_is_none(counted: Counted) -> None:
    counted.let_ask.set()
    for collection in ("plain", "series", "nothing"):
        await counted.read(collection)
    assert counted.found == {"plain": False, "series": True, "nothing": False}
    assert counted.questions == [{"plain"}, {"series"}, {"nothing"}]


async def test_all_that_wait_while_one_is_asked_about_are_asked_about_together(counted: Counted) -> None:
    others = [f"c{number:04}" for number in range(1200)]
    async with create_task_group() as group:
        for collection in ("plain", "series", *others):
            group.start_soon(counted.read, collection)
        await wait_all_tasks_blocked()
        counted.let_ask.set()
    assert [len(question) for question in counted.questions] in ([1, 1000, 201], [1000, 202])
    assert counted.found == {"plain": False, "series": True, **dict.fromkeys(others, False)}


async def test_who_asks_while_an_answer_is_under_way_is_answered_by_a_later_one(counted: Counted) -> None:
    """It may have made the collection after the server had looked."""
    async with create_task_group() as group:
        group.start_soon(counted.read, "plain")
        await wait_all_tasks_blocked()
        group.start_soon(counted.read, "series")
        await wait_all_tasks_blocked()
        assert counted.questions == [{"plain"}]
        counted.let_ask.set()
    assert counted.questions == [{"plain"}, {"series"}]
    assert counted.found["series"] is True


async def test_a_question_that_fails_fails_for_all_in_it_at_once_and_for_nobody_after(counted: Counted) -> None:
    counted.failures.append(SinkUnavailable("down"))
    async with create_task_group() as group:
        group.start_soon(counted.read, "plain")
        await wait_all_tasks_blocked()
        counted.failures.append(SinkUnavailable("still down"))
        for collection in ("series", "nothing"):
            group.start_soon(counted.read, collection)
        await wait_all_tasks_blocked()
        counted.let_ask.set()
    assert counted.found == {"plain": "down", "series": "still down", "nothing": "still down"}
    await counted.read("series")
    assert counted.found["series"] is True


async def test_cancelled_while_another_one_asks_nothing_is_left_behind(counted: Counted) -> None:
    async with create_task_group() as group:
        group.start_soon(counted.read, "plain")
        await wait_all_tasks_blocked()
        async with create_task_group() as gone:
            gone.start_soon(counted.read, "nothing")
            await wait_all_tasks_blocked()
            gone.cancel_scope.cancel()
        counted.let_ask.set()
    await counted.read("series")
    assert counted.found == {"plain": False, "series": True}
