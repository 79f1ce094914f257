"""The examples of docs/recipes.md, "Bridges", as they stand there: through real NATS into real MongoDB."""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.support.waiting import count, until
from transfer.client import Logger, Transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import NatsServer, Replica

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "recipes.md").read_text()
EXPECTED: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "Standard library": (
        "standard",
        [
            {"msg": "order 17 of Ada", "level": "INFO", "logger": "shop", "args": [17, "Ada"], "amount": 9.5},
            {"msg": "no price", "level": "ERROR", "exception.type": "ZeroDivisionError", "function": "<module>"},
        ],
    ),
    "structlog": (
        "structured",
        [{"msg": "order", "level": "WARNING", "number": 17, "customer.name": "Ada", "request": "r-1"}],
    ),
    "loguru": ("loguru", [{"msg": "order of Ada", "level": "SUCCESS", "logger": "__main__", "number": 17}]),
    "OpenTelemetry": (
        "telemetry",
        [
            {
                "msg": "order",
                "severity": 13,
                "logger": "shop.orders",
                "order.number": 17,
                "resource.service.name": "shop",
            }
        ],
    ),
}


SECTION = re.split(r"^## ", PAGE.partition("## Bridges\n")[2], flags=re.MULTILINE)[0]
PARTS = [part.partition("\n") for part in SECTION.split("\n### ")[1:]]
EXAMPLES = [
    (heading, code) for heading, _, text in PARTS for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
]


def test_every_bridge_has_one_example() -> None:
    assert [heading for heading, _ in EXAMPLES] == list(EXPECTED)


@pytest.mark.parametrize(("heading", "program"), EXAMPLES)
async def test_an_example_of_the_page_stores_what_it_logs(
    heading: str,
    program: str,
    start_replica: Callable[..., Replica],
    database: Database[dict[str, Any]],
    nats_server: NatsServer,
    namespace: str,
) -> None:
    key, expected = EXPECTED[heading]
    async with Transfer.connect(nats_server.url, namespace=namespace) as transfer:
        await transfer.set(Logger(key))
    start_replica()
    environment = {"NATS_HOSTS": nats_server.url, "NAMESPACE": namespace, "PYTHONPATH": str(ROOT)}
    started = datetime.now(UTC) - timedelta(milliseconds=1)  # MongoDB cuts to milliseconds
    with anyio.fail_after(30):
        run = await anyio.run_process([sys.executable, "-c", program], env=os.environ | environment, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    await until(lambda: count(database, key) == len(expected), 10)
    for fields in expected:
        found = database[f"{key}_logs"].find_one(fields)
        assert found is not None, f"expected {fields}, got {list(database[f'{key}_logs'].find())}"
        assert started <= found["timestamp"] <= datetime.now(UTC)
