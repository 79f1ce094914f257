"""The client in programs that fork their workers: a real gunicorn that loads the application first, a real Celery."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread

from collector.local.server import free_port, http_get
from tests.support.waiting import until
from transfer import BlockingTransfer, Logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.database import Database

    from collector.local import NatsServer, Replica

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
]
CLIENTS = Path(__file__).parent / "clients"
REQUESTS = 400
WORKERS = 4


def environment(environ: dict[str, str]) -> dict[str, str]:
    """Return the environment in which the applications are found."""
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(CLIENTS), str(CLIENTS.parents[2])))} | environ


@contextmanager
def running(arguments: list[str], environ: dict[str, str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a group of its own; all of that is gone afterwards."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment(environ),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


@pytest.fixture
def environ(nats_server: NatsServer, namespace: str) -> dict[str, str]:
    """Declare the logger, and give the settings of the client."""
    with BlockingTransfer.connect(nats_server.url, namespace=namespace) as transfer:
        transfer.set(Logger("app"))
    return {"NATS_HOSTS": nats_server.url, "NAMESPACE": namespace}


def stored(database: Database[dict[str, Any]]) -> Counter[int | str]:
    """Count the entries of each number. A request that is made again until a server answers in time counts once."""
    found = Counter[int | str](one.get("number", one["msg"]) for one in database["app_logs"].find({}))
    if REQUESTS in found:
        found[REQUESTS] = 1
    return found


async def answering(process: subprocess.Popen[bytes], port: int, output: Path, seconds: float = 30) -> None:
    """Wait until the program answers; fail with its output when it has ended."""
    await until(lambda: process.poll() is not None or _answered(port), seconds)
    assert process.poll() is None, await to_thread.run_sync(output.read_text)


def _answered(port: int) -> bool:
    try:
        return http_get(port, f"/{REQUESTS}")[0] == 200
    except (OSError, HTTPException):
        return False


async def test_workers_of_a_gunicorn_that_loads_the_application_first_lose_nothing_and_store_nothing_twice(
    start_replica: Callable[..., Replica], environ: dict[str, str], database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    start_replica()
    port = free_port()
    arguments = [
        "-m",
        "gunicorn",
        "--preload",
        "--workers",
        str(WORKERS),
        "--bind",
        f"127.0.0.1:{port}",
        "shop:application",
    ]
    with running(arguments, environ, tmp_path / "out") as gunicorn:
        await answering(gunicorn, port, tmp_path / "out", 20)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number: http_get(port, f"/{number}"), range(REQUESTS)))
        assert {status for status, _ in answers} == {200}
        assert len({text for _, text in answers}) > 1
        gunicorn.terminate()
        assert await to_thread.run_sync(gunicorn.wait, 20) == 0, (tmp_path / "out").read_text()
    expected = Counter[int | str]([*range(REQUESTS + 1), "loaded"])
    await until(lambda: stored(database).total() >= expected.total(), 20)
    assert stored(database) == expected
    assert "transfer:" not in (tmp_path / "out").read_text()


async def test_the_children_of_a_celery_worker_lose_nothing_and_store_nothing_twice(
    start_replica: Callable[..., Replica], environ: dict[str, str], database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    start_replica()
    folder = tmp_path / "jobs"
    (folder / "control").mkdir(parents=True)
    environ |= {"JOBS_FOLDER": str(folder)}
    asking = [sys.executable, "-c", "import jobs; jobs.logger.handlers.clear(); jobs.ask(200)"]
    # before the worker is there: this transport reads files that are still being written
    await to_thread.run_sync(lambda: subprocess.run(asking, env=environment(environ), check=True, timeout=30))
    arguments = ["-m", "celery", "-A", "jobs", "worker", "--concurrency", "2", "--without-gossip", "--without-mingle"]
    with running(arguments, environ, tmp_path / "out") as worker:
        await until(lambda: not [*folder.glob("*.msg")], 40)
        worker.terminate()
        assert await to_thread.run_sync(worker.wait, 30) == 0, (tmp_path / "out").read_text()
    expected = Counter[int | str]([*range(200), "loaded", "loaded", "ending", "ending"])
    await until(lambda: stored(database).total() >= expected.total(), 20)
    assert stored(database) == expected
