"""The sink of plain collections on a server, and entries for it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from anyio import fail_after
from bson import ObjectId

from collector.model import Entry
from collector.mongodb.calls import open_mongo
from collector.sinks.mongodb import MongoSink
from tests.support.fakes import delivery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pymongo import AsyncMongoClient
    from pymongo.asynchronous.database import AsyncDatabase

    from collector.local import Mongod
    from collector.sinks import Written


COLLECTION = "system_logs"


TIMEOUT = 5.0


_sequences = count(1)


class Scene:
    """A sink and the database that it writes to."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], namespace: str) -> None:
        self.client, self.database = client, client[namespace]
        self.collection = self.database[COLLECTION]
        self.sink = MongoSink(self.database, COLLECTION, TIMEOUT)

    async def write(self, entries: Sequence[Entry]) -> Written:
        """Begin, and attempt once."""
        writing = self.sink.begin(entries)
        await writing.attempt()
        return writing.written

    async def stored(self) -> list[Any]:
        return [found["_id"] async for found in self.collection.find({}, {"_id": 1})]


@asynccontextmanager
async def sinking(mongod: Mongod, namespace: str, seconds: float = 30) -> AsyncIterator[Scene]:
    with fail_after(seconds):
        async with open_mongo(mongod.url) as client:
            yield Scene(client, namespace)


def entry(own_id: Any = None, **fields: Any) -> Entry:
    """Make an entry as the codec does: `_id` last but for the envelope."""
    document = {**fields, "_id": ObjectId() if own_id is None else own_id}
    document |= {"timestamp": datetime(2024, 5, 6, tzinfo=UTC), "metadata": None}
    return Entry(delivery(next(_sequences)), None, document, own_id is not None)


def good(number: int) -> list[Entry]:
    return [entry(n=position) for position in range(number)]


def total(written: Written) -> int:
    return written.stored + written.duplicates + len(written.refused)


def nested(depth: int, leaf: Any = None) -> Any:
    value: Any = leaf
    for _ in range(depth):
        value = {"a": value}
    return value


@asynccontextmanager
async def failing(database: AsyncDatabase[dict[str, Any]], **data: Any) -> AsyncIterator[None]:
    """Let the server's next inserts into this database fail (failCommand, enableTestCommands=1)."""
    admin = database.client.admin
    mode = data.pop("mode", {"times": 1})
    namespace = f"{database.name}.{COLLECTION}"
    wanted = {"failCommands": ["insert"], "namespace": namespace, **data}
    await admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": wanted})
    try:
        yield
    finally:
        await admin.command({"configureFailPoint": "failCommand", "mode": "off"})
