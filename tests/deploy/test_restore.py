"""NATS brought back from an older copy, as docs/operations.md has it: nothing twice, and nothing new taken for old."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pymongo import MongoClient

from collector.local import Replica
from tests.support.ancestor import ancestor, entry
from tests.support.waiting import numbers, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer

pytestmark = pytest.mark.timeout(300)

WAITING, LATER, NEW = range(300), range(300, 350), range(350, 400)


class World:
    """One NATS, one MongoDB, and the applications that publish as the Go client does: without ids."""

    def __init__(self, nats: NatsServer, mongod: Mongod, database: Database[dict[str, Any]], stack: ExitStack) -> None:
        self.nats = nats
        self._mongod = mongod
        self.database = database
        self._stack = stack

    def replica(self) -> Replica:
        folder = self._stack.enter_context(TemporaryDirectory(prefix="replica-"))
        return self._stack.enter_context(Replica(Path(folder), self.database.name, self.nats, self._mongod, {}))

    async def publish(self, entries: range) -> None:
        async with ancestor(self.nats.url, self.database.name) as go:
            await go.publish("orders", (entry(number) for number in entries))

    async def stored(self, count: int) -> None:
        await until(lambda: self.database["orders_logs"].count_documents({}) == count, 30)

    async def transfer(self, *command: str) -> None:
        environ = {**os.environ, "NAMESPACE": self.database.name, "NATS_HOSTS": self.nats.url}
        with anyio.fail_after(30):
            await anyio.run_process([str(Path(sys.executable).with_name("transfer")), *command], env=environ)


@pytest.fixture
def world(own_nats: Callable[[], NatsServer], own_mongod: Callable[[], Mongod], namespace: str) -> Iterator[World]:
    mongod = own_mongod()
    with ExitStack() as stack, MongoClient[dict[str, Any]](mongod.url) as client:
        yield World(own_nats(), mongod, client[namespace], stack)


async def restored(world: World, tmp_path: Path) -> Replica:
    """Go back to a copy in which messages waited that have been stored since, as others have that it never had."""
    await world.transfer("set", "orders")
    await world.publish(WAITING)
    world.nats.stop()
    shutil.copytree(world.nats.folder, tmp_path / "copy")
    world.nats.start()
    replica = world.replica()
    await world.publish(LATER)
    await world.stored(len(WAITING) + len(LATER))
    world.nats.stop()
    shutil.rmtree(world.nats.folder)
    shutil.copytree(tmp_path / "copy", world.nats.folder)
    world.nats.start()
    await until(lambda: replica.metric("collector_duplicate_entries_total") == len(WAITING), 60)
    return replica


async def test_what_waited_in_the_copy_is_not_stored_again(world: World, tmp_path: Path) -> None:
    await restored(world, tmp_path)
    assert numbers(world.database, "orders") == dict.fromkeys(range(350), 1)


async def test_a_logger_removed_and_set_again_stores_what_is_new(world: World, tmp_path: Path) -> None:
    await restored(world, tmp_path)
    await world.transfer("remove", "orders", "--drain")
    await world.transfer("set", "orders")
    await world.publish(NEW)
    await world.stored(400)
    assert numbers(world.database, "orders") == dict.fromkeys(range(400), 1)
