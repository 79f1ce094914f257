"""Numbered sessions: what lasts over restarts and clients, and what pymongo sends of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread
from bson import Int64
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure
from pymongo.monitoring import CommandListener

from collector.errors import OwnershipLost
from collector.local import Mongod
from collector.sinks.timeseries.numbered_session import numbered_session, numbered_session_id
from collector.sinks.timeseries.ownership import session_id, write_number
from tests.support.owning import candidates, entries, ids, until
from tests.support.standalone import own

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.monitoring import CommandStartedEvent

    from tests.support.owning import Candidate


# what lasts


async def test_numbers_hold_over_a_kill_of_mongod(own_mongod: Callable[[], Mongod], namespace: str) -> None:
    server = own_mongod()
    async with candidates(server, namespace, 2, 2, seconds=60) as (a, b):
        old, first = await a.own(), entries(3)
        assert (await old.insert(first, 5))["n"] == 3
        await to_thread.run_sync(server.kill)
        await to_thread.run_sync(server.start)
        assert (await old.insert(first, 5))["n"] == 3, "the answer to the same number is the same"
        with pytest.raises(OwnershipLost):
            await old.insert(entries(1), 4)
        new = await b.own()
        await to_thread.run_sync(server.kill)
        await to_thread.run_sync(server.start)
        for slot in range(2):
            with pytest.raises(OwnershipLost):
                await old.insert(entries(1), 6, slot)
        assert sorted(await new.stored()) == sorted(ids(first))


FORGETFUL = {
    "enableTestCommands": 1,
    "localLogicalSessionTimeoutMinutes": 1,
    "TransactionRecordMinimumLifetimeMinutes": 0,
    "logicalSessionRefreshMillis": 500,
    "ttlMonitorSleepSecs": 1,
}


async def test_a_session_that_is_touched_is_not_forgotten_and_one_that_is_not_is() -> None:
    """All were last used 55 seconds ago by the server's own book, and it forgets them after 60."""
    with own(Mongod, FORGETFUL) as server:
        async with candidates(server, "beta", 3, 1, seconds=50) as (a, b):
            touched = [numbered_session_id(session_id(a.claim, slot)) for slot in range(3)]
            forgotten = numbered_session_id(session_id("another", 0))
            admin, config = b.database.client["admin"], b.database.client["config"]
            book, numbers = config["system.sessions"], config["transactions"]

            async def known(ids: list[dict[str, Any]]) -> bool:
                return await book.count_documents({"_id.id": {"$in": [one["id"] for one in ids]}}) == len(ids)

            # Known before their first number: with a least lifetime of 0 the server would forget that one at once.
            await admin.command("refreshSessions", [*touched, forgotten])
            await admin.command("refreshLogicalSessionCacheNow")
            assert await known([*touched, forgotten])
            session = numbered_session(a.database.client, session_id("another", 0))
            await insert_alone(a, session, 1000)
            old = await a.own()
            new = await b.own()
            await admin.command("refreshLogicalSessionCacheNow")
            longer_ago = [{"$set": {"lastUse": {"$subtract": ["$$NOW", 55_000]}}}]
            await book.update_many({}, longer_ago)
            await b.claims.touch([new.fenced])
            await admin.command("refreshLogicalSessionCacheNow")
            await until(lambda: none_of(book, forgotten), 30)
            assert await known(touched)
            await until(lambda: none_of(numbers, forgotten))
            await insert_alone(a, session, 999)  # the server knows no better
            for slot in range(3):
                with pytest.raises(OwnershipLost):
                    await old.insert(entries(1), 7, slot)


async def none_of(book: Any, session: dict[str, Any]) -> bool:
    found: int = await book.count_documents({"_id.id": session["id"]})
    return not found


async def insert_alone(candidate: Candidate, session: Any, number: int) -> None:
    command = {"insert": "alone", "documents": [{}], "txnNumber": Int64(number), "writeConcern": {"w": "majority"}}
    await candidate.database.command(command, session=session)


# the session, as pymongo knows it


class Commands(CommandListener):
    """What a client has sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.sent.append(dict(event.command))

    def succeeded(self, event: object) -> None:
        """Pass over."""

    def failed(self, event: object) -> None:
        """Pass over."""

    def ids(self, command: str) -> list[Any]:
        return [sent["lsid"] for sent in self.sent if command in sent]


async def test_a_numbered_session_sends_its_own_id_and_number_is_never_pooled_and_never_ended(
    mongod: Mongod, namespace: str
) -> None:
    """The one use of pymongo's private names: what fails here has changed in pymongo."""
    commands, chosen = Commands(), session_id(namespace, 0)
    ours = numbered_session_id(chosen)
    async with AsyncMongoClient[dict[str, Any]](mongod.url, retryWrites=False, event_listeners=[commands]) as client:
        session, database = numbered_session(client, chosen), client[namespace]
        assert session.session_id == ours
        insert = {"insert": "a", "documents": [{"n": 1}], "txnNumber": Int64(write_number(3, 7))}
        await database.command(insert, session=session)
        assert commands.ids("insert") == [ours]
        assert [sent["txnNumber"] for sent in commands.sent if "insert" in sent] == [write_number(3, 7)]
        await session.end_session()
        async with client.start_session() as other:
            assert other.session_id != ours
            await database.command({"ping": 1}, session=other)
        await database.command({"ping": 1})
        assert ours not in commands.ids("ping")
        open_at_the_end = numbered_session(client, chosen)
        await database.command({"ping": 1}, session=open_at_the_end)
        await database.command({"ping": 1})
    ended = [one for sent in commands.sent for one in sent.get("endSessions", ())]
    assert ended, "pymongo ends what is in its pool"
    assert ours not in ended
    await open_at_the_end.end_session()


async def test_the_number_holds_after_the_client_that_used_it_was_closed(mongod: Mongod, namespace: str) -> None:
    async with candidates(mongod, namespace, 1) as (a,):
        await (await a.own()).fenced.close()
    async with candidates(mongod, namespace, 1) as (a,):
        session = numbered_session(a.database.client, session_id(a.claim, 0))
        command = {"insert": "x", "documents": [{}], "txnNumber": Int64(write_number(1, 0) - 1)}
        with pytest.raises(OperationFailure) as raised:
            await a.database.command(command, session=session)
        assert raised.value.code == 225
        await session.end_session()
