"""How `make test` shares tests among processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CONFTEST = """
from tests.support.scheduling import FilesThatShare

def pytest_xdist_make_scheduler(config, log):
    return FilesThatShare(config, log)
"""
TESTS = """
import os
import pytest

@pytest.fixture(scope="SCOPE")
def made(pytestconfig):
    with open(pytestconfig.rootpath / "made", "a") as made:
        print(os.environ["PYTEST_XDIST_WORKER"], file=made)

@pytest.mark.parametrize("number", range(12))
def test_something(made, number):
    pass
"""


@pytest.mark.parametrize(("scope", "processes"), [("module", 1), ("session", 2)])
def test_what_a_file_makes_once_for_its_tests_is_made_by_one_process(
    tmp_path: Path, scope: str, processes: int
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS.replace("SCOPE", scope))
    command = [sys.executable, "-m", "pytest", "-q", "--numprocesses", "2", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(set((tmp_path / "made").read_text().split())) == processes
