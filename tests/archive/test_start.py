"""The start of docs/archive.md, as it stands there: JSON entries become CSV files, compressed with gzip, by region."""

from __future__ import annotations

import csv
import gzip
import os
import re
import signal
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from anyio import fail_after, to_thread

from tests.support.capturing import captured, paths
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collector.local import NatsServer

PAGE = (Path(__file__).parents[2] / "docs" / "archive.md").read_text()
REGIONS = ("eu", "us", "asia")


def block(language: str, having: str) -> str:
    """Return the one block of the page that has a text."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if having in text]
    return str(found)


def commands(server: NatsServer, folder: Path) -> list[str]:
    """Return the command of the page; its cuts are short, so that the test is."""
    lines = block("sh", "--group-by data.region").replace("nats://127.0.0.1:4222", server.url)
    lines = re.sub(r"pip install .*\n", "", lines.replace("--format", "--max-age 0.5s --format"))
    return [
        "bash",
        "-ec",
        re.sub(r"pip install .*\n", "", lines).replace("collector archive", "exec collector archive"),
    ]


def program(server: NatsServer, folder: Path) -> list[str]:
    """Return the program of the page; its cuts are short, so that the test is."""
    path = folder / "example.py"
    (folder / "backup").mkdir()
    text = block("python", "Capture(").replace("nats://127.0.0.1:4222", server.url)
    path.write_text(text.replace("window=", "max_age=timedelta(seconds=0.5), window="))
    return [sys.executable, str(path)]


@contextmanager
def begun(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    scripts = sysconfig.get_path("scripts")
    environ = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, cwd=folder, env=environ, text=True, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def rows(folder: Path) -> dict[str, list[str]]:
    """Return the orders in the folder of each region."""
    found: dict[str, list[str]] = {}
    for path in paths(folder, "*.csv.gz"):
        (region,) = re.findall(r"/region=(\w+)/", str(path))
        with gzip.open(path, "rt") as file:
            found.setdefault(region, []).extend(f"{row['order']} {row['total']}" for row in csv.DictReader(file))
    return found


@pytest.mark.parametrize("way", [commands, program])
async def test_the_example_of_the_page_makes_csv_files_by_region(
    own_nats: Callable[[], NatsServer], tmp_path: Path, way: Callable[[NatsServer, Path], list[str]]
) -> None:
    server = own_nats()
    with fail_after(120):
        async with captured(server, "ORDERS", "limits") as stream:
            for number in range(60):
                order = b'{"order": "a-%d", "region": "%s", "total": 0.5}' % (number, REGIONS[number % 3].encode())
                await stream.jetstream.publish("ORDERS.new", order)
            with begun(way(server, tmp_path), tmp_path) as process:
                await until(lambda: sum(map(len, rows(tmp_path).values())) >= 60 or process.poll() is not None, 20)
                process.send_signal(signal.SIGTERM)
                assert await to_thread.run_sync(process.wait, 60) == 0
    assert rows(tmp_path) == {
        region: [f"a-{number} 0.5" for number in range(60) if REGIONS[number % 3] == region] for region in REGIONS
    }
