"""What each command says where the packages of its extra are not installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
EXTRAS = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
SERVICE = [re.split(r"[>=\[; ]", requirement)[0].replace("-", "_") for requirement in EXTRAS["service"]]
COMMANDS = [["--help"], ["run"], ["check"], ["status"], ["dead-letters", "list", "a"]]


def run_without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a Python that finds one module nowhere."""
    program = f"import sys; sys.modules[{module!r}] = None; from collector.__main__ import main; main()"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={"PATH": "/usr/bin"})


@pytest.mark.parametrize("module", [name for name in SERVICE if name != "uvloop"])
def test_without_a_package_of_the_service_every_command_names_the_extra_or_does_not_need_it(module: str) -> None:
    for arguments in COMMANDS[:2]:
        ended = run_without(module, *arguments)
        assert "Traceback" not in ended.stderr
        if module in ended.stderr:
            assert ended.returncode == 1
            assert ended.stderr.endswith("install it: pip install 'transfer-collector[service]'\n")
            assert ended.stderr.count("\n") == 1


def test_without_any_of_them_no_command_ends_with_a_traceback() -> None:
    program = f"import sys; sys.modules.update(dict.fromkeys({SERVICE!r})); from collector.__main__ import main; main()"
    for arguments in COMMANDS:
        command = [sys.executable, "-c", program, *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "pip install 'transfer-collector[service]'" in ended.stderr
        assert "Traceback" not in ended.stderr
