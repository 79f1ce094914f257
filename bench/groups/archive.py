"""Archive: a stream that was published before, captured into a local folder by one process of `collector archive run`.

The time is that from the first delivery, which is looked for every 2 ms, until the process rests, and from the signal
that ends it until it has ended: it stores the last cut then. CPU time is that of the processes in the same time; the
peak is that of the capturing process. That the blocks have each message once is counted afterwards, by their records.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.backlog import publish
from bench.entries import Form, Traffic
from bench.errors import NotAsExpected
from bench.processes import Meter, cpu_seconds
from bench.waiting import until
from bench.wire import wired
from collector.archive.record import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from resource import struct_rusage

    from bench.stand import Stand
    from bench.wire import Wire
    from collector.archive.record import Record

NAME = "archive"
_CAPTURE = "captured"
_CUTS = 3
_REST, _IDLE = 0.3, 0.002
"""Seconds, and CPU seconds in them, after which a process rests."""
_SUBJECT = "captured.entries"
_DURABLE = "archive"
_DURABLE_CONFIG = (
    b'{"stream_name":"%b","config":{"durable_name":"archive","ack_policy":"explicit","ack_wait":3600000000000,'
    b'"max_ack_pending":-1,"mem_storage":true}}'
)


@dataclass(frozen=True, slots=True)
class Case:
    """The stream, the messages in it, and the files that are made of them."""

    retention: str
    form: Form = Form.JSON
    format: str = "ndjson"
    compression: str = "zstd"
    keys: int = 1

    def __str__(self) -> str:
        keys = f", {self.keys:,} keys" if self.keys > 1 else ""
        return f"{self.retention}, {self.form}, {self.format}, {self.compression}{keys}"


CASES = (
    Case("limits"),
    Case("workqueue"),
    Case("limits", Form.GO),
    Case("limits", Form.BUNDLE),
    Case("limits", format="parquet"),
    Case("limits", keys=1000),
    Case("limits", format="raw", compression="none"),
    Case("workqueue", format="raw", compression="none"),
)


def measure(stand: Stand) -> None:
    """Measure all cases in each round."""
    for _ in stand.rounds():
        for case in CASES:
            stand.progress.doing(str(case))
            stand.figures.add(NAME, str(case), capture(stand, case, stand.plan.backlog))


def capture(stand: Stand, case: Case, entries: int) -> dict[str, float]:
    """Publish a backlog, let a process capture it, and return the figures."""
    root = stand.servers.folder / "archive"
    stream, traffic = "CAPTURED", Traffic(case.form, 300)
    messages = entries // traffic.entries_a_message // _CUTS * _CUTS
    with wired(stand.nats.port) as wire, _stream(wire, stream, case.retention), _folder(root):
        subjects = [f"{_SUBJECT}.{number}" for number in range(case.keys)]
        publish(stand.nats.port, traffic, subjects, messages)
        with _capturing(stand, case, stream, root, messages // _CUTS) as process:
            started = until(lambda: _delivered(wire, stream, process) > 0, "a first delivery", 0.002)
            meter, before = Meter({"nats-server": [stand.nats.pid]}), cpu_seconds(process.pid)
            until(lambda: _delivered(wire, stream, process) >= messages, "all to be delivered", 0.01)
            reading = _rested(process) - started
            asked = time.perf_counter()
            process.terminate()
            used = _ended(process)
            seconds = reading + time.perf_counter() - asked
            cpu = {"capture": used.ru_utime + used.ru_stime - before, **meter.used()}
        rows = sum(block.rows for record in _records(root) for block in record.blocks)
        if rows != messages * traffic.entries_a_message:
            raise NotAsExpected(f"expected {messages * traffic.entries_a_message} rows in the blocks, got {rows}")
        stored = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    costs = {f"{name} µs": spent * 1e6 / rows for name, spent in cpu.items()}
    return {
        "entries/s": rows / seconds,
        **costs,
        "peak MiB": used.ru_maxrss / 1024,
        "B an entry": stored / rows,
    }


@contextmanager
def _stream(wire: Wire, name: str, retention: str) -> Iterator[None]:
    made = wire.request(
        f"$JS.API.STREAM.CREATE.{name}",
        b'{"name":"%b","subjects":["%b.>"],"retention":"%b"}' % (name.encode(), _SUBJECT.encode(), retention.encode()),
    )
    if "error" in made:
        raise NotAsExpected(f"expected nats-server to make stream {name}, got {made['error']}")
    if retention != "limits":
        wire.request(f"$JS.API.CONSUMER.CREATE.{name}.{_DURABLE}", _DURABLE_CONFIG % name.encode())
    try:
        yield
    finally:
        wire.request(f"$JS.API.STREAM.DELETE.{name}")


@contextmanager
def _folder(root: Path) -> Iterator[None]:
    root.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(root)


@contextmanager
def _capturing(stand: Stand, case: Case, stream: str, root: Path, messages: int) -> Iterator[subprocess.Popen[bytes]]:
    options = {
        "--stream": stream,
        "--to": str(root),
        "--capture": _CAPTURE,
        "--format": case.format,
        "--compression": case.compression,
        "--decoder": "raw" if case.format == "raw" else "entries",
        "--max-messages": str(messages),
        "--max-bytes": "4GiB",
    }
    words = [word for option in options.items() for word in option]
    command = [sys.executable, "-m", "collector", "archive", "run", *words, *_reading(case)]
    environment = {"NATS_HOSTS": stand.nats.url}
    log = stand.servers.folder / "capture.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()


def _reading(case: Case) -> Sequence[str]:
    durable = [] if case.retention == "limits" else ["--durable", _DURABLE]
    return [*durable, *(["--group-by", "subject"] if case.keys > 1 else [])]


def _delivered(wire: Wire, stream: str, process: subprocess.Popen[bytes]) -> int:
    if process.poll() is not None:
        raise NotAsExpected(f"expected the capture to go on, it ended with exit status {process.returncode}")
    page = wire.request(f"$JS.API.CONSUMER.LIST.{stream}")
    return max([consumer["delivered"]["consumer_seq"] for consumer in page.get("consumers") or ()], default=0)


def _rested(process: subprocess.Popen[bytes]) -> float:
    """Wait until a process has next to nothing to do, and return since when."""
    busy, before = time.perf_counter(), cpu_seconds(process.pid)
    while (now := time.perf_counter()) - busy < _REST:
        time.sleep(0.01)
        if (used := cpu_seconds(process.pid)) - before > _IDLE:
            busy, before = now, used
    return busy


def _ended(process: subprocess.Popen[bytes]) -> struct_rusage:
    """Wait until a process has ended as it should, and return what it used."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise NotAsExpected(f"expected the capture to end with exit status 0, got {process.returncode}")
    return used


def _records(root: Path) -> list[Record]:
    return [_read(path) for path in sorted(root.glob("_archive/*/*.cut"))]


def _read(path: Path) -> Record:
    return decode(path.read_bytes(), str(path))
