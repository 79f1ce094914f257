"""What a real replica writes in release mode: JSON of one form, from the first line to the last, whatever happens."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING, Any

import pytest
from anyio import to_thread

from collector.local.server import http_get
from tests.support.ancestor import Ancestor, entry
from tests.support.waiting import count, state, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer, Replica

pytestmark = pytest.mark.timeout(200)


def lines(text: str) -> list[dict[str, Any]]:
    """Read the lines of a log; all of them have the same three fields."""
    read: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in read)
    return read


async def test_every_line_of_a_replica_in_an_outage_is_json_and_the_last_one_says_how_it_ended(
    start_replica: Callable[..., Replica],
    own_mongod: Callable[[], Mongod],
    own_nats: Callable[..., NatsServer],
    go: Ancestor,
    nats_server: NatsServer,
) -> None:
    mongod = await to_thread.run_sync(own_mongod)
    replica = start_replica(mongo=mongod, COLLECTOR_WRITE_TIMEOUT="1s", PYTHONWARNINGS="always")
    await go.declare("a", "b")
    await go.put("parked", b"\xc1")
    await until(lambda: state(replica, "a") == "running", 20)
    mongod.pause()
    await go.publish("a", [entry(1), b"\xc1 is no msgpack"])
    await until(lambda: state(replica, "a") == "failing", 40)
    mongod.resume()
    await until(lambda: state(replica, "a") == "running", 40)
    replica.terminate()
    assert await to_thread.run_sync(replica.wait) == 0
    said = lines(replica.log_path.read_text())
    assert [line["event"] for line in (said[0], said[-1])] == ["starting", "stopped"]
    assert (said[-1]["written"], said[-1]["dead_lettered"]) == (1, 1)
    states = [line["state"] for line in said if line["event"] == "logger" and line["logger"] == "a"]
    assert states[:4] == ["running", "failing", "running", "draining"]


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "not read"])
async def test_a_replica_whose_log_nobody_takes_any_more_goes_on_and_counts_the_lines(
    closed: bool,
    go: Ancestor,
    database: Database[dict[str, Any]],
    namespace: str,
    nats_server: NatsServer,
    mongod: Mongod,
) -> None:
    settings = {"NAMESPACE": namespace, "NATS_HOSTS": nats_server.url, "DATABASE": mongod.url, "MODE": "debug"}
    words = [sys.executable, "-m", "collector", "run"]
    environment = {**clean_environment(), **settings, "COLLECTOR_HTTP": "127.0.0.1:0", "NO_COLOR": "1"}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, bufsize=0) as process:  # noqa: ASYNC220 - at once
        assert process.stderr is not None
        try:
            address = await to_thread.run_sync(listening, process.stderr)
            if closed:
                process.stderr.close()
            else:
                fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)  # so that it is full soon
            await until(lambda: http_get(address, "/readyz")[0] == 200, 20)
            await go.declare("a")
            for number in range(100):  # a line for each
                await go.publish("a", [entry(number)])
            await until(lambda: count(database, "a") == 100, 20)
            assert http_get(address, "/livez")[0] == 200
            if closed:
                await until(lambda: "log_lost_lines_total" in nonzero(http_get(address, "/metrics")[1]), 20)
            process.terminate()
            if not closed:
                process.stderr.close()
            assert await to_thread.run_sync(lambda: process.wait(60)) == 0
        finally:
            process.kill()


def listening(log: IO[bytes]) -> int:
    """Return the port that the log names."""
    for line in log:
        if found := re.search(rb"http://127.0.0.1:(\d+)", line):
            return int(found[1])
    raise ValueError("expected the log to say where the replica listens, but it ended")


def nonzero(metrics: str) -> str:
    """Return the lines of what has happened."""
    return "\n".join(line for line in metrics.splitlines() if not line.endswith(" 0.0") and not line.startswith("#"))


def clean_environment() -> dict[str, str]:
    """Return what is inherited and none of a replica's own."""
    ours = ("COLLECTOR_", "NATS_", "DATABASE", "NAMESPACE", "MODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.mark.parametrize(
    ("settings", "status", "event"),
    [
        ({}, 2, "wrong settings"),
        ({"NAMESPACE": "a b", "NATS_HOSTS": "?", "DATABASE": "nothing"}, 2, "wrong settings"),
        ({"COLLECTOR_HTTP": "203.0.113.1:1"}, 1, "ended"),
    ],
)
def test_a_replica_that_cannot_start_says_so_in_json_too(
    settings: dict[str, str], status: int, event: str, nats_server: NatsServer, mongod: Mongod, tmp_path: Path
) -> None:
    right = {"NAMESPACE": "beta", "NATS_HOSTS": nats_server.url, "DATABASE": mongod.url}
    given = {**(right if "COLLECTOR_HTTP" in settings else {}), **settings, "MODE": "release"}
    words = [sys.executable, "-m", "collector", "run"]
    ran = subprocess.run(
        words,
        env={**clean_environment(), **given},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == status
    said = lines(ran.stderr)
    assert (said[-1]["event"], said[-1]["level"]) == (event, "error")
    assert ran.stdout == ""


async def test_a_second_signal_ends_it_with_a_line_of_the_same_form(
    start_replica: Callable[..., Replica], own_mongod: Callable[[], Mongod], go: Ancestor
) -> None:
    mongod = await to_thread.run_sync(own_mongod)
    replica = start_replica(mongo=mongod, COLLECTOR_WRITE_TIMEOUT="20s")
    await go.declare("a")
    await until(lambda: state(replica, "a") == "running", 20)
    mongod.pause()
    await go.publish("a", [entry(1)])
    await until(lambda: replica.metric("collector_writes_in_progress") > 0, 20)
    replica.terminate()
    await until(lambda: "stopping" in replica.log_path.read_text(), 20)
    os.kill(replica.pid, signal.SIGTERM)
    mongod.resume()
    assert await to_thread.run_sync(replica.wait) == 1
    assert lines(replica.log_path.read_text())[-1]["event"] in {"ended", "stopped"}
