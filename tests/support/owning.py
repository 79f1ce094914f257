"""Replicas that own a time-series logger on a real mongod: claims, and the collection as an owner uses it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from anyio import fail_after, sleep
from bson import ObjectId

from collector.model import Entry
from collector.mongodb.calls import make_collection, open_mongo
from collector.sinks.timeseries.claims import Claims, Fenced
from collector.sinks.timeseries.ownership import Claim, write_number
from collector.sinks.timeseries.store import TimeSeriesStore
from tests.support.fakes import delivery
from transfer.wire import CollectionSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.local import Mongod

COLLECTION = "system_logs"
TIMEOUT = 5.0


def utc(*fields: int) -> datetime:
    """Make a time as it stands in documents: in UTC, and without a zone."""
    return datetime(*fields)  # type: ignore[arg-type] # noqa: DTZ001


NOON = utc(2024, 5, 6, 12)
_sequences = count(1)


def claim_of(namespace: str) -> str:
    """Return the claim of a life of a stream that is nobody else's: sessions know neither database nor collection."""
    return f"{namespace}:logs:system 2024-05-06T07:08:09Z"


class Candidate:
    """A replica with a client of its own."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], name: str, slots: int) -> None:
        self.database, self.claims = database, Claims(database, name, slots, TIMEOUT)
        self.collection = database[COLLECTION]
        self.claim = claim_of(database.name)

    async def seen(self) -> Claim:
        return (await self.claims.board([self.claim])).claims[self.claim]

    async def try_to_own(self, seen: Claim) -> Owner | None:
        fenced = await self.claims.take(self.claim, seen)
        return Owner(self, fenced) if fenced is not None else None

    async def own(self) -> Owner:
        """Take the claim as it is."""
        await self.claims.register({self.claim: "system"})
        owner = await self.try_to_own(await self.seen())
        assert owner is not None
        return owner


class Owner:
    """A replica in a tenure of its."""

    def __init__(self, by: Candidate, fenced: Fenced) -> None:
        self.by, self.fenced, self.tenure = by, fenced, fenced.tenure
        self.store = TimeSeriesStore(by.database, COLLECTION, by.claims, fenced, TIMEOUT)

    async def insert(
        self, entries: Sequence[Entry], used: int = 1, slot: int = 0, *, again: bool = False
    ) -> Mapping[str, Any]:
        """Insert under a number of this epoch."""
        return await self.store.insert(slot, write_number(self.tenure.epoch, used), entries, again=again)

    async def stored(self) -> list[Any]:
        return [found["_id"] async for found in self.by.collection.find({}, {"_id": 1})]


@asynccontextmanager
async def candidates(
    mongod: Mongod, namespace: str, *slots: int, seconds: float = 30
) -> AsyncIterator[tuple[Candidate, ...]]:
    """Open a client for each of these replicas, named a, b and so on, which write through so many sessions."""
    with fail_after(seconds):
        async with _opened(mongod, namespace, [*zip("abcdef", slots, strict=False)]) as found:
            await make_collection(found[0].database, COLLECTION, CollectionSpec(kind="timeseries"), TIMEOUT)
            yield tuple(found)


@asynccontextmanager
async def _opened(mongod: Mongod, namespace: str, wanted: list[tuple[str, int]]) -> AsyncIterator[list[Candidate]]:
    if not wanted:
        yield []
        return
    async with open_mongo(mongod.url) as client, _opened(mongod, namespace, wanted[1:]) as others:
        yield [Candidate(client[namespace], *wanted[0]), *others]


@asynccontextmanager
async def inserts_held_up(database: AsyncDatabase[dict[str, Any]]) -> AsyncIterator[None]:
    """Let inserts into time-series collections wait in the server, in their session, until the block is left."""
    point = {"configureFailPoint": "hangTimeseriesInsertBeforeWrite"}
    await database.client.admin.command({**point, "mode": "alwaysOn"})
    try:
        yield
    finally:
        await database.client.admin.command({**point, "mode": "off"})


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 10) -> None:
    """Wait for what the server does."""
    with fail_after(seconds):
        while not await condition():  # noqa: ASYNC110 - nobody in this process could set an event
            await sleep(0.01)


async def under_way(database: AsyncDatabase[dict[str, Any]], command: Mapping[str, Any]) -> int:
    """Return how many commands like this the server is busy with."""
    wanted = {f"command.{name}": value for name, value in command.items()} | {"command.$db": database.name}
    pipeline: list[dict[str, Any]] = [{"$currentOp": {}}, {"$match": wanted}]
    return len([one async for one in await database.client.admin.aggregate(pipeline)])


def entry(own_id: Any = None, at: datetime | None = None, **fields: Any) -> Entry:
    """Make an entry as the codec does: `_id` last but for the envelope."""
    document = {**fields, "_id": ObjectId() if own_id is None else own_id}
    document |= {"timestamp": at or NOON, "metadata": fields.get("metadata")}
    return Entry(delivery(next(_sequences)), None, document, own_id is not None)


def entries(number: int, apart: timedelta = timedelta()) -> list[Entry]:
    """Make entries with so much time from one to the next."""
    return [entry(at=NOON + apart * position, number=position) for position in range(number)]


def ids(several: Sequence[Entry]) -> list[Any]:
    return [one.document["_id"] for one in several]
