"""MongoDB's roles as `docs/security.md` has them: with them everything works, with less the error names what it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tests.support.ancestor import Ancestor, ancestor, entry, text
from tests.support.guarded import AsUser, GuardedMongod, guarded_mongod
from tests.support.security_page import mongodb_role
from tests.support.waiting import count, until, until_empty
from transfer.wire import TRANSFER_ATTEMPT, TRANSFER_CONTENT_ID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer, Replica

pytestmark = pytest.mark.timeout(300)
POISON = b"\xc1 is no msgpack"
LARGE = b"\xc1" + bytes(9 * 1024 * 1024)
"""So large that its letter has a file."""
ROLES = {"collector": "collector role", "dead-letters": "dead-letters role", "reader": "reader role"}
LACKING = {
    "insert": "its user may not insert on {namespace}.system_logs",
    "listCollections": "its user may not listCollections on {namespace}",
    "update": "its user may not (update|findAndModify) on {namespace}.collector_",
    "find": "its user may not (find|aggregate) on {namespace}.",
}
"""What the log says without an action, where one of the loggers is a time-series one."""


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedMongod]:
    with guarded_mongod() as server:
        yield server


class Guarded:
    """The roles of a namespace on the server that demands a login."""

    def __init__(self, mongod: Mongod, namespace: str) -> None:
        self.mongod, self.namespace = mongod, namespace
        self.root = AsUser(mongod, "root", "admin")

    @contextmanager
    def database(self) -> Iterator[Database[dict[str, Any]]]:
        with MongoClient[dict[str, Any]](self.root.url) as client:
            yield client[self.namespace]

    def make_roles(self, **without: str) -> None:
        with self.database() as database:
            for user, title in ROLES.items():
                role = mongodb_role(title, self.namespace)
                role["privileges"][0]["actions"] = [
                    action for action in role["privileges"][0]["actions"] if action != without.get(user)
                ]
                database.command(role)
                database.command({"createUser": user, "pwd": "right", "roles": [role["createRole"]]})

    def user(self, name: str) -> AsUser:
        return AsUser(self.mongod, name, self.namespace)


@pytest.fixture
async def wide_nats(own_nats: Callable[..., NatsServer]) -> NatsServer:
    """Give a nats-server that takes messages of which the letters have files."""
    return await anyio.to_thread.run_sync(own_nats, "max_payload: 12MB")


@pytest.fixture
async def publisher(wide_nats: NatsServer, namespace: str) -> AsyncIterator[Ancestor]:
    async with ancestor(wide_nats.url, namespace) as others:
        yield others


@pytest.fixture
def roles(guarded: GuardedMongod, namespace: str) -> Iterator[Guarded]:
    made = Guarded(guarded, namespace)
    yield made
    with made.database() as database:
        database.command("dropAllUsersFromDatabase")
        database.command("dropAllRolesFromDatabase")
        database.client.drop_database(namespace)


async def dead_letters(roles: Guarded, nats: NatsServer, *arguments: str) -> tuple[int, str]:
    """Run `collector dead-letters`; return its exit status and all that it said."""
    environment = os.environ | {"NAMESPACE": roles.namespace, "NATS_HOSTS": nats.url}
    environment["DATABASE"] = roles.user("dead-letters").url
    command = [sys.executable, "-m", "collector", "dead-letters", *arguments]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    ended = await anyio.to_thread.run_sync(run)
    return ended.returncode, ended.stdout + ended.stderr


async def declare_metered(go: Ancestor) -> None:
    """Declare a logger whose collection is to be made, and a time-series one."""
    kind = b"\x81" + text("kind") + text("timeseries")
    await go.make_stream("metered")
    spec = b"\x83" + text("key") + text("metered") + text("description") + text("") + text("collection") + kind
    await go.put("metered", spec)


async def test_with_the_documented_roles_everything_works(
    roles: Guarded, start_replica: Callable[..., Replica], publisher: Ancestor, wide_nats: NatsServer
) -> None:
    roles.make_roles()
    replica = start_replica(wide_nats, mongo=roles.user("collector"))
    await publisher.declare("system")
    await declare_metered(publisher)
    with roles.database() as database:
        for key in ("system", "metered"):
            await publisher.publish(key, [entry(number) for number in range(10)])
            await until(lambda key=key: count(database, key) == 10, 20)  # type: ignore[misc]
        assert database["metered_logs"].options()["timeseries"]
        await publisher.publish("system", [POISON, LARGE])
        await until(lambda: database.system_fail.count_documents({}) == 2, 20)
        for command in (["list", "system"], ["redrive", "system"]):
            status, said = await dead_letters(roles, wide_nats, *command)
            assert status == 0, said
        await until(lambda: database.system_fail.count_documents({"attempt": 2}) == 2, 20)
        await until_empty(publisher.jetstream, f"{roles.namespace}:logs:system")
        status, said = await dead_letters(roles, wide_nats, "purge", "system", "--yes")
        assert (status, said) == (0, "purged: 2\n")
        assert database["system_fail.files"].count_documents({}) == 0
    with MongoClient[dict[str, Any]](roles.user("reader").url) as client:
        assert client[roles.namespace].system_logs.count_documents({}) == 10
        with pytest.raises(OperationFailure):
            client[roles.namespace].system_logs.insert_one({})
        with client[roles.namespace].system_logs.watch() as followed:  # as `transfer tail --follow` does
            assert followed.try_next() is None
    assert "Unauthorized" not in replica.log_path.read_text()
    assert replica.metric("collector_failures_total") == 0


@pytest.mark.parametrize("action", LACKING)
async def test_the_collectors_log_names_the_privilege_that_it_lacks(
    action: str, roles: Guarded, start_replica: Callable[..., Replica], go: Ancestor
) -> None:
    roles.make_roles(collector=action)
    replica = start_replica(mongo=roles.user("collector"))
    await go.declare("system")
    await declare_metered(go)
    await go.publish("system", [entry(1)])
    await go.publish("metered", [entry(1)])
    await names(replica, LACKING[action].format(namespace=roles.namespace))


async def names(replica: Replica, sentence: str) -> None:
    """Wait until the log says it."""
    missing = re.compile(sentence)
    await until(lambda: missing.search(replica.log_path.read_text()) is not None, 20)


@pytest.mark.parametrize(
    ("action", "sentence"), [("createIndex", "createIndexes"), ("remove", "delete"), ("update", "update")]
)
async def test_a_letter_in_a_file_waits_for_the_privilege_that_is_named(
    action: str,
    sentence: str,
    roles: Guarded,
    start_replica: Callable[..., Replica],
    publisher: Ancestor,
    wide_nats: NatsServer,
) -> None:
    roles.make_roles(collector=action)
    replica = start_replica(wide_nats, mongo=roles.user("collector"))
    await publisher.declare("system")
    await publisher.publish("system", [LARGE])
    with roles.database() as database:
        letters = database.system_fail
        if action != "createIndex":  # what is needed only while a redrive has not removed its letter yet
            await until(lambda: letters.count_documents({}) == 1, 20)
            (letter,) = letters.find()
            again = {TRANSFER_ATTEMPT: "2", TRANSFER_CONTENT_ID: str(letter["_id"])}
            await publisher.publish("system", [LARGE], again)
        await names(replica, f"its user may not {sentence} on {roles.namespace}.system_fail")
        whole = mongodb_role(ROLES["collector"], roles.namespace)["privileges"]
        database.command({"updateRole": "collector", "privileges": whole})
        await until_empty(publisher.jetstream, f"{roles.namespace}:logs:system", 20)
        assert letters.count_documents({}) == database["system_fail.files"].count_documents({}) == 1


@pytest.mark.parametrize(("action", "command"), [("find", "list"), ("remove", "purge")])
async def test_a_dead_letter_commands_error_names_the_privilege_that_it_lacks(
    action: str,
    command: str,
    roles: Guarded,
    start_replica: Callable[..., Replica],
    go: Ancestor,
    nats_server: NatsServer,
) -> None:
    roles.make_roles(**{"dead-letters": action})
    start_replica(mongo=roles.user("collector"))
    await go.declare("system")
    await go.publish("system", [POISON])
    with roles.database() as database:
        await until(lambda: database.system_fail.count_documents({}) == 1, 20)
    options = ["--yes"] if command == "purge" else []
    status, said = await dead_letters(roles, nats_server, command, "system", *options)
    assert status == 1
    assert re.search(f"its user may not (aggregate|delete) on {roles.namespace}.system_fail", said), said


async def test_a_wrong_password_is_said_without_it(
    roles: Guarded, start_replica: Callable[..., Replica], go: Ancestor
) -> None:
    roles.make_roles()
    wrong = roles.user("collector")
    wrong.url = wrong.url.replace(":right@", ":planted-password@")
    replica = start_replica(mongo=wrong)
    await go.declare("system")
    await go.publish("system", [entry(1)])
    await names(replica, "AuthenticationFailed")
    assert "planted" not in replica.log_path.read_text()
