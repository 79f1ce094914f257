"""What `collector check` says of MongoDB, its privileges and collections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pymongo import MongoClient

from tests.support.ancestor import Ancestor, text
from tests.support.checking import Check, matches
from tests.support.guarded import AsUser, guarded_mongod
from tests.support.planted import planted
from tests.support.security_page import mongodb_role
from tests.support.standalone import Standalone, own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.database import Database

    from collector.local import Mongod
    from tests.support.guarded import GuardedMongod


pytestmark = pytest.mark.timeout(180)


async def test_mongodb_that_is_away(check: Check, own_mongod: Callable[[], Mongod]) -> None:
    server = await anyio.to_thread.run_sync(own_mongod)
    check.environ["DATABASE"] = server.url
    server.kill()
    (line,) = await check.troubles()
    assert matches(line, "wrong", "MongoDB", "Connection refused")


async def test_a_mongod_that_is_no_replica_set_and_one_of_another_set(check: Check, mongod: Mongod) -> None:
    with own(Standalone, {}) as alone:
        for uri in (alone.url, f"{alone.url}?replicaSet=rs0"):
            check.environ["DATABASE"] = uri
            (line,) = await check.troubles()
            assert matches(line, "wrong", "MongoDB", "got a standalone mongod", "--replSet")
    check.environ["DATABASE"] = mongod.url.replace("rs0", "rs1")
    (line,) = await check.troubles()
    assert matches(line, "wrong", "MongoDB", "replica set rs1", "got the set rs0")


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedMongod]:
    with guarded_mongod() as server:
        yield server


@pytest.fixture
def with_role(check: Check, namespace: str, guarded: GuardedMongod) -> Iterator[Callable[..., None]]:
    """Make `with_role(without="")`: check as a user of the documented role, or of less."""
    with MongoClient[dict[str, Any]](AsUser(guarded, "root", "admin").url) as client:

        def make(without: str = "") -> None:
            role = mongodb_role("collector role", namespace)
            privileges = role["privileges"][0]
            privileges["actions"] = [action for action in privileges["actions"] if action != without]
            client[namespace].command(role)
            client[namespace].command({"createUser": "collector", "pwd": "right", "roles": ["collector"]})
            client[namespace].create_collection("system_logs")
            check.environ["DATABASE"] = AsUser(guarded, "collector", namespace).url

        yield make
        client[namespace].command("dropAllUsersFromDatabase")
        client[namespace].command("dropAllRolesFromDatabase")
        client.drop_database(namespace)


async def test_with_the_documented_role_all_is_well(
    check: Check, declared: Ancestor, with_role: Callable[..., None]
) -> None:
    with_role()
    assert await check.troubles() == []


@pytest.mark.parametrize("action", ["insert", "find", "update", "remove", "createIndex"])
async def test_a_privilege_that_is_missing_is_named(
    check: Check, declared: Ancestor, with_role: Callable[..., None], action: str
) -> None:
    with_role(without=action)
    (line,) = await check.troubles()
    assert matches(line, "wrong", "MongoDB privileges", "user collector", f"got no {action}")


async def test_without_the_privilege_to_look_at_indexes_only_that_is_not_looked_at(
    check: Check, declared: Ancestor, with_role: Callable[..., None]
) -> None:
    with_role(without="listIndexes")
    (line,) = await check.troubles()
    assert matches(line, "warning", "MongoDB indexes", "its user may not listIndexes")


async def test_a_wrong_password_for_mongodb_and_none(
    check: Check, declared: Ancestor, with_role: Callable[..., None], guarded: GuardedMongod
) -> None:
    with_role()
    check.environ["DATABASE"] = check.environ["DATABASE"].replace("right", planted("password"))
    (line,) = await check.troubles()
    assert matches(line, "wrong", "MongoDB", "AuthenticationFailed")
    assert planted("") not in line
    check.environ["DATABASE"] = guarded.url
    (line,) = await check.troubles()
    assert matches(line, "wrong", "MongoDB collections", "no user")


async def test_collections_that_would_refuse(
    check: Check, declared: Ancestor, database: Database[dict[str, Any]]
) -> None:
    kind = b"\x81" + text("kind") + text("timeseries")
    for key in ("metered", "kept"):
        await declared.make_stream(key)
        spec = b"\x83" + text("key") + text(key) + text("description") + text("") + text("collection") + kind
        await declared.put(key, spec)
    database.create_collection("metered_logs", timeseries={"timeField": "at", "metaField": "metadata"})
    database.create_collection("kept_logs")
    database.system_logs.create_index("msg", unique=True)
    database.create_collection("system_fail", capped=True, size=100_000)
    kept, metered, system, letters = await check.troubles()
    assert matches(kept, "wrong", "collection kept_logs", "a time-series collection", "got a plain collection")
    assert matches(metered, "wrong", "collection metered_logs", "time field timestamp", "got at,")
    assert matches(system, "wrong", "collection system_logs", "unique", "msg_1 on msg", "db.system_logs.dropIndex")
    assert matches(letters, "wrong", "collection system_fail", "capped")
