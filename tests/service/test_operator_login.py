"""The operator's logins of `docs/security.md`: with them every command of runbooks and operations works as written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio
import nats
import pytest
from bson import ObjectId
from pymongo import MongoClient

from collector.local import NatsServer, Replica
from tests.support.ancestor import ancestor, entry
from tests.support.guarded import AsUser, guarded_mongod
from tests.support.security_page import mongodb_role, permissions
from tests.support.waiting import until
from transfer.errors import JetStreamError, Refused
from transfer.jetstream.api import api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pymongo.database import Database

pytestmark = pytest.mark.timeout(300)
DOCS = Path(__file__).parents[2] / "docs"
PAGES = [(DOCS / name).read_text() for name in ("runbooks.md", "operations.md")]
NAMESPACE = "Operated"
POISON = b"\xc1 is no msgpack"
REFUSED = re.compile(
    r"permit|may not|not authorized|Unauthorized|Permissions Violation|does not let us in", re.IGNORECASE
)
ELSEWHERE = (
    *("collector run", "collector check", "collector status", "collector demo", "collector local"),
    "collector archive",
)
"""Those that need no login, or that of a replica, or that of a store."""
FILLED_IN = {"--max-age …": "--max-age 7d", "--max-bytes …": "--max-bytes 1GiB", "--replicas 3": "--replicas 1"}

NATS = {
    "nats stream report": ["STREAM.LIST", "INFO"],
    "nats stream info": ["STREAM.INFO.{stream}", "STREAM.NAMES"],
    "nats stream purge": ["STREAM.PURGE.{stream}"],
    "nats stream ls": ["STREAM.LIST"],
    "nats consumer info": ["CONSUMER.INFO.{stream}.{stream}", "CONSUMER.NAMES.{stream}", "CONSUMER.LIST.{stream}"],
    "nats consumer rm": ["CONSUMER.DELETE.{stream}.{stream}"],
    "nats consumer resume": ["CONSUMER.PAUSE.{stream}.{stream}"],
    "nats consumer edit": ["CONSUMER.CREATE.{stream}.{stream}"],
    "nats stream edit": ["STREAM.UPDATE.{stream}"],
    "nats stream add": ["STREAM.CREATE.{stream}"],
    "nats stream rm": ["STREAM.DELETE.{stream}"],
    "nats account info": ["INFO"],
    "nats kv add": ["STREAM.CREATE.{bucket}"],
    "nats kv ls": ["STREAM.LIST"],
    "nats kv del": ["STREAM.INFO.{bucket}"],
}
"""What each command of the NATS CLI that the pages name asks of JetStream."""
NATS_ELSEWHERE = ("nats server", "nats pub")
"""With the system account, and by applications."""
MONGOSH: dict[str, Callable[[Database[dict[str, Any]]], object]] = {
    "db.hello()": lambda database: database.command("hello"),
    "db.currentOp(": lambda database: database.client.admin.command("currentOp", active=True),
    "rs.status()": lambda database: database.client.admin.command("replSetGetStatus"),
    "db.getSiblingDB(": lambda database: list(database["orders0_logs"].find().sort({"_id": -1}).limit(5)),
}
"""What each snippet for mongosh that the pages name does, by its beginning."""


def code() -> list[str]:
    """Return every line of code of the pages: fenced, without its comment, and between backticks."""
    fenced = [
        line
        for page in PAGES
        for block in re.findall(r"^ *```\w*\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    inline = [found for page in PAGES for found in re.findall(r"`([^`\n]+)`", page)]
    return [line.split(" #")[0].strip() for line in [*fenced, *inline]]


def commands(*programs: str) -> list[str]:
    """Return the commands of these programs, each once."""
    return list(dict.fromkeys(line for line in code() if line.startswith(programs)))


OURS = [line for line in commands("transfer ", "collector ") if not line.startswith(ELSEWHERE)]
OURS = [line for line in OURS if len(line.split()) > 2 or line == "transfer list"]
"""Without those that are only named."""


class Scene:
    """A namespace that a replica serves, as its operator reaches it."""

    def __init__(self, server: NatsServer, mongod: AsUser, database: Database[dict[str, Any]]) -> None:
        self.server, self.mongod, self.database = server, mongod, database

    async def run(self, line: str) -> str:
        """Run a command with the operator's logins; return what it said, after it has succeeded."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "COLLECTOR_"))}
        environ |= {"NAMESPACE": NAMESPACE, "NATS_HOSTS": self.server.url, "DATABASE": self.mongod.url}
        environ |= {"NATS_USER": "operator", "NATS_PASSWORD": "right"}
        module, *arguments = shlex.split(line)

        def run() -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", module, *arguments]
            return subprocess.run(
                command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=90
            )

        ended = await anyio.to_thread.run_sync(run)
        said = ended.stdout + ended.stderr
        assert not REFUSED.search(said), f"{line}: {said}"
        assert ended.returncode == 0, f"{line}: {said}"
        return said


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    config = f"""accounts {{ A {{ jetstream: enabled, users: [
        {{ user: root, password: right }}
        {{ user: operator, password: right, permissions: {permissions("operator", NAMESPACE)} }}
    ] }} }}"""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="nats-")))
        server = stack.enter_context(NatsServer(folder, config=config))
        mongod = stack.enter_context(guarded_mongod())
        root = stack.enter_context(MongoClient[dict[str, Any]](AsUser(mongod, "root", "admin").url))
        database = root[NAMESPACE]
        database.command(mongodb_role("operator role", NAMESPACE))
        roles = ["operator", {"role": "clusterMonitor", "db": "admin"}]
        database.command({"createUser": "operator", "pwd": "right", "roles": roles})
        settings = {"NATS_USER": "root", "NATS_PASSWORD": "right", "DATABASE": AsUser(mongod, "root", "admin").url}
        replica = Replica(
            Path(stack.enter_context(TemporaryDirectory(prefix="replica-"))), NAMESPACE, server, mongod, settings
        )
        await anyio.to_thread.run_sync(stack.enter_context, replica)
        yield Scene(server, AsUser(mongod, "operator", NAMESPACE), database)


async def letter(scene: Scene, key: str) -> ObjectId:
    """Give a logger an entry and a dead letter; return the letter's id."""
    async with ancestor(scene.server.url.replace("//", "//root:right@"), NAMESPACE) as others:
        await others.declare(key)
        await others.publish(key, [entry(1), POISON])
        await until(lambda: scene.database[f"{key}_fail"].count_documents({}) == 1, 20)
        await until(lambda: scene.database[f"{key}_logs"].count_documents({}) == 1, 20)
    found = scene.database[f"{key}_fail"].find_one()
    assert found
    return ObjectId(found["_id"])


async def test_every_command_of_ours_works_as_written(scene: Scene) -> None:
    assert len(OURS) >= 10
    for number, line in enumerate(OURS):
        key = f"orders{number}"
        identity = await letter(scene, key)
        for text, filled in FILLED_IN.items():
            line = line.replace(text, filled)  # noqa: PLW2901 - filled in step by step
        line = re.sub(r"\b(LOGGER|orders|system)\b", key, line).replace(" ID", f" {identity}")  # noqa: PLW2901 - as above
        if line.startswith("transfer set ") and "--replace" not in line:
            line = f"{line} --replace"  # noqa: PLW2901 - the logger is there
        if "purge" in line:
            line = f"{line} --yes"  # noqa: PLW2901 - nobody is there to be asked
        await scene.run(line)


async def test_every_command_of_the_nats_cli_may_ask_what_it_asks(scene: Scene) -> None:
    named = {" ".join(line.split()[:3]) for line in commands("nats ") if not line.startswith(NATS_ELSEWHERE)}
    assert named <= set(NATS), f"say in NATS what these ask: {named - set(NATS)}"
    await letter(scene, "orders0")
    names = {"stream": f"{NAMESPACE}:logs:orders0", "bucket": f"KV_{NAMESPACE}_logs"}
    login = {"user": "operator", "password": "right", "inbox_prefix": "_INBOX.operator"}
    async with await nats.connect(scene.server.url, **login) as connection:
        for command in sorted(named):
            for asked in NATS[command]:
                try:
                    await api(connection, f"$JS.API.{asked.format(**names)}", b"", 10)
                except Refused as refused:
                    pytest.fail(f"{command}: {refused}")
                except JetStreamError:
                    continue  # an empty request is wrong, and permitted


async def test_every_snippet_for_mongosh_may_do_what_it_does(scene: Scene) -> None:
    evaluated = [re.search(r"--eval '(.+)'", line) for line in commands("mongosh ")]
    snippets = [found[1] for found in evaluated if found] + [
        line for line in code() if line.startswith(("rs.", "db.hello"))
    ]
    assert snippets
    with MongoClient[dict[str, Any]](scene.mongod.url) as client:
        for snippet in snippets:
            does = [do for beginning, do in MONGOSH.items() if snippet.startswith(beginning)]
            assert does, f"say in MONGOSH what this does: {snippet}"
            does[0](client[NAMESPACE])


async def test_the_last_entries_can_be_followed(scene: Scene) -> None:
    await letter(scene, "orders0")
    said = await scene.run("transfer tail orders0 --lines 1")
    assert "number" in said
