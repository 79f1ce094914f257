"""`docs/settings.md` names every variable that the code reads, and each reader; test_dashboards has it current."""

from __future__ import annotations

import ast
import os
import re
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from collector.dead_letters.work import _Settings
from collector.settings import Settings
from collector.telemetry.command import _here
from grafana import settings_page
from grafana.files import FILES
from transfer import wire
from transfer.environment import Environment
from transfer.errors import WrongSettings
from transfer.options import Queue, read_from
from transfer.tail.command import tail

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "settings.md"
ROWS = {row.split("`")[1]: row.split("|") for row in PAGE.read_text().splitlines() if row.startswith("| `")}
VARIABLE = re.compile(r"(COLLECTOR|TRANSFER|NATS)_[A-Z_]*[A-Z]|NAMESPACE|DATABASE|MODE")
OTHER_NAMES = "misspelt.py"
"""What people write in place of our variables; nobody reads it."""


class Noted(Mapping[str, str]):
    """An empty environment that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def constants() -> Iterator[str]:
    for path in [*(ROOT / "collector").rglob("*.py"), *(ROOT / "transfer").rglob("*.py")]:
        if path.name != OTHER_NAMES:
            nodes = ast.walk(ast.parse(path.read_text()))
            yield from (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_every_variable_that_stands_in_the_code_is_on_the_page() -> None:
    found = {text for text in constants() if VARIABLE.fullmatch(text) and not hasattr(wire, text)}  # names of headers
    assert {"NAMESPACE", "COLLECTOR_MONGOD", "TRANSFER_BUNDLE_ENTRIES"} <= found
    assert sorted(found - ROWS.keys()) == []


@pytest.mark.parametrize(
    ("reader", "read"),
    [
        ("collector", lambda: Settings.read(os.environ)),
        ("transfer", lambda: read_from(Environment(os.environ), Queue())),
        ("tail", lambda: tail(Namespace())),
        ("dead-letters", lambda: _Settings(with_nats=True)),
        ("status", lambda: _here(os.environ)),
    ],
)
def test_the_page_says_who_reads_what(monkeypatch: pytest.MonkeyPatch, reader: str, read: Callable[[], object]) -> None:
    noted = Noted()
    monkeypatch.setattr(os, "environ", noted)
    try:
        read()
    except WrongSettings:
        pass
    finally:
        monkeypatch.undo()
    listed = {name for name, cells in ROWS.items() if f"`{reader}`" in cells[-2]}
    assert listed == {name for name in noted.asked if not name.endswith("_FILE")}


@pytest.mark.parametrize("name", ["NAMESPACE", "DATABASE", "COLLECTOR_WRITES", "TRANSFER_BUNDLE_ENTRIES"])
def test_a_variable_without_a_meaning_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(settings_page, "MEANINGS", {**settings_page.MEANINGS})
    monkeypatch.delitem(settings_page.MEANINGS, name)
    with pytest.raises(KeyError, match=name):
        FILES[PAGE]()


def test_a_meaning_of_a_variable_that_nobody_reads_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_page, "MEANINGS", {**settings_page.MEANINGS, "COLLECTOR_GONE": "Gone."})
    with pytest.raises(ValueError, match="COLLECTOR_GONE"):
        FILES[PAGE]()
