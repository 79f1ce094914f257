"""The programs of docs/client.md and docs/recipes.md, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from transfer import BlockingTransfer, Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.local import NatsServer

ROOT = Path(__file__).parents[2]
PAGE = "\n".join((ROOT / "docs" / name).read_text() for name in ("client.md", "recipes.md"))
SECTIONS = {
    section.partition("\n")[0].strip(): re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for section in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)
}
DJANGO = """
import logging, django
from django.conf import settings
settings.configure(LOGGING=LOGGING)
django.setup()
logging.getLogger("django.shop").warning("shown")
"""
FLASK = """
assert app.test_client().get("/orders/7").text == "7"
"""
FASTAPI = """
from fastapi.testclient import TestClient
with TestClient(app) as client:
    assert client.get("/orders/7").json() == "7"
"""


COUNTED = """
import logging
from prometheus_client import generate_latest
handler.handle(logging.makeLogRecord({"name": "shop", "msg": "order"}))
assert handler.wait(10)
assert "transfer_published_entries_total 1.0" in generate_latest(REGISTRY).decode()
"""
IN_TESTS = """
import sys, pytest
if __name__ == "__main__":
    sys.exit(pytest.main(["-p", "anyio", "-o", "anyio_mode=auto", "--quiet", "-p", "no:cacheprovider", __file__]))
"""


@pytest.fixture
def entries(
    nats_server: NatsServer, namespace: str, tmp_path: Path
) -> Callable[[str], tuple[subprocess.CompletedProcess[str], int]]:
    """Run a program where the logger is declared; return what came of it, and how many bytes wait in the stream."""
    with BlockingTransfer.connect(nats_server.url, namespace=namespace, bundle_entries=1) as transfer:
        transfer.set(Logger("shop"))

    def run(program: str) -> tuple[subprocess.CompletedProcess[str], int]:
        path = tmp_path / "program.py"
        path.write_text(program)
        settings = {"NATS_HOSTS": nats_server.url, "NAMESPACE": namespace, "TRANSFER_BUNDLE_ENTRIES": "1"}
        environ = os.environ | settings | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-W", "error", str(path)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=40)
        with BlockingTransfer.connect(nats_server.url, namespace=namespace) as transfer:
            stream = transfer.get("shop").stream
        return done, stream.messages if stream else 0

    return run


@pytest.mark.parametrize(
    ("section", "place", "driver", "expected"),
    [
        ("Start", 0, "", 1),
        ("Start", 1, "", 2),
        ("Start", 2, "", 2),
        ("Django", 0, DJANGO, 1),
        ("Flask", 0, FLASK, 1),
        ("FastAPI", 0, FASTAPI, 1),
        ("Asyncio services", 0, "", 100),
        ("Multiprocessing", 0, "", 100),
        ("Short jobs", 0, "", 1),
        ("Counted", 0, COUNTED, 1),
    ],
)
def test_a_recipe_does_what_it_says(
    entries: Callable[[str], tuple[subprocess.CompletedProcess[str], int]],
    section: str,
    place: int,
    driver: str,
    expected: int,
) -> None:
    done, stored = entries(SECTIONS[section][place] + driver)
    assert (done.returncode, done.stderr) == (0, "")
    assert stored == expected


def test_the_test_of_an_application_runs_with_the_fixture_of_the_plugin(
    entries: Callable[[str], tuple[subprocess.CompletedProcess[str], int]],
) -> None:
    done, _ = entries(SECTIONS["In tests"][0] + IN_TESTS)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 passed" in done.stdout
