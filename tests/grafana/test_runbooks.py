"""The runbooks: an entry for each alert, the same questions in each, and commands that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.grafana.expressions import rule_names

PAGE = Path(__file__).parents[2] / "docs" / "runbooks.md"
ENTRIES = dict(re.findall(r"^## (Collector\w+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))
_COMMAND = re.compile(r"(collector dead-letters|transfer) (\w+)([^`\n]*)")


def test_there_is_an_entry_for_every_alert_and_no_other() -> None:
    assert sorted(ENTRIES) == sorted(rule_names("alert"))


@pytest.mark.parametrize("alert", ENTRIES)
def test_an_entry_says_what_it_means_what_to_look_at_and_what_to_do(alert: str) -> None:
    assert re.findall(r"^\*\*(\w+)\*\*", ENTRIES[alert], re.MULTILINE) == ["Means", "Look", "Do"]


def test_every_command_takes_what_the_runbooks_give_it() -> None:
    written = [
        (found[1], found[2], set(re.findall(r"--[\w-]+", found[3]))) for found in _COMMAND.finditer(PAGE.read_text())
    ]
    assert {subcommand for _, subcommand, _ in written} >= {"list", "show", "redrive", "purge", "get", "update"}
    for command, subcommand, options in written:
        module, *group = command.split()
        words = [sys.executable, "-m", module, *group, subcommand, "--help"]
        told = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout
        assert options <= set(re.findall(r"--[\w-]+", told)), words
