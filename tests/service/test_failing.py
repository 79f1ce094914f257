"""Writes that keep failing on real servers: the logger says so; while none succeeds the replica is not ready."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread
from pymongo import MongoClient

from collector.local import Mongod
from tests.conftest import FAIL_POINTS
from tests.support.ancestor import Ancestor, entry
from tests.support.guarded import AsUser, guarded_mongod
from tests.support.security_page import mongodb_role
from tests.support.stalled import replica_set
from tests.support.waiting import count, state, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager

    from collector.local import Replica

pytestmark = pytest.mark.timeout(300)
SETTINGS = {"COLLECTOR_WRITE_TIMEOUT": "2s", "COLLECTOR_LAG_PERIOD": "500ms"}
KEYS = ("a", "b")


@dataclass
class Place:
    """Where entries go, as a replica and as root reaches it, and what befalls it there."""

    url: str
    root: str
    begin: Callable[[], Awaitable[object]]
    end: Callable[[], Awaitable[object]]

    @asynccontextmanager
    async def trouble(self) -> AsyncIterator[None]:
        """Have it befall the place while the block lasts."""
        await self.begin()
        try:
            yield
        finally:
            await self.end()


def refuse(url: str, mode: str, collection: str = "") -> None:
    """Let inserts fail with an error that says nothing about a document, or end that."""
    data: dict[str, Any] = {"failCommands": ["insert"], "errorCode": 8, "appName": "collector"}
    if collection:
        data["namespace"] = collection
    point: dict[str, Any] = {"configureFailPoint": "failCommand", "mode": mode}
    with MongoClient[dict[str, Any]](url) as client:
        client.admin.command(point if mode == "off" else point | {"data": data})


@contextmanager
def a_server(how: str) -> Iterator[Place]:
    """Give a mongod that hangs, is away, or refuses every insert."""
    with TemporaryDirectory(prefix="mongod-") as folder, Mongod(Path(folder), parameters=FAIL_POINTS) as mongod:
        begin, end = {
            "hangs": (mongod.pause, mongod.resume),
            "is away": (mongod.kill, mongod.start),
            "refuses": (lambda: refuse(mongod.url, "alwaysOn"), lambda: refuse(mongod.url, "off")),
        }[how]
        try:
            yield Place(mongod.url, mongod.url, lambda: to_thread.run_sync(begin), lambda: to_thread.run_sync(end))
        finally:
            mongod.kill()


@contextmanager
def a_set() -> Iterator[Place]:
    """Give a set whose secondaries get nothing more, while all members look well."""
    with replica_set(arbiter=False) as members:
        yield Place(members.url, members.url, members.stall, members.go_on)


@contextmanager
def a_role(namespace: str) -> Iterator[Place]:
    """Give a user who loses the right to insert."""
    role = mongodb_role("collector role", namespace)
    whole = role["privileges"]
    less = [{**one, "actions": [action for action in one["actions"] if action != "insert"]} for one in whole]
    with guarded_mongod() as mongod:
        root = AsUser(mongod, "root", "admin").url

        def grant(privileges: list[dict[str, Any]]) -> None:
            with MongoClient[dict[str, Any]](root) as client:
                client[namespace].command({"updateRole": "collector", "privileges": privileges})

        with MongoClient[dict[str, Any]](root) as client:
            client[namespace].command(role)
            client[namespace].command({"createUser": "collector", "pwd": "right", "roles": ["collector"]})
        url = AsUser(mongod, "collector", namespace).url
        yield Place(url, root, lambda: to_thread.run_sync(grant, less), lambda: to_thread.run_sync(grant, whole))


PLACES: dict[str, Callable[[str], AbstractContextManager[Place]]] = {
    "mongod hangs": lambda _: a_server("hangs"),
    "mongod is away": lambda _: a_server("is away"),
    "mongod refuses every insert": lambda _: a_server("refuses"),
    "no majority": lambda _: a_set(),
    "insert revoked": a_role,
}


@pytest.mark.parametrize("name", PLACES)
async def test_while_no_write_succeeds_loggers_are_failing_and_the_replica_is_not_ready(
    name: str, start_replica: Callable[..., Replica], go: Ancestor, namespace: str
) -> None:
    with PLACES[name](namespace) as place, MongoClient[dict[str, Any]](place.root) as client:
        replica = await to_thread.run_sync(lambda: start_replica(mongo=place, **SETTINGS))
        await go.declare(*KEYS)
        for key in KEYS:
            await go.publish(key, [entry(1)])
        await until(lambda: all(count(client[namespace], key) == 1 for key in KEYS), 20)
        assert replica.get("/readyz")[0] == 200
        async with place.trouble():
            for key in KEYS:
                await go.publish(key, [entry(2)])
            await until(lambda: {state(replica, key) for key in KEYS} == {"failing"}, 40)
            assert replica.get("/readyz")[0] == 503
            assert replica.get("/livez")[0] == 200
            assert all(logger["why"] and not logger["last_error_past"] for logger in replica.status["loggers"].values())
        await until(lambda: {state(replica, key) for key in KEYS} == {"running"}, 40)
        await until(lambda: replica.get("/readyz")[0] == 200, 20)
        await until(lambda: all(count(client[namespace], key) == 2 for key in KEYS), 20)
        loggers = replica.status["loggers"].values()
        assert all(logger["last_error_past"] and not logger["why"] for logger in loggers)
        await to_thread.run_sync(replica.stop)


async def test_a_new_replica_whose_writes_all_fail_gets_unready_and_those_that_work_stay(
    start_replica: Callable[..., Replica], go: Ancestor, namespace: str
) -> None:
    """A rollout with a wrong role must not replace the replicas that work."""
    with a_role(namespace) as place:
        await place.begin()
        replica = await to_thread.run_sync(lambda: start_replica(mongo=place, **SETTINGS))
        await go.declare(*KEYS)
        await go.publish("a", [entry(1)])
        sentence = f"no write succeeds, a: .*its user may not insert on {namespace}.a_logs"
        await until(lambda: replica.get("/readyz")[0] == 503, 40)
        assert re.search(sentence, replica.get("/readyz")[1])
        await to_thread.run_sync(replica.kill)


async def test_one_failing_logger_among_others_keeps_no_replica_from_being_ready(
    start_replica: Callable[..., Replica], go: Ancestor, namespace: str
) -> None:
    with a_server("refuses") as place, MongoClient[dict[str, Any]](place.root) as client:
        replica = await to_thread.run_sync(lambda: start_replica(mongo=place, **SETTINGS))
        await go.declare(*KEYS)
        await go.publish("b", [entry(1)])
        await until(lambda: count(client[namespace], "b") == 1, 20)
        await to_thread.run_sync(refuse, place.url, "alwaysOn", f"{namespace}.a_logs")
        await go.publish("a", [entry(1)])
        await until(lambda: state(replica, "a") == "failing", 40)
        assert (state(replica, "b"), replica.get("/readyz")) == ("running", (200, "ok\n"))
        await go.publish("b", [entry(2)])
        await until(lambda: count(client[namespace], "b") == 2, 20)
        assert replica.get("/readyz")[0] == 200
        await to_thread.run_sync(refuse, place.url, "off")
        await until(lambda: state(replica, "a") == "running", 40)
        await to_thread.run_sync(replica.stop)
