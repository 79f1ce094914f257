"""The client where threads are greenlets, and where workers are forked in C: real gunicorn, eventlet and uWSGI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread

from collector.local.server import free_port, http_get
from tests.support.waiting import until
from tests.transfer.test_client_servers import answering, environment, running, stored
from transfer import BlockingTransfer, Logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymongo.database import Database

    from collector.local import NatsServer, Replica

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
]
REQUESTS = 400
SPOOLED = 3000
"""Entries of one task. Sent one by one they would take longer than an application is held up."""
PATCHED = """
import sys, warnings
warnings.simplefilter("ignore")  # eventlet says that it is not developed any more
import eventlet
eventlet.monkey_patch()
import orm  # by its own name, under which Django looks for its paths
orm.serve_with_eventlet(int(sys.argv[1]))
"""
GUNICORN = ["-m", "gunicorn", "-k", "gevent"]
UWSGI = ["-c", "import pyuwsgi; pyuwsgi.run()", "--master", "--processes", "3", "--enable-threads", "--die-on-term"]
SERVERS: dict[str, Callable[[int], list[str]]] = {
    "gevent": lambda port: [*GUNICORN, "--bind", f"127.0.0.1:{port}", "orm:application"],
    # loaded before gevent patches anything: Django's own connections do not bear that
    "gevent, preloaded": lambda port: [*GUNICORN, "--workers=2", "--preload", "--bind", f"127.0.0.1:{port}", "shop"],
    "eventlet": lambda port: ["-c", PATCHED, str(port)],
    "uwsgi": lambda port: [*UWSGI, "--need-app", "--http-socket", f"127.0.0.1:{port}", "--module", "orm"],
}


@pytest.fixture
def environ(nats_server: NatsServer, namespace: str) -> dict[str, str]:
    """Declare the logger, and give the settings of the client."""
    with BlockingTransfer.connect(nats_server.url, namespace=namespace) as transfer:
        transfer.set(Logger("app"))
    return {"NATS_HOSTS": nats_server.url.replace("127.0.0.1", "localhost"), "NAMESPACE": namespace}


@pytest.mark.parametrize("server", SERVERS)
async def test_requests_that_ask_a_database_are_answered_and_what_they_log_is_stored_once(
    start_replica: Callable[..., Replica],
    environ: dict[str, str],
    database: Database[dict[str, Any]],
    tmp_path: Path,
    server: str,
) -> None:
    start_replica()
    port = free_port()
    output = tmp_path / "out"
    with running(SERVERS[server](port), environ, output) as process:
        await answering(process, port, output)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number: http_get(port, f"/{number}"), range(REQUESTS)))
        assert {status for status, _ in answers} == {200}, output.read_text()
        process.send_signal(signal.SIGTERM)
        assert await to_thread.run_sync(process.wait, 20) == 0, output.read_text()
    assert "transfer:" not in output.read_text()
    await until(lambda: stored(database).total() >= REQUESTS + 1, 20)
    found = stored(database)
    assert {number: times for number, times in found.items() if number != "loaded"} == Counter(range(REQUESTS + 1))
    assert found["loaded"] >= 1


@pytest.mark.parametrize("loads", ["before the fork", "after the fork"])
async def test_what_a_spooler_of_uwsgi_logs_is_sent_by_its_own_thread_and_stored_once(
    start_replica: Callable[..., Replica],
    environ: dict[str, str],
    database: Database[dict[str, Any]],
    tmp_path: Path,
    loads: str,
) -> None:
    """A spooler has the numbers of no worker and no mule, as the process has that forks them all."""
    start_replica()
    port = free_port()
    output, spool = tmp_path / "out", tmp_path / "spool"
    spool.mkdir()
    server = [*UWSGI, "--spooler", str(spool), "--spooler-frequency", "1", "--module", "spooling"]
    lazy = ["--lazy-apps", "--spooler-python-import", "spooling"] if loads == "after the fork" else []
    with running([*server, *lazy, "--http-socket", f"127.0.0.1:{port}"], environ, output) as process:
        await answering(process, port, output)
        assert http_get(port, f"/spool/{SPOOLED}")[0] == 200
        await until(lambda: stored(database)["done"] == 1, 60)
        process.send_signal(signal.SIGTERM)
        assert await to_thread.run_sync(process.wait, 30) == 0, output.read_text()
    assert "transfer:" not in output.read_text()
    found = stored(database)
    assert {number: times for number, times in found.items() if number not in {"loaded", "done"}} == Counter(
        range(SPOOLED)
    )


LOCKED = """
import eventlet
eventlet.monkey_patch()
import logging, sys, threading, time
from transfer import TransferHandler
to_stderr = logging.StreamHandler()
logging.getLogger("transfer").addHandler(to_stderr)
locks = [logging._lock, threading._active_limbo_lock, to_stderr.lock]
handler = TransferHandler("app")
for lock in locks:
    lock.acquire()
handler.emit(logging.makeLogRecord({"msg": "locked", "levelname": "INFO", "levelno": 20}))
while not (handler.stats().published or handler.stats().last_error):
    time.sleep(0.01)
for lock in locks:
    lock.release()
logging.getLogger("transfer").warning("locks are free")
"""


@pytest.mark.parametrize("nats", ["there", "away"])
def test_the_thread_that_sends_waits_for_no_lock_of_eventlet(environ: dict[str, str], nats: str) -> None:
    """Such a lock knows the greenlets of one thread only, and would stop both threads for ever."""
    if nats == "away":
        environ |= {"NATS_HOSTS": f"nats://127.0.0.1:{free_port()}"}
    command = [sys.executable, "-W", "ignore", "-c", LOCKED, nats]
    done = subprocess.run(command, env=environment(environ), capture_output=True, text=True, check=False, timeout=100)
    said = done.stderr.splitlines()
    assert done.returncode == 0, said
    assert "locks are free" in said
    assert any("is away" in line for line in said) == (nats == "away"), said


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_greenlets_that_wait_for_room_for_confirmations_and_for_answers_let_others_run(
    nats_server: NatsServer, namespace: str, environ: dict[str, str], library: str
) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "greenlets", library]
    done = subprocess.run(command, env=environment(environ), capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    with BlockingTransfer.connect(nats_server.url, namespace=namespace) as transfer:
        assert transfer.get("app").stream.messages > 0  # type: ignore[union-attr]
