"""Where entries go, for all loggers and for one, with MongoDB and without: chosen, changed meanwhile, and counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread

from tests.support.ancestor import Ancestor, entry
from tests.support.outlets import lines_of, numbers, replicas_without_mongodb
from tests.support.waiting import count, state, until, until_empty
from transfer.wire import LoggerSpec, encode_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pymongo.database import Database

    from collector.local import NatsServer, Replica
    from transfer.wire import DestinationName

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def start(nats_server: NatsServer, namespace: str) -> Iterator[Callable[..., Replica]]:
    with replicas_without_mongodb(nats_server, namespace) as start:
        yield start


async def declared(go: Ancestor, *keys: str) -> None:
    await go.jetstream.create_key_value(bucket=f"{go.namespace}_logs")
    await go.declare(*keys)


async def send_to(go: Ancestor, key: str, destination: DestinationName) -> None:
    await go.put(key, encode_spec(LoggerSpec(key, destination=destination)))


async def test_one_logger_goes_elsewhere_and_back_while_entries_flow_and_each_arrives_once(
    go: Ancestor, start_replica: Callable[..., Replica], tmp_path: Path, database: Database[dict[str, Any]]
) -> None:
    await declared(go, "a", "b")
    replica = start_replica(COLLECTOR_FILES=str(tmp_path))
    published = 0
    places: dict[DestinationName, Callable[[], int]] = {
        "file": lambda: len(lines_of(tmp_path, "a")),
        "mongodb": lambda: count(database, "a"),
    }
    for destination, place in [*places.items(), *places.items()]:
        before = place()
        await send_to(go, "a", destination)
        while place() == before:
            assert published < 50_000
            published += await go.publish("a", [entry(published + number) for number in range(500)])
    await go.publish("b", [entry(number) for number in range(100)])
    for key in ("a", "b"):
        await until_empty(go.jetstream, f"{go.namespace}:logs:{key}", 20)
    in_files = numbers(lines_of(tmp_path, "a"))
    stored = sorted(found["number"] for found in database.a_logs.find())
    assert sorted(in_files + stored) == list(range(published))
    assert count(database, "b") == 100
    assert replica.status["connected"] == {"nats": True, "mongodb": True}


async def test_a_logger_for_mongodb_is_misconfigured_where_there_is_none_and_harms_no_other(
    go: Ancestor, start: Callable[..., Replica], tmp_path: Path
) -> None:
    await declared(go, "a", "b")
    await send_to(go, "a", "mongodb")
    replica = start(COLLECTOR_SINK=f"file:{tmp_path}")
    await until(lambda: state(replica, "a") == "misconfigured", 5)
    assert "DATABASE" in replica.status["loggers"]["a"]["why"]
    await go.publish("a", [entry(number) for number in range(10)])
    await go.publish("b", [entry(number) for number in range(10)])
    await until_empty(go.jetstream, f"{go.namespace}:logs:b")
    await send_to(go, "a", "file")
    await until_empty(go.jetstream, f"{go.namespace}:logs:a")
    assert numbers(lines_of(tmp_path, "a")) == numbers(lines_of(tmp_path, "b")) == list(range(10))


async def test_what_goes_into_the_black_hole_is_counted(
    go: Ancestor, start: Callable[..., Replica], tmp_path: Path
) -> None:
    await declared(go, "a")
    replica = start(COLLECTOR_SINK="blackhole", COLLECTOR_FILES=str(tmp_path))
    await go.publish("a", [*(entry(number) for number in range(500)), b"\xc1 poison"])
    await until_empty(go.jetstream, f"{go.namespace}:logs:a")
    await until(lambda: replica.metric("collector_written_entries_total") == 500, 5)
    assert replica.metric("collector_dead_lettered_entries_total") == 1
    assert len(list((tmp_path / "dead-letters" / "a").glob("*.json"))) == 1


class Command:
    """`collector dead-letters` without MongoDB."""

    def __init__(self, namespace: str, nats: NatsServer, folder: Path) -> None:
        ours = ("COLLECTOR_", "NATS_", "DATABASE", "NAMESPACE", "MODE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        given = {"NAMESPACE": namespace, "NATS_HOSTS": nats.url, "COLLECTOR_SINK": f"file:{folder}"}
        self.environment = {**inherited, **given}

    async def run(self, *arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "collector", *arguments]
        done = await to_thread.run_sync(
            lambda: subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        )
        return done.returncode, done.stdout + done.stderr


async def test_the_commands_of_dead_letters_work_on_files(
    go: Ancestor, start: Callable[..., Replica], nats_server: NatsServer, tmp_path: Path
) -> None:
    await declared(go, "a")
    command = Command(go.namespace, nats_server, tmp_path)
    replica = start(COLLECTOR_SINK=f"file:{tmp_path}")
    await go.publish("a", [entry(1), b"\xc1 poison", entry(2)], {"X-Source": "test"})
    await until_empty(go.jetstream, f"{go.namespace}:logs:a")
    assert numbers(lines_of(tmp_path, "a")) == [1, 2]
    status, said = await command.run("dead-letters", "list", "a", "--json")
    listed = json.loads(said)
    assert (status, listed["reason"], listed["attempt"], listed["sequence"]) == (0, "malformed", 1, 2)
    status, said = await command.run("dead-letters", "show", "a", listed["id"], "--json")
    assert (status, json.loads(said)["headers"]) == (0, [["X-Source", "test"]])
    assert await command.run("dead-letters", "redrive", "a") == (0, "redriven: 1, left: 0\n")
    await until(lambda: replica.metric("collector_dead_lettered_entries_total") == 2, 5)
    _, said = await command.run("dead-letters", "list", "a", "--json")
    assert (json.loads(said)["id"], json.loads(said)["attempt"]) == (listed["id"], 2)
    assert await command.run("dead-letters", "purge", "a", "--yes") == (0, "purged: 1\n")
    assert await command.run("dead-letters", "list", "a") == (0, "no dead letters of a\n")
    status, said = await command.run("dead-letters", "list", "nobody")
    assert status == 1
    assert str(tmp_path) in said


async def test_the_check_looks_at_the_folder_and_asks_no_mongodb(
    go: Ancestor, nats_server: NatsServer, tmp_path: Path
) -> None:
    await declared(go, "a", "b")
    await send_to(go, "b", "mongodb")
    status, said = await Command(go.namespace, nats_server, tmp_path).run("check", "--json")
    findings = json.loads(said)["findings"]
    assert status == 1
    assert [one["about"] for one in findings if one["level"] == "wrong"] == ["logger b"]
    assert [one["got"] for one in findings if one["about"] == f"folder {tmp_path}"] == ["can be written"]
    (tmp_path / "file").write_text("")
    _, said = await Command(go.namespace, nats_server, tmp_path / "file").run("check", "--json")
    assert f"folder {tmp_path / 'file'}" in [
        one["about"] for one in json.loads(said)["findings"] if one["level"] == "wrong"
    ]
