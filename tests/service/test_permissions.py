"""Least privilege as `docs/security.md` has it: with it everything works, with less the error names what is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from nats.js.api import AckPolicy, ConsumerConfig
from pymongo import MongoClient

from collector.local import NatsServer, Replica
from tests.support.alive import Connected
from tests.support.ancestor import Ancestor, ancestor, entry
from tests.support.security_page import pattern, permissions, subjects
from tests.support.waiting import count, until, until_empty
from transfer import BlockingTransfer
from transfer.jetstream.api import request
from transfer.jetstream.streams import ensure_bucket
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from pymongo.database import Database

    from collector.local import Mongod

pytestmark = pytest.mark.timeout(300)
POISON = b"\xc1 is no msgpack"
DIRECT_GET = "$JS.API.DIRECT.GET."
"""Used by the collector where NATS makes no consumer for it."""


@dataclass(frozen=True)
class Case:
    """A user of a role in a namespace of its own, without one permission, or with all."""

    role: str
    number: int
    without: tuple[str, str] | None = None

    @property
    def namespace(self) -> str:
        return f"Case{self.number}"  # capitals: the error has to name it as it is

    def user(self, role: str) -> str:
        without = self.without if role == self.role else None
        allowed = permissions(role, self.namespace, without=without)
        return f'{{ user: "{role} of {self.namespace}", password: right, permissions: {allowed} }}'

    def login(self, role: str) -> dict[str, str]:
        return {"NATS_USER": f"{role} of {self.namespace}", "NATS_PASSWORD": "right"}


ROLES = ("collector", "publisher", "admin")
LESS = [Case(role, 0, less) for role in ROLES for less in subjects(role)]
LESS = [Case(case.role, number, case.without) for number, case in enumerate(LESS, 1)]
COMPLETE = Case("", 0)


@pytest.fixture(scope="module")
def guarded() -> Iterator[NatsServer]:
    """Give a nats-server with the users of all cases."""
    users = [case.user(role) for case in (COMPLETE, *LESS) for role in ROLES]
    listed = "\n".join(["{ user: root, password: right }", *users])
    config = f"accounts {{ A {{ jetstream: enabled, users: [\n{listed}\n] }} }}"
    with TemporaryDirectory(prefix="nats-") as folder, NatsServer(Path(folder), config=config) as server:
        yield server


class Scene:
    """One case on the guarded server: a replica of it, what others do, and what commands of it say."""

    def __init__(self, case: Case, nats: NatsServer, mongod: Mongod, stack: ExitStack) -> None:
        self.case = case
        self._nats, self._mongod, self._stack = nats, mongod, stack

    def replica(self, kind: type[Replica] = Replica) -> Replica:
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="replica-")))
        settings = {**self.case.login("collector"), "COLLECTOR_LAG_PERIOD": "500ms", "COLLECTOR_RECONCILE_PERIOD": "5s"}
        replica = kind(folder, self.case.namespace, self._nats, self._mongod, settings)
        self._stack.enter_context(replica)
        self._stack.callback(replica.kill)  # one that waits for an answer ends only after that
        return replica

    @asynccontextmanager
    async def others(self) -> AsyncIterator[Ancestor]:
        """Connect as somebody who may do everything."""
        async with ancestor(self._nats.url.replace("//", "//root:right@"), self.case.namespace) as publisher:
            yield publisher

    async def command(self, role: str, *arguments: str) -> tuple[int, str]:
        """Run a command in a role; return its exit status and all that it said."""
        ours = ("COLLECTOR_", "NATS_", "DATABASE", "NAMESPACE", "MODE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        settings = {"NAMESPACE": self.case.namespace, "NATS_HOSTS": self._nats.url, "DATABASE": self._mongod.url}

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", *arguments],
                env={**inherited, **settings, **self.case.login(role)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=60,
            )

        ended = await anyio.to_thread.run_sync(run)
        return ended.returncode, ended.stdout

    def send(self, role: str, key: str) -> bool:
        """Send an entry as an application does in that role; return whether it is confirmed."""
        login = self.case.login(role)
        user, password = login["NATS_USER"], login["NATS_PASSWORD"]
        url, namespace = self._nats.url, self.case.namespace
        with BlockingTransfer.connect(url, namespace=namespace, user=user, password=password) as transfer:
            transfer.send(key, {"n": 1})
            return transfer.flush(10) and transfer.stats().published == 1


@pytest.fixture
def scene_of(guarded: NatsServer, mongod: Mongod) -> Iterator[Callable[[Case], Scene]]:
    with MongoClient[dict[str, Any]](mongod.url) as client, ExitStack() as stack:

        def make(case: Case) -> Scene:
            stack.callback(client.drop_database, case.namespace)
            return Scene(case, guarded, mongod, stack)

        yield make


async def leave_a_push_durable(others: Ancestor, key: str) -> None:
    """Leave behind what a Go collector leaves."""
    name = f"{others.namespace}:logs:{key}"
    await others.make_stream(key)
    config = ConsumerConfig(
        durable_name=name, deliver_subject=f"_INBOX.{key}", deliver_group=name, ack_policy=AckPolicy.EXPLICIT
    )
    await others.jetstream.add_consumer(name, config)
    await others.put(key)


async def make_a_bucket_that_takes_no_consumer(others: Ancestor) -> None:
    """Make one whose only consumer is somebody else's."""
    bucket = f"{others.namespace}_logs"
    config = {"name": f"KV_{bucket}", "subjects": [f"$KV.{bucket}.>"], "max_msgs_per_subject": 1, "discard": "new"}
    config |= {"allow_rollup_hdrs": True, "deny_delete": True, "allow_direct": True, "max_consumers": 1}
    await request(others.jetstream, f"STREAM.CREATE.KV_{bucket}", config)
    await others.jetstream.add_consumer(f"KV_{bucket}", durable_name="somebodys", ack_policy=AckPolicy.NONE)


COMMANDS = [
    ("admin", "transfer", "set", "made", "--description", "one"),
    ("admin", "transfer", "set", "made", "--description", "other", "--replace"),
    ("admin", "transfer", "get", "made"),
    ("admin", "transfer", "list"),
    ("admin", "transfer", "update", "made", "--max-age", "1d"),
    ("publisher", "transfer", "publish", "made", '{"n": 1}'),
    ("publisher", "transfer", "publish", "unknown", '{"n": 1}'),
    ("admin", "transfer", "remove", "made", "--force"),
]


async def test_with_the_documented_permissions_everything_works(
    scene_of: Callable[[Case], Scene], mongod: Mongod
) -> None:
    scene = scene_of(COMPLETE)
    database: Database[dict[str, Any]]
    with MongoClient[dict[str, Any]](mongod.url) as client:
        database = client[COMPLETE.namespace]
        replica = scene.replica()
        async with scene.others() as others:
            await leave_a_push_durable(others, "old")
            await others.publish("old", [entry(1), POISON])
            await until(lambda: (count(database, "old"), count_letters(database, "old")) == (1, 1), 20)
            await until(lambda: replica.metric("collector_lag_refresh_timestamp_seconds") > 0, 10)
            for role, *arguments in COMMANDS:
                status, said = await scene.command(role, *arguments)
                assert status == ("unknown" in arguments), said
                if "publish" in arguments:
                    await until(lambda: count(database, "made") == 1, 10)
            assert await scene.command("publisher", "collector", "dead-letters", "redrive", "old") == (
                0,
                "redriven: 1, left: 0\n",
            )
            await until(lambda: count_letters(database, "old") == 1, 10)
            await until_empty(others.jetstream, f"{COMPLETE.namespace}:logs:old")
            assert await anyio.to_thread.run_sync(scene.send, "publisher", "old")
            await until(lambda: count(database, "old") == 2, 10)
    assert "permit" not in replica.log_path.read_text()
    assert replica.metric("collector_failures_total") == 0


def count_letters(database: Database[dict[str, Any]], key: str) -> int:
    return database[f"{key}_fail"].count_documents({})


async def test_the_collectors_log_names_each_permission_that_it_lacks(scene_of: Callable[[Case], Scene]) -> None:
    async def lack(case: Case, missing: re.Pattern[str]) -> None:
        scene = scene_of(case)
        async with scene.others() as others:
            if missing.pattern.startswith(f"to {re.escape(DIRECT_GET)}"):
                await make_a_bucket_that_takes_no_consumer(others)
            replica = await anyio.to_thread.run_sync(scene.replica, Connected)
            await ensure_bucket(others.jetstream, Names(case.namespace))
            await others.declare("system")
            await leave_a_push_durable(others, "old")
            await others.publish("system", [entry(1), POISON])
            await until(lambda: missing.search(replica.log_path.read_text()) is not None, 60)
            await anyio.to_thread.run_sync(replica.kill)

    await each(lack, [case for case in LESS if case.role == "collector"])


async def test_a_commands_error_names_each_permission_that_it_lacks(scene_of: Callable[[Case], Scene]) -> None:
    async def lack(case: Case, missing: re.Pattern[str]) -> None:
        scene, heard = scene_of(case), ""
        async with scene.others() as others:
            await ensure_bucket(others.jetstream, Names(case.namespace))
            await others.declare("made")
            for role, *arguments in COMMANDS:
                status, said = await scene.command(role, *arguments) if role == case.role else (0, "")
                heard += said if status else ""
                if missing.search(heard):
                    return
        pytest.fail(f"expected an error that names {missing.pattern}, got {heard}")

    await each(lack, [case for case in LESS if case.role != "collector"])


async def each(lack: Callable[[Case, re.Pattern[str]], Awaitable[None]], cases: list[Case]) -> None:
    """Play all cases, a few at a time because most of each is waiting; say which failed."""
    a_few = anyio.CapacityLimiter(8)

    async def play(case: Case) -> None:
        assert case.without is not None
        async with a_few:
            try:
                await lack(case, pattern(case.without[1], case.namespace))
            except Exception as exc:
                exc.add_note(f"without {' '.join(case.without)} for {case.role}")
                raise

    assert cases
    async with anyio.create_task_group() as group:
        for case in cases:
            group.start_soon(play, case)
