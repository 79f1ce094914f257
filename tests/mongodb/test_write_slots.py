"""Many writes at a time through one client, on a real mongod."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import Semaphore, create_memory_object_stream, create_task_group

from collector.actors.writer import Writer
from collector.events import BatchSettled, Retried
from collector.flow.batching import OpenBatch
from collector.mongodb.calls import WRITES, open_mongo
from collector.sinks.mongodb import MongoSink
from tests.support.fakes import FakeLink, Reports, decoded, open_batch
from tests.support.moving import moving, shared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pymongo import AsyncMongoClient
    from pymongo.asynchronous.database import AsyncDatabase

    from collector.local import Mongod

LOGGERS = 600
SLOW = 0.25
TIMEOUT = 1.25
"""Far longer than a write takes, and shorter than it takes until the last one has a connection."""


@pytest.fixture
async def client(mongod: Mongod) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """Give a client as the service has it."""
    async with open_mongo(mongod.url) as client:
        with anyio.fail_after(30):
            yield client


@asynccontextmanager
async def slow_inserts(client: AsyncMongoClient[dict[str, Any]]) -> AsyncIterator[None]:
    data = {
        "failCommands": ["insert"],
        "blockConnection": True,
        "blockTimeMS": int(SLOW * 1000),
        "appName": "collector",
    }
    point = {"configureFailPoint": "failCommand"}
    await client.admin.command({**point, "mode": "alwaysOn", "data": data})
    try:
        yield
    finally:
        await client.admin.command({**point, "mode": "off"})


@pytest.mark.alone
@pytest.mark.parametrize("plenty", [True, False])
async def test_a_write_that_waits_for_others_is_not_late_itself(
    client: AsyncMongoClient[dict[str, Any]], namespace: str, plenty: bool
) -> None:
    """With more turns than the client has connections, it is."""
    reports, write_slots = Reports(), Semaphore(WRITES if not plenty else LOGGERS)
    async with slow_inserts(client), create_task_group() as group:
        for number in range(LOGGERS):
            group.start_soon(write_one, client[namespace], number, write_slots, reports)
    assert len(reports.of(BatchSettled)) == LOGGERS
    assert await client[namespace]["all"].count_documents({}) == LOGGERS
    assert bool(reports.of(Retried)) is plenty


async def write_one(
    database: AsyncDatabase[dict[str, Any]], number: int, write_slots: Semaphore, reports: Reports
) -> None:
    """Write an entry as the pipeline of a logger does."""
    one = decoded(number)
    send, inbox = create_memory_object_stream[OpenBatch](1)
    whole = moving(
        shared(FakeLink(), reports),
        key=f"logger{number}",
        sink=MongoSink(database, "all", TIMEOUT),
        write_slots=write_slots,
    )
    whole.in_hand.take(one.deliveries)
    writer = Writer(whole, inbox)
    await send.send(open_batch(one))
    await send.aclose()
    await writer.run(anyio.Event())
