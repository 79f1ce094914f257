"""Many writes at a time through one client, on a real mongod."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group, wait_all_tasks_blocked

from collector.mongo import insert, open_mongo, turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pymongo import AsyncMongoClient

    from collector.local import Mongod

WRITES = 300
SLOW = 0.25
TIMEOUT = 0.8
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


async def test_a_write_that_waits_for_others_is_not_late_itself(
    client: AsyncMongoClient[dict[str, Any]], namespace: str
) -> None:
    replies: list[dict[str, Any]] = []

    async def write(number: int) -> None:
        replies.append(await insert(client[namespace], "all", [{"_id": number}], TIMEOUT))

    async with slow_inserts(client), create_task_group() as group:
        for number in range(WRITES):
            group.start_soon(write, number)
    assert [reply["n"] for reply in replies] == [1] * WRITES
    assert await client[namespace]["all"].count_documents({}) == WRITES


async def test_cancelled_while_it_waits_for_its_turn_nothing_is_written_and_the_turn_is_another_ones(
    client: AsyncMongoClient[dict[str, Any]], namespace: str
) -> None:
    turns = turn(client)
    most = turns.value
    for _ in range(most):
        await turns.acquire()
    async with create_task_group() as group:
        group.start_soon(insert, client[namespace], "none", [{"_id": 1}], TIMEOUT)
        await wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    for _ in range(most):
        turns.release()
    assert turns.value == most
    assert await client[namespace]["none"].count_documents({}) == 0
