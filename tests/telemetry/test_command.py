"""`collector status` against a real replica."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.support.ancestor import Ancestor, entry
from tests.support.waiting import state, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.local import Replica

pytestmark = pytest.mark.timeout(180)
COMMAND = [sys.executable, "-m", "collector", "status"]
HOME = b"\x1b[H"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=30)


async def test_in_a_pipe_it_prints_the_table_or_the_json_once(
    start_replica: Callable[..., Replica], go: Ancestor
) -> None:
    replica = await anyio.to_thread.run_sync(start_replica)
    await go.declare("system")
    await until(lambda: state(replica, "system") == "running", 10)
    await go.publish("system", [entry(number) for number in range(10)])
    await until(lambda: replica.status["loggers"]["system"]["written"] == 10, 10)
    ended = await anyio.to_thread.run_sync(run, "--url", replica.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"{go.namespace}: ready" in ended.stdout
    assert "10 received, 10 written" in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("system  running")
    ended = await anyio.to_thread.run_sync(run, "--json", "--url", f"{replica.url}/")
    assert json.loads(ended.stdout)["loggers"]["system"]["written"] == 10


def test_on_a_terminal_it_refreshes_until_ctrl_c(start_replica: Callable[..., Replica]) -> None:
    ours, theirs = pty.openpty()
    shown, deadline = b"", time.monotonic() + 20
    with subprocess.Popen([*COMMAND, "--url", start_replica().url], stdout=theirs, stderr=theirs) as watching:
        os.close(theirs)
        try:
            while shown.count(HOME) < 2 and select.select([ours], [], [], deadline - time.monotonic())[0]:
                shown += os.read(ours, 65536)
            watching.send_signal(signal.SIGINT)
            assert watching.wait(20) == 0
        finally:
            watching.kill()
            os.close(ours)
    assert shown.count(HOME) == 2
    assert b"LOGGER" in shown


STRANGERS = {
    "no HTTP": b"220 mail.example.com ESMTP\r\n",
    "nats-server": b'INFO {"server_id":"x"}\r\n',
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    "no JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html",
    "no UTF-8": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\xfd\xfc",
    "a list": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "another service": b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"ok":true}',
    "a redirect to nowhere": b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    "404": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    "a long status line": b"HTTP/1.1 200 " + b"x" * 100_000,
}


@pytest.mark.parametrize("answer", STRANGERS.values(), ids=STRANGERS)
def test_whatever_answers_at_the_url_that_is_no_replica_is_said_in_one_line(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(answer)

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        ended = run("--url", url)
        serving.join(10)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"collector: expected a replica's status from {url}, got ")
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("url", "status", "why"),
    [("http://127.0.0.1:1", 1, "Connection refused"), ("file:///etc/passwd", 2, "expected http://host:port")],
)
def test_without_an_answer_it_says_why_and_fails(url: str, status: int, why: str) -> None:
    ended = run("--url", url)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert why in ended.stderr
