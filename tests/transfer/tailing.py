"""`transfer tail` as a process, for tests of it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any

import pytest
from bson import ObjectId

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.collection import Collection


WRITERS = 3
KINDS = pytest.mark.parametrize("kind", ["plain", "timeseries"])


class _Test:
    began = datetime.now(UTC)


def begin() -> None:
    """Begin a test: its entries are a minute old, however long the tests before it took."""
    _Test.began = datetime.now(UTC).replace(microsecond=0)


def began() -> datetime:
    """Return when the test began."""
    return _Test.began


def entry(number: int, **data: object) -> dict[str, Any]:
    """Return a document as the collector stores it; numbers are seconds."""
    moment = _Test.began - timedelta(seconds=60 - number)
    fields = {"level": "INFO", "msg": f"m{number}", "n": number, **data}
    return {"_id": ObjectId(), **fields, "timestamp": moment, "metadata": None}


def make(collection: Collection[dict[str, Any]], kind: str) -> None:
    command: dict[str, Any] = {"create": collection.name}
    if kind == "timeseries":
        command["timeseries"] = {"timeField": "timestamp", "metaField": "metadata"}
    collection.database.command(command)


def tail(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "transfer", "tail", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=30)


def shown(environ: dict[str, str], *arguments: str) -> list[int]:
    """Return the numbers of the entries shown."""
    done = tail(environ, "app", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line)["n"] for line in done.stdout.splitlines()]


@contextmanager
def following(environ: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "transfer", "tail", "app", "--follow", "--json", *arguments]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def numbers(stream: IO[str] | None, count: int) -> list[int]:
    assert stream is not None
    return [json.loads(stream.readline())["n"] for _ in range(count)]
