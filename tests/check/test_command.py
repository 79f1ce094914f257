"""`collector check` on real servers, in order and broken: it says what is wrong and changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, StreamConfig
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from collector.check.command import inspect
from collector.check.findings import Level
from collector.local import Mongod, NatsServer
from collector.settings import Settings
from tests.support.ancestor import Ancestor, text
from tests.support.guarded import AsUser, guarded_mongod
from tests.support.logins import tls_config
from tests.support.planted import planted
from tests.support.security_page import mongodb_role, permissions, subjects
from transfer.jetstream.durables import ensure_durable
from transfer.jetstream.streams import ensure_bucket
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.database import Database

    from collector.check.findings import Finding
    from tests.support.certificates import Authority
    from tests.support.guarded import GuardedMongod

pytestmark = pytest.mark.timeout(180)


class Check:
    """The settings of one check, which a test changes; what it found."""

    def __init__(self, namespace: str, nats: NatsServer, mongod: Mongod) -> None:
        self.environ = {"NAMESPACE": namespace, "NATS_HOSTS": nats.url, "DATABASE": mongod.url}

    async def findings(self, replicas: int = 1) -> list[Finding]:
        with anyio.fail_after(40):
            return await inspect(Settings.read(self.environ), replicas)

    async def troubles(self, replicas: int = 1) -> list[str]:
        return [str(finding) for finding in await self.findings(replicas) if finding.level is not Level.OK]

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run the command; return its exit status and what it printed."""
        ours = ("COLLECTOR_", "NATS_", "DATABASE", "NAMESPACE", "MODE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        command = [sys.executable, "-m", "collector", "check", *arguments]
        environ = inherited | self.environ
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=50)
        assert ended.stderr == ""
        return ended.returncode, ended.stdout


@pytest.fixture
def check(namespace: str, nats_server: NatsServer, mongod: Mongod) -> Check:
    return Check(namespace, nats_server, mongod)


@pytest.fixture
async def declared(go: Ancestor) -> Ancestor:
    """Give a namespace with a bucket and one logger, `system`."""
    await ensure_bucket(go.jetstream, Names(go.namespace))
    await go.declare("system")
    return go


def matches(line: str, level: str, about: str, *words: str) -> bool:
    return line.startswith(f"{level:<8} {about}: ") and all(word in line for word in words)


# in order


async def test_where_nothing_is_yet_all_is_well_and_nothing_is_made(
    check: Check, go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    assert await check.troubles() == []
    streams = {info.config.name for info in await go.jetstream.streams_info()}
    assert not {name for name in streams if name and go.namespace in name}
    assert database.name not in database.client.list_database_names()


async def test_with_a_logger_that_works_all_is_well_and_nothing_is_changed(
    check: Check, declared: Ancestor, database: Database[dict[str, Any]]
) -> None:
    names = Names(declared.namespace)
    made = await ensure_durable(declared.jetstream, names, "system")
    database.create_collection("system_logs")
    await declared.publish("system", [b"{}"] * 5)
    found = await check.findings(replicas=4)
    assert {finding.level for finding in found} == {Level.OK}
    assert "logger system: stream and durable are in order, 5 messages wait" in "\n".join(map(str, found))
    after = await declared.jetstream.consumer_info(names.stream("system"), names.durable("system"))
    assert (after.num_pending, after.num_ack_pending, str(made.config.max_ack_pending)) == (5, 0, "100000")


async def test_the_command_says_a_line_for_each_finding_and_ends_with_0(check: Check, declared: Ancestor) -> None:
    status, said = await anyio.to_thread.run_sync(check.run, "--replicas", "3")
    assert status == 0, said
    *lines, last = said.splitlines()
    assert all(line.startswith("ok       ") for line in lines)
    assert last == f"{len(lines)} ok, 0 warning, 0 wrong"
    assert "replicas hold up to 18000 messages of a logger" in lines[0]


async def test_the_command_ends_with_1_when_something_is_wrong_and_says_it_in_json(
    check: Check, declared: Ancestor
) -> None:
    await declared.put("lost")
    status, said = await anyio.to_thread.run_sync(check.run, "--json")
    found = json.loads(said)
    (wrong,) = [finding for finding in found["findings"] if finding["level"] == "wrong"]
    assert (status, found["wrong"], found["warning"]) == (1, 1, 0)
    assert wrong == {
        "level": "wrong",
        "about": f"stream {declared.namespace}:logs:lost",
        "expected": "to be there",
        "got": "none, so that publishing fails",
        "do": "make it: transfer update lost",
    }


def test_wrong_settings_are_all_said_and_the_status_is_2(check: Check) -> None:
    check.environ |= {"NAMESPACE": "", "DATABASE": planted("database"), "COLLECTOR_WRITES": "0"}
    status, said = check.run()
    assert status == 2
    assert [line.split(":")[0] for line in said.splitlines()[:-1]] == [
        "wrong    NAMESPACE",
        "wrong    DATABASE",
        "wrong    COLLECTOR_WRITES",
    ]
    assert planted("") not in said


# NATS


async def test_nats_that_is_away(check: Check, own_nats: Callable[..., NatsServer]) -> None:
    server = await anyio.to_thread.run_sync(own_nats)
    check.environ["NATS_HOSTS"] = server.url
    server.kill()
    (line,) = await check.troubles()
    assert matches(line, "wrong", "NATS", server.url, "Connect call failed")


async def test_a_wrong_password_for_nats(check: Check, own_nats: Callable[..., NatsServer]) -> None:
    config = "authorization { user: u, password: right }"
    check.environ["NATS_HOSTS"] = (await anyio.to_thread.run_sync(own_nats, config)).url
    check.environ |= {"NATS_USER": "u", "NATS_PASSWORD": planted("password")}
    (line,) = await check.troubles()
    assert matches(line, "wrong", "NATS", "to let us in", "Authorization Violation")
    assert planted("") not in line


async def test_tls_that_only_one_side_wants(check: Check, own_nats: Callable[..., NatsServer], pki: Authority) -> None:
    secure = await anyio.to_thread.run_sync(own_nats, tls_config(pki, verify=False))
    check.environ["NATS_HOSTS"] = secure.url
    (line,) = await check.troubles()
    assert matches(line, "wrong", "NATS", "certificate verify failed")
    check.environ |= {"NATS_HOSTS": (await anyio.to_thread.run_sync(own_nats)).url, "NATS_TLS_CA": pki.path("ca.pem")}
    (line,) = await check.troubles()
    assert matches(line, "wrong", "NATS", "to let us in", "TLS was asked for")
    check.environ["NATS_HOSTS"] = secure.url
    assert await check.troubles() == []


async def test_no_jetstream(check: Check, own_nats: Callable[..., NatsServer]) -> None:
    config = "accounts { A { users: [ { user: u, password: right } ] } }"
    check.environ["NATS_HOSTS"] = (await anyio.to_thread.run_sync(own_nats, config)).url
    check.environ |= {"NATS_USER": "u", "NATS_PASSWORD": "right"}
    (line,) = await check.troubles()
    assert matches(line, "wrong", "JetStream", "expected an answer", "jetstream: enabled")


@pytest.fixture(scope="module")
def guarded_nats() -> Iterator[NatsServer]:
    """Give a nats-server with the page's user `u0`, and one more for each permission, who lacks it."""
    with TemporaryDirectory(prefix="nats-") as folder:
        users = [
            f"{{ user: u{number}, password: right, permissions: {permissions('collector', 'Space', without=less)} }}"
            for number, less in enumerate([None, *subjects("collector")])
        ]
        config = f"accounts {{ A {{ jetstream: enabled, users: [\n{chr(10).join(users)}\n] }} }}"
        with NatsServer(Path(folder), config=config) as server:
            yield server


async def test_with_the_documented_permissions_all_is_well_and_with_one_less_it_is_named(
    check: Check, guarded_nats: NatsServer
) -> None:
    check.environ |= {"NATS_HOSTS": guarded_nats.url, "NAMESPACE": "Space", "NATS_PASSWORD": "right"}
    check.environ["NATS_USER"] = "u0"
    assert await check.troubles() == []
    for number, (action, subject) in enumerate(subjects("collector"), 1):
        check.environ["NATS_USER"] = f"u{number}"
        lines = await check.troubles()
        assert len(lines) == 1, (subject, lines)
        sentence = f"NATS does not permit us to {action} to {subject} ->"
        assert matches(lines[0], "wrong", "NATS permissions", sentence.replace("NAMESPACE", "Space")), lines


async def test_a_durable_that_gives_up_and_one_that_is_too_small_for_the_replicas(
    check: Check, declared: Ancestor
) -> None:
    name = f"{declared.namespace}:logs:system"
    config = ConsumerConfig(
        durable_name=name, ack_policy=AckPolicy.EXPLICIT, max_deliver=5, max_ack_pending=10_000, ack_wait=30
    )
    await declared.jetstream.add_consumer(name, config)
    gives_up, small = await check.troubles()
    assert matches(
        gives_up, "warning", f"durable {name}", "expected max_deliver -1, got 5", "a running replica sets it"
    )
    assert matches(small, "warning", f"durable {name}", "max_ack_pending at least 100000, got 10000")
    plan = (await check.troubles(replicas=17))[0]
    assert matches(plan, "wrong", "settings", "got 102000", "at most 16 replicas")


async def test_another_consumer_in_the_way_and_a_push_durable_in_use(check: Check, declared: Ancestor) -> None:
    await declared.declare("old")
    name, old = (f"{declared.namespace}:logs:{key}" for key in ("system", "old"))
    await declared.jetstream.add_consumer(name, ConsumerConfig(durable_name="other", ack_policy=AckPolicy.EXPLICIT))
    push = ConsumerConfig(durable_name=old, deliver_subject="push", ack_policy=AckPolicy.EXPLICIT)
    await declared.jetstream.add_consumer(old, push)
    unused, other = await check.troubles()
    assert matches(other, "wrong", f"durable {name}", "no other than the durable", f"nats consumer ls {name}")
    assert matches(unused, "warning", f"durable {old}", "deliver_subject not set", "what is not acked stays")
    bound = await declared.connection.subscribe("push")
    await declared.connection.flush()
    in_use, _ = await check.troubles()
    assert matches(in_use, "wrong", f"durable {old}", "stop the Go collector")
    await bound.unsubscribe()


async def test_streams_that_lose_or_are_somebody_elses(check: Check, declared: Ancestor) -> None:
    name = f"{declared.namespace}:logs:system"
    config = StreamConfig(
        name=name,
        subjects=[f"{declared.namespace}.logs.system"],
        max_age=60,
        max_bytes=1_000_000,
        discard=DiscardPolicy.OLD,
    )
    await declared.jetstream.update_stream(config.evolve(retention="workqueue"))
    await declared.put("theirs")
    await declared.jetstream.add_stream(name=f"{declared.namespace}:logs:theirs", subjects=["theirs"])
    age, full, retention, subjects = await check.troubles()
    assert matches(age, "warning", f"stream {name}", "max_age not set, got 60 s", f"nats stream edit {name}")
    assert matches(full, "warning", f"stream {name}", "max_bytes not set, or discard new, got 1000000")
    theirs = f"{declared.namespace}:logs:theirs"
    assert matches(retention, "wrong", f"stream {theirs}", "retention workqueue, got limits", "docs/runbooks.md")
    assert matches(subjects, "wrong", f"stream {theirs}", f"subjects {declared.namespace}.logs.theirs, got theirs")


async def test_a_declaration_that_cannot_be_read(check: Check, declared: Ancestor) -> None:
    await declared.put("bad", b"\xc1")
    (line,) = await check.troubles()
    assert matches(line, "wrong", "logger bad", "a logger spec", "transfer set bad --replace")


# MongoDB


async def test_mongodb_that_is_away(check: Check, own_mongod: Callable[[], Mongod]) -> None:
    server = await anyio.to_thread.run_sync(own_mongod)
    check.environ["DATABASE"] = server.url
    server.kill()
    (line,) = await check.troubles()
    assert matches(line, "wrong", "MongoDB", "Connection refused")


class Standalone(Mongod):
    """One that is no replica set."""

    def _command(self) -> list[str]:
        return [part for part in super()._command() if not part.startswith(("--replSet", "--oplogSize"))]

    def _answers(self) -> bool:
        try:
            with MongoClient[dict[str, Any]]("127.0.0.1", self.port, serverSelectionTimeoutMS=1000) as client:
                return bool(client.admin.command("hello")["isWritablePrimary"])
        except PyMongoError:
            return False


@contextmanager
def standalone() -> Iterator[Standalone]:
    with TemporaryDirectory(prefix="mongod-") as folder, Standalone(Path(folder)) as server:
        yield server
        server.kill()


async def test_a_mongod_that_is_no_replica_set_and_one_of_another_set(check: Check, mongod: Mongod) -> None:
    with standalone() as alone:
        for uri in (alone.url, alone.url.partition("?")[0]):
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
