"""Every write that the service answers for, to be tried on a replica set."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import anyio
import msgspec
from bson import ObjectId

from collector.dead_letters.letters import DeadLetterReader
from collector.dead_letters.store import DeadLetterStore
from collector.dead_letters.summary import Filter, Summary
from collector.model import Reason, Rejected
from collector.mongodb.calls import database_of, make_collection, make_expiring, open_mongo
from collector.sinks.mongodb import MongoSink
from collector.sinks.timeseries.claims import Claims
from collector.sinks.timeseries.horizon import Horizon
from collector.sinks.timeseries.sink import TimeSeriesSink
from collector.sinks.timeseries.store import TimeSeriesStore
from tests.support.fakes import delivery
from tests.support.owning import COLLECTION, entries
from tests.support.owning import entry as document
from transfer.wire import CollectionSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.sinks.timeseries.claims import Fenced
    from tests.support.stalled import ReplicaSet


SHORT = 0.7
"""Seconds for a write: what waits for the majority fails after them."""


_MIB = 1024 * 1024


class Scene:
    """What the service writes with, in a database of the test."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self.database = database
        self.claim, self.free = f"{database.name} 1", f"{database.name} 2"
        self.claims = Claims(database, "me", 2, SHORT)
        self.plain = MongoSink(database, "plain_logs", SHORT)
        self.letters = DeadLetterStore(database, "plain_fail", SHORT, lambda: 1_800_000_000.25)
        self.reading = DeadLetterReader(database, "plain_fail")
        self.fenced: Fenced
        self.store: TimeSeriesStore
        self.summary: Summary

    async def prepare(self) -> None:
        await make_collection(self.database, COLLECTION, CollectionSpec(kind="timeseries"), 30)
        patient = Claims(self.database, "me", 2, 30)
        await patient.register(dict.fromkeys((self.claim, self.free), "stalled"))
        fenced = await patient.take(self.claim, (await patient.board([self.claim])).claims[self.claim])
        assert fenced is not None
        self.fenced = fenced
        self.store = TimeSeriesStore(self.database, COLLECTION, self.claims, fenced, SHORT)
        await DeadLetterStore(self.database, "plain_fail", 30, lambda: 1.5).store([reject(STORED)])
        ((self.summary,),) = [group async for group in self.reading.find(Filter())]


STORED = ObjectId()


def reject(identity: ObjectId, body: bytes = b"bad", attempt: int = 1) -> Rejected:
    headers = f"NATS/1.0\r\nTransfer-Attempt: {attempt}\r\n\r\n".encode()
    of = msgspec.structs.replace(delivery(42, body), raw_headers=headers)
    return Rejected(of, None, identity, Reason.MALFORMED, "expected another one", body)


def _anew(make: Callable[[], Any]) -> Any:
    """Write the same entries again and again, each time as if they had just been delivered."""

    async def attempt() -> None:
        await make().attempt()

    return attempt


def _numbered(scene: Scene) -> Any:
    sink = TimeSeriesSink("stalled", scene.store, scene.fenced.tenure, Horizon(0), lambda _: None)
    scene.fenced.tenure.raised(1_000_000_000)
    return sink.begin(entries(3)).attempt


def _redelivered(scene: Scene) -> Any:
    several = [document(), document()]
    return _anew(lambda: scene.plain.begin(several))


def _own_id(scene: Scene) -> Any:
    several = [document({"own": str(ObjectId())})]
    return _anew(lambda: scene.plain.begin(several))


def _large(scene: Scene) -> Any:
    identity, body = ObjectId(), b"x" * (9 * _MIB)
    return lambda: scene.letters.store([reject(identity, body)])


def _made(kind: Any) -> Any:
    def trying(scene: Scene) -> Any:
        name = f"new_{secrets.token_hex(4)}"
        return lambda: make_collection(scene.database, name, CollectionSpec(kind=kind), SHORT)

    return trying


MEMBERS: dict[str, Callable[[Scene], Any]] = {
    "a batch into a plain collection": lambda scene: scene.plain.begin([document(), document()]).attempt,
    "the same entries, delivered again": _redelivered,
    "an own identity, delivered again": _own_id,
    "a batch into a time-series collection": _numbered,
    "a dead letter": lambda scene: partial(scene.letters.store, [reject(ObjectId())]),
    "a dead letter with a file": _large,
    "a letter of a later attempt": lambda scene: lambda: scene.letters.store([reject(STORED, attempt=2)]),
    "a letter that is removed": lambda scene: lambda: _removed(scene),
    "a plain collection that is made": _made("plain"),
    "a time-series collection that is made": _made("timeseries"),
    "an index that has entries deleted": lambda scene: lambda: make_expiring(scene.database, "plain_logs", 3600, SHORT),
    "a claim that is registered": lambda scene: lambda: scene.claims.register({"another": "stalled"}),
    "a claim that is restored": lambda scene: lambda: scene.claims.restore("stalled", scene.fenced),
    "a claim that is taken": lambda scene: lambda: _taken(scene),
    "a claim that is given back": lambda scene: lambda: scene.claims.give_back(scene.fenced.tenure),
    "the mark": lambda scene: lambda: scene.claims.raise_mark(scene.claim, 7),
    "the mark where it is": lambda scene: lambda: scene.claims.raise_mark(scene.claim, 0),
    "a barrier": lambda scene: lambda: scene.claims.barrier(scene.claim),
    "a sign of life": lambda scene: lambda: scene.claims.announce(1),
}


async def _removed(scene: Scene) -> None:
    """Remove it as an operator's command does, which would wait for a minute."""
    command = scene.database.command

    async def hurried(command_of: dict[str, Any], **more: Any) -> dict[str, Any]:
        command_of["writeConcern"] = {"w": "majority", "wtimeout": int(SHORT * 1000)}
        return await command(command_of, **more)

    with patch.object(scene.reading, "_database", SimpleNamespace(command=hurried)):
        await scene.reading.remove([scene.summary])


async def _taken(scene: Scene) -> None:
    seen = (await scene.claims.board([scene.free])).claims[scene.free]
    fenced = await scene.claims.take(scene.free, seen)
    assert fenced is not None
    await fenced.close()


@asynccontextmanager
async def scenery(stalling: ReplicaSet) -> AsyncIterator[Scene]:
    async with open_mongo(stalling.url) as client:
        scene = Scene(database_of(client, f"stalled_{secrets.token_hex(4)}"))
        await scene.prepare()
        try:
            yield scene
        finally:
            with anyio.CancelScope(shield=True):
                await scene.fenced.close()
                await stalling.go_on()
                await client.drop_database(scene.database.name)
