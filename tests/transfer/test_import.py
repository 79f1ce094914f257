"""Importing `transfer` costs an application next to nothing and brings nothing of the service along."""

from __future__ import annotations

import subprocess
import sys

import pytest

import transfer

SERVICE = {"pymongo", "prometheus_client", "anyio", "click", "structlog", "tenacity", "collector"}
BRIDGED = {"loguru", "opentelemetry"}


def loaded_after(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    return set(output.split())


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize(
    "statement",
    ["import transfer", "from transfer import Transfer", "import transfer.cli", "import transfer.handler"],
)
def test_nothing_of_the_service_and_of_other_logging_libraries_is_loaded(statement: str) -> None:
    assert not packages(loaded_after(statement)) & (SERVICE | BRIDGED)


def test_importing_transfer_loads_little_besides_itself_so_that_it_costs_next_to_nothing() -> None:
    """`make bench` says how long it takes; here the modules are counted that it makes Python read."""
    more = loaded_after("import transfer") - loaded_after("import logging, asyncio")
    assert not packages(more) & {"nats", "nkeys", "ssl", "asyncio"}
    assert len(more) < 60


def test_every_public_name_is_there_and_no_other() -> None:
    for name in transfer.__all__:
        assert getattr(transfer, name) is not None
    assert set(transfer.__all__) <= set(dir(transfer))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = transfer.nothing
