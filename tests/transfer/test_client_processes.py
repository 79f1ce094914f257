"""Applications as processes of their own that log through the client: what it costs them, what becomes of it all."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from anyio import create_task_group, to_thread

from tests.chaos.proxy import Proxy
from tests.support.waiting import until, until_empty
from transfer import BlockingTransfer, Logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pymongo.database import Database

    from collector.local import NatsServer, Replica
    from tests.support.ancestor import Ancestor

HERE = Path(__file__).parent / "clients"
RECORDS = int(os.environ.get("COLLECTOR_TEST_RECORDS", "100000"))
ENDINGS = int(os.environ.get("COLLECTOR_TEST_ENDINGS", "24"))
MIB = 1024 * 1024
SLOWER = 8
"""Times that a call may take what one to the standard library's `QueueHandler` takes: it maps and encodes too."""
_UNCONFIRMED = re.compile(r"transfer: (\d+) entries were not confirmed")


def run(program: str, *arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run an application of this folder."""
    command = [sys.executable, str(HERE / f"{program}.py"), *map(str, arguments)]
    environ = os.environ | {"PYTHONPATH": str(HERE.parents[2])}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=timeout)


def declare(server: NatsServer, namespace: str) -> None:
    with BlockingTransfer.connect(server.url, namespace=namespace) as transfer:
        transfer.set(Logger("app"))


@pytest.fixture
async def url(request: pytest.FixtureRequest, own_nats: Callable[..., NatsServer]) -> AsyncIterator[str]:
    """Give the address of a NATS that is away, hangs, or is slow."""
    server = own_nats()
    declare(server, "clients")
    async with create_task_group() as group:
        proxy = Proxy(server.port)
        await group.start(proxy.serve)
        if request.param == "stopped":
            server.stop()
        elif request.param == "hanging":
            server.pause()
        else:
            proxy.slow(2_000)
        yield f"nats://127.0.0.1:{proxy.port}"
        if request.param == "hanging":
            server.resume()
        group.cancel_scope.cancel()


@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["send", "log"])
@pytest.mark.parametrize("url", ["stopped", "hanging", "slow"], indirect=True)
async def test_whatever_nats_does_the_caller_is_not_held_up(url: str, way: str) -> None:
    done = await to_thread.run_sync(lambda: run("caller", url, "clients", way, RECORDS, timeout=110))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    print(way, said)  # noqa: T201 - figures
    assert said["median"] < SLOWER * said["baseline"]["median"]
    assert said["p99.9"] < SLOWER * said["baseline"]["p99.9"]
    assert said["queued"] + said["published"] + sum(said["dropped"].values()) == RECORDS
    assert said["queued_bytes"] <= 16 * MIB
    assert said["peak"] < 200 * MIB, "the standard library's queue has all of its records in it"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("way", ["os", "fork", "spawn"])
async def test_parent_and_children_that_fork_while_they_log_have_each_entry_stored_once(
    start_replica: Callable[..., Replica],
    nats_server: NatsServer,
    namespace: str,
    database: Database[dict[str, Any]],
    way: str,
) -> None:
    start_replica()
    await to_thread.run_sync(declare, nats_server, namespace)
    done = await to_thread.run_sync(run, "forking", nats_server.url, namespace, way)
    assert (done.returncode, done.stderr) == (0, "")
    await until(lambda: database["app_logs"].count_documents({}) >= 2500, 20)
    found = Counter(document["number"] for document in database["app_logs"].find({}))
    assert found == Counter(range(2500))


@pytest.mark.timeout(60 + 2 * ENDINGS)
async def test_at_whatever_moment_an_application_ends_all_is_stored_once_or_said_to_be_lost(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    nats_server: NatsServer,
    namespace: str,
    database: Database[dict[str, Any]],
) -> None:
    start_replica()
    await to_thread.run_sync(declare, nats_server, namespace)
    sent, lost = Counter[int](), Counter[int]()
    for number in range(ENDINGS):
        done = await to_thread.run_sync(run, "ending", nats_server.url, namespace, number)
        assert done.returncode == {0: 3, 1: 1}.get(number % 4, 0), done.stderr
        sent[number] = int(done.stdout)
        lost[number] = sum(map(int, _UNCONFIRMED.findall(done.stderr)))
    await until_empty(go.jetstream, f"{namespace}:logs:app", 30)
    found = Counter((document["run"], document["number"]) for document in database["app_logs"].find({}))
    assert set(found.values()) <= {1}
    stored = Counter(number for number, _ in found)
    for number in range(ENDINGS):
        assert sent[number] - lost[number] <= stored[number] <= sent[number]
    assert sent.total() > 0
    assert lost.total() == 0, "NATS was there all the time"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
async def test_children_of_a_fork_that_python_is_not_told_of_send_their_own_under_ids_of_their_own(
    start_replica: Callable[..., Replica], nats_server: NatsServer, namespace: str, database: Database[dict[str, Any]]
) -> None:
    start_replica()
    await to_thread.run_sync(declare, nats_server, namespace)
    done = await to_thread.run_sync(run, "raw_fork", nats_server.url, namespace)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(set(done.stdout.split())) == 5, "the same random part of identities in two processes"
    await until(lambda: database["app_logs"].count_documents({}) >= 500, 20)
    found = Counter(document["number"] for document in database["app_logs"].find({}))
    assert found == Counter(range(500))


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("later", 21),
        ("first", 20),
        ("no thread", 21),
        ("closed, no thread", 21),
        ("registered later, no thread", 22),
    ],
)
def test_what_is_logged_by_the_last_functions_of_a_process_is_sent(
    nats_server: NatsServer, namespace: str, way: str, expected: int
) -> None:
    declare(nats_server, namespace)
    done = run("late", nats_server.url.replace("127.0.0.1", "localhost"), namespace, way, 20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with BlockingTransfer.connect(nats_server.url, namespace=namespace) as transfer:
        stream = transfer.get("app").stream
    assert stream is not None
    assert stream.messages == expected


@pytest.mark.parametrize("way", ["later", "first", "no thread"])
def test_late_entries_hold_up_the_end_for_a_while_only_and_are_said_when_they_are_lost(way: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        idle = run("late", url, "beta", way, 0)
        alone = time.monotonic() - started
        done = run("late", url, "beta", way, 50)
        took = time.monotonic() - started - alone
    assert (idle.returncode, done.returncode) == (0, 0)
    assert took < alone + 20, "fifty entries wait no longer than one"
    lines = [line for line in done.stderr.splitlines() if line.startswith("transfer: ")]
    assert [line for line in lines if "closed" in line or "not confirmed" in line], done.stderr
    assert len(lines) <= 2
    assert all("namespace 'beta'" in line for line in lines)
