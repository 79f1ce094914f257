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
    if number in DEADLY:
        os._exit(1)
"""


def run(folder: Path, scope: str, deadly: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text("[pytest]")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(TESTS.replace("SCOPE", scope).replace("DEADLY", repr(deadly)))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--numprocesses", "2", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.mark.parametrize(("scope", "processes"), [("module", 1), ("session", 2)])
def test_what_a_file_makes_once_for_its_tests_is_made_by_one_process(
    tmp_path: Path, scope: str, processes: int
) -> None:
    done = run(tmp_path, scope)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(set((tmp_path / "made").read_text().split())) == processes


@pytest.mark.parametrize("scope", ["module", "session"])
@pytest.mark.parametrize("deadly", [(0,), (10, 11)])
def test_a_process_that_dies_fails_its_test_and_all_others_are_run(
    tmp_path: Path, scope: str, deadly: tuple[int, ...]
) -> None:
    done = run(tmp_path, scope, deadly)
    assert f"{len(deadly)} failed, {12 - len(deadly)} passed" in done.stdout, done.stdout + done.stderr
