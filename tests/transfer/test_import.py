"""Importing `transfer` costs an application next to nothing and brings nothing of the service along."""

from __future__ import annotations

import subprocess
import sys

import pytest

import transfer

SERVICE = {"pymongo", "prometheus_client", "anyio", "click", "structlog", "tenacity", "collector"}
BRIDGED = {"loguru", "opentelemetry"}


def loaded_after(statement: str) -> tuple[set[str], float]:
    program = f"""
import sys, time
start = time.perf_counter()
{statement}
print(time.perf_counter() - start, *{{name.partition(".")[0] for name in sys.modules}})
"""
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    seconds, *modules = output.split()
    return set(modules), float(seconds)


@pytest.mark.parametrize(
    "statement",
    ["import transfer", "from transfer import Transfer", "import transfer.cli", "import transfer.handler"],
)
def test_nothing_of_the_service_and_of_other_logging_libraries_is_loaded(statement: str) -> None:
    modules, _ = loaded_after(statement)
    assert not modules & (SERVICE | BRIDGED)


def test_importing_transfer_takes_well_under_200_ms() -> None:
    assert min(loaded_after("import transfer")[1] for _ in range(3)) < 0.1


def test_every_public_name_is_there_and_no_other() -> None:
    for name in transfer.__all__:
        assert getattr(transfer, name) is not None
    assert set(transfer.__all__) <= set(dir(transfer))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = transfer.nothing
