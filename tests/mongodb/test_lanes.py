"""Lanes: writes go past pymongo's layers, and nothing else is different; on a real mongod."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import bson
import pytest
from anyio import CancelScope, create_task_group, fail_after, lowlevel, sleep, to_thread
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import InvalidOperation, OperationFailure

from collector.errors import SinkUnavailable
from collector.mongodb.calls import database_of, insert, open_mongo
from collector.mongodb.lanes import Lane, LaneClient
from collector.mongodb.login import renew
from collector.sinks.outcomes import UNENCODABLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from collector.local import Mongod

TIMEOUT = 5.0
NAME = "system_logs"
_MIB = 1024 * 1024


def documents(number: int = 5) -> list[dict[str, Any]]:
    return [{"_id": ObjectId(), "n": position} for position in range(number)]


@asynccontextmanager
async def both(mongod: Mongod, namespace: str) -> AsyncIterator[dict[str, AsyncDatabase[dict[str, Any]]]]:
    """Give the same database twice: its writes go through lanes, and the ordinary way."""
    url = f"{mongod.url}&heartbeatFrequencyMS=500"  # seconds until pymongo asks whether a primary is one again
    with fail_after(60):
        async with (
            open_mongo(url) as fast,
            AsyncMongoClient[dict[str, Any]](url, appname="collector", retryWrites=False) as plain,
        ):
            assert type(fast) is LaneClient
            yield {"lanes": database_of(fast, namespace), "ordinary": database_of(plain, namespace)}


@asynccontextmanager
async def no_ordinary_command() -> AsyncIterator[None]:
    """Fail the test when something goes the ordinary way."""

    async def command(*_: object, **__: object) -> None:
        raise AssertionError("expected a lane to take the command")

    with patch.object(AsyncDatabase, "command", command):
        yield


async def test_writes_go_through_lanes_which_are_few(mongod: Mongod, namespace: str) -> None:
    """The use of pymongo's private names: what fails here has changed in pymongo, and everything goes the slow way."""
    with fail_after(60):
        async with open_mongo(mongod.url) as client:
            database = database_of(client, namespace)
            async with no_ordinary_command():
                for _ in range(20):
                    reply = await insert(database, NAME, documents(), TIMEOUT)
                    assert (reply["n"], reply["ok"]) == (5, 1.0)
                assert client.lanes.number == 1
                async with create_task_group() as group:
                    for _ in range(8):
                        group.start_soon(insert, database, NAME, documents(), TIMEOUT)
            assert 1 <= client.lanes.number <= 8
            assert await database[NAME].count_documents({}) == 28 * 5
    assert client.lanes.number == 0


@pytest.mark.parametrize("options", ["compressors=zlib", "maxPoolSize=1", "maxIdleTimeMS=1"])
async def test_a_connection_that_is_no_plain_one_is_left_to_pymongo(
    mongod: Mongod, namespace: str, options: str
) -> None:
    with fail_after(60):
        async with open_mongo(f"{mongod.url}&{options}") as client:
            database = database_of(client, namespace)
            for _ in range(3):
                assert (await insert(database, NAME, documents(), TIMEOUT))["n"] == 5
            assert client.lanes.number == 0


async def test_lanes_leave_a_third_of_the_connections_to_other_calls(mongod: Mongod, namespace: str) -> None:
    with fail_after(60):
        async with open_mongo(f"{mongod.url}&maxPoolSize=6") as client:
            database = database_of(client, namespace)
            async with create_task_group() as group:
                for _ in range(12):
                    group.start_soon(insert, database, NAME, documents(), TIMEOUT)
            assert client.lanes.number <= 4
            assert await database[NAME].count_documents({}) == 12 * 5


# what the server says


STATES: dict[str, dict[str, Any]] = {
    **{f"code {code}": {"errorCode": code} for code in (*range(1, 20), 26, 48, 50, 59, 64, 72, 91, 112, 121, 134, 189)},
    **{f"code {code}": {"errorCode": code} for code in (225, 251, 262, 361, 10058, 10107, 11000, 11600, 11602, 13435)},
    "closed": {"closeConnection": True},
    "no majority": {"writeConcernError": {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "late"}},
    "stepping down": {"writeConcernError": {"code": 189, "codeName": "PrimarySteppedDown", "errmsg": "gone"}},
}


@pytest.mark.parametrize("state", STATES)
async def test_each_answer_of_the_server_means_the_same_and_the_next_write_works(
    mongod: Mongod, namespace: str, state: str
) -> None:
    said = {}
    async with both(mongod, namespace) as databases:
        for way, database in databases.items():
            await insert(database, NAME, documents(), TIMEOUT)
            generation = pool_generation(database)
            async with failing(database, **STATES[state]):
                outcome = await outcome_of(lambda: insert(database, NAME, documents(), TIMEOUT))  # noqa: B023
            said[way] = outcome, pool_generation(database) - generation
            while await outcome_of(lambda: insert(database, NAME, documents(), TIMEOUT)) != WRITTEN:  # noqa: B023
                pass  # pymongo asks the server first whether it is the primary again
    assert said["lanes"] == said["ordinary"]


def pool_generation(database: AsyncDatabase[dict[str, Any]]) -> int:
    """Return how often pymongo has given up all connections to the server."""
    (server,) = database.client._topology._servers.values()
    return server.pool.gen.get_overall()


WRITTEN = (["$clusterTime", "electionId", "n", "ok", "opTime", "operationTime"], None, None)


async def outcome_of(write: Callable[[], Awaitable[dict[str, Any]]]) -> tuple[Any, ...]:
    try:
        reply = await write()
    except SinkUnavailable as exc:
        return "unavailable", exc.ambiguous, str(exc).partition(": ")[0]
    except OperationFailure as exc:
        return type(exc), exc.code, exc.details and exc.details["errmsg"]
    except UNENCODABLE as exc:
        return (type(exc),)
    return sorted(reply.keys()), reply.get("writeConcernError"), reply.get("writeErrors")


@asynccontextmanager
async def failing(database: AsyncDatabase[dict[str, Any]], **data: Any) -> AsyncIterator[None]:
    """Let the server's next insert fail, by another client: this one may think that there is no primary."""
    point = {"configureFailPoint": "failCommand"}
    wanted = {"failCommands": ["insert"], "namespace": f"{database.name}.{NAME}", **data}
    host, port = database.client.topology_description.server_descriptions().copy().popitem()[0]
    async with AsyncMongoClient[dict[str, Any]](host, port, directConnection=True) as client:
        await client.admin.command({**point, "mode": {"times": 1}, "data": wanted})
        try:
            yield
        finally:
            await client.admin.command({**point, "mode": "off"})


async def test_errors_of_documents_stand_in_the_reply_however_many_they_are(mongod: Mongod, namespace: str) -> None:
    async with both(mongod, namespace) as databases:
        known = [{"_id": "x" * 700 + str(number)} for number in range(1000)]
        replies = [(await insert(databases["lanes"], NAME, known, TIMEOUT))["n"]]
        for database in databases.values():
            reply = await insert(database, NAME, known, TIMEOUT)
            assert len(bson.encode(reply)) > _MIB
            replies.append([(error["index"], error["code"]) for error in reply["writeErrors"]])
        assert replies[0] == 1000
        assert replies[1] == replies[2] == [(number, 11000) for number in range(1000)]


@pytest.mark.parametrize(
    "several",
    [
        [{"n": 2**64}],
        [{1: 2}],
        [{"text": "\ud800"}],
        [{"own": object()}],
        [{"large": b"x" * (17 * _MIB)}],
        [{"large": b"x" * (16 * _MIB)}],
        [{"large": b"x" * (9 * _MIB)}] * 2,
    ],
)
async def test_a_document_that_cannot_be_sent_is_told_as_pymongo_tells_it_and_costs_no_connection(
    mongod: Mongod, namespace: str, several: list[Any]
) -> None:
    said = []
    async with both(mongod, namespace) as databases:
        for database in databases.values():
            await insert(database, NAME, documents(), TIMEOUT)
            said.append(await outcome_of(lambda: insert(database, NAME, several, TIMEOUT)))  # noqa: B023
        lanes: Any = databases["lanes"].client
        assert lanes.lanes.number == 1
    assert said[0] == said[1] != WRITTEN


async def test_a_document_of_the_largest_size_is_stored(mongod: Mongod, namespace: str) -> None:
    largest = {"_id": 1, "x": b""}
    largest["x"] = b"x" * (16 * _MIB - len(bson.encode(largest)))
    async with both(mongod, namespace) as databases, no_ordinary_command():
        assert (await insert(databases["lanes"], NAME, [largest], 30))["n"] == 1


# time, cancellation, connections


async def test_a_server_that_does_not_answer_is_unavailable_in_time_and_the_connection_is_closed(
    mongod: Mongod, namespace: str
) -> None:
    async with both(mongod, namespace) as databases:
        for database in databases.values():
            await insert(database, NAME, documents(), TIMEOUT)
            async with failing(database, blockConnection=True, blockTimeMS=3000):
                with pytest.raises(
                    SinkUnavailable, match=r"NetworkTimeout|MaxTimeMSExpired|ExecutionTimeout"
                ) as raised:
                    await insert(database, NAME, documents(), 0.5)
            assert raised.value.ambiguous
            await insert(database, NAME, documents(), TIMEOUT)


async def test_the_time_until_there_is_a_connection_counts_too(
    mongod: Mongod, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    select, ask, left = LaneClient._select_server, Lane.ask, list[float]()

    async def slow(*whole: Any) -> Any:
        await sleep(0.3)
        return await select(*whole)

    async def noted(lane: Lane, message: bytes, timeout: float) -> bytes:
        left.append(timeout)
        return await ask(lane, message, timeout)

    monkeypatch.setattr(LaneClient, "_select_server", slow)
    monkeypatch.setattr(Lane, "ask", noted)
    with fail_after(60):
        async with open_mongo(mongod.url) as client:
            await insert(database_of(client, namespace), NAME, documents(), TIMEOUT)
    assert 0 < left[0] <= TIMEOUT - 0.3


async def test_a_cancellation_does_not_cut_a_write(mongod: Mongod, namespace: str) -> None:
    written = []
    async with both(mongod, namespace) as databases:
        database = databases["lanes"]
        for turns in range(12):
            with CancelScope() as scope:
                async with create_task_group() as group:
                    group.start_soon(cancel_after, turns, scope)
                    written.append(await insert(database, NAME, documents(1), TIMEOUT))
        assert [reply["n"] for reply in written] == [1] * len(written)
        assert len(written) > 6
        assert await database[NAME].count_documents({}) == len(written)


async def cancel_after(turns: int, scope: CancelScope) -> None:
    for _ in range(turns):
        await lowlevel.checkpoint()
    scope.cancel()


async def test_a_connection_that_pymongo_gives_up_ends_the_write_on_it(
    own_mongod: Callable[[], Mongod], namespace: str
) -> None:
    """It does so when its monitor gets no answer any more."""
    server, said = own_mongod(), []

    async def write(database: AsyncDatabase[dict[str, Any]]) -> None:
        said.append(await outcome_of(lambda: insert(database, NAME, documents(), 40)))

    async with both(server, namespace) as databases:
        for database in databases.values():
            await insert(database, NAME, documents(), TIMEOUT)
            (of_pymongo,) = database.client._topology._servers.values()
            server.pause()
            try:
                async with create_task_group() as group:
                    group.start_soon(write, database)
                    await lowlevel.checkpoint()
                    while not of_pymongo.pool.active_contexts:  # noqa: ASYNC110 - pymongo tells nobody
                        await sleep(0.01)
                    await of_pymongo.pool.reset(interrupt_connections=True)
            finally:
                server.resume()
    assert said[0][:2] == said[1][:2] == ("unavailable", True)
    assert "NetworkTimeout" not in (said[0][2], said[1][2]), "it did not wait for the deadline"


async def test_after_a_restart_of_the_server_a_write_fails_at_most_once(
    own_mongod: Callable[[], Mongod], namespace: str
) -> None:
    server = own_mongod()
    async with both(server, namespace) as databases:
        database = databases["lanes"]
        async with create_task_group() as group:
            for _ in range(5):
                group.start_soon(insert, database, NAME, documents(), TIMEOUT)
        await to_thread.run_sync(server.kill)
        await to_thread.run_sync(server.start)
        failed = 0
        for _ in range(10):
            try:
                await insert(database, NAME, documents(), 20)
            except SinkUnavailable:
                failed += 1
        assert failed <= 1


async def test_a_renewed_client_writes_over_new_connections_and_lets_the_old_ones_go(
    mongod: Mongod, namespace: str
) -> None:
    with fail_after(60):
        async with open_mongo(mongod.url) as client:
            database = database_of(client, namespace)
            async with create_task_group() as group:
                for _ in range(4):
                    group.start_soon(insert, database, NAME, documents(), TIMEOUT)
            old, lanes = client._topology, client.lanes
            (pool,) = (server.pool for server in old._servers.values())
            close = await renew(client, mongod.url)
            assert client.lanes is lanes
            await insert(database, NAME, documents(), TIMEOUT)
            assert (lanes.number, pool.active_sockets) == (1, 0)
            await close()


async def test_a_client_that_is_closed_takes_no_command(mongod: Mongod, namespace: str) -> None:
    async with open_mongo(mongod.url) as client:
        await insert(database_of(client, namespace), NAME, documents(), TIMEOUT)
    with pytest.raises(InvalidOperation):
        await insert(database_of(client, namespace), NAME, documents(), TIMEOUT)
