"""The packages of the extra `archive` are imported by the archive alone, and the archive by none of the service."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
EXTRAS = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
ARCHIVE = [re.split(r"[>=\[; ]", requirement)[0].replace("arro3-", "arro3.") for requirement in EXTRAS["archive"]]
SERVICE = ["collector.__main__", "collector.app", "collector.cli", "collector.check.command", "collector.demo.command"]


def test_the_service_imports_nothing_of_the_archive() -> None:
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({[*ARCHIVE, 'arro3']!r}));"
        f"from importlib import import_module; [import_module(name) for name in {SERVICE!r}];"
        "print([name for name in sys.modules if name.startswith('collector.archive')])"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "[]\n")
