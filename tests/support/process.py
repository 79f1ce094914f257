"""Processes: what the system knows of them, how a shell runs pasted lines, and how MongoDB is made to refuse."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collector.local import Mongod, Replica

MIB = 1024 * 1024
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="resident memory is read from /proc: run this on Linux"
)


def resident(replica: Replica, *, highest: bool = False) -> int:
    """Return the bytes of memory that a replica takes, or the most that it ever took."""
    wanted = "VmHWM:" if highest else "VmRSS:"
    status = Path(f"/proc/{replica.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith(wanted)]
    return int(line.split()[1]) * 1024


@contextmanager
def refusing_inserts(mongod: Mongod, namespace: str | None = None) -> Iterator[None]:
    """Have mongod fail every insert, or those into one collection, after a while and as if it were no primary now."""
    with _inserts(mongod, errorCode=11602, blockTimeMS=200, **({"namespace": namespace} if namespace else {})):
        yield


@contextmanager
def slow_inserts(mongod: Mongod, namespace: str) -> Iterator[None]:
    """Have every insert into one collection take a while."""
    with _inserts(mongod, blockTimeMS=150, namespace=namespace):
        yield


@contextmanager
def _inserts(mongod: Mongod, **how: object) -> Iterator[None]:
    data = {"failCommands": ["insert"], "blockConnection": True, **how}
    with MongoClient[dict[str, Any]](mongod.url) as client:
        client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
        try:
            yield
        finally:
            client.admin.command("configureFailPoint", "failCommand", mode="off")


@contextmanager
def pasted(lines: str, environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run lines as pasted into a shell, with errors among the output; end them after a minute at the latest."""
    with subprocess.Popen(
        ["bash", "-c", lines],
        env=environment,
        cwd=folder,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as shell:
        late = Timer(60, os.killpg, (shell.pid, signal.SIGTERM))
        late.start()
        try:
            yield shell
        finally:
            late.cancel()
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGTERM)
