"""The types that the installed package promises, checked as a user's own type checker does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

SAMPLE = Path(__file__).parent / "sample.py"


def test_a_strict_type_checker_outside_of_this_repository_finds_the_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(SAMPLE, tmp_path / "application.py")
    monkeypatch.delenv("MYPYPATH", raising=False)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--warn-unreachable", "application.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=170)
    assert (done.stdout, done.stderr) == ("Success: no issues found in 1 source file\n", "")
