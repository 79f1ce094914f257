"""The README's table of settings names what is read, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from collector.settings import Settings
from transfer.errors import WrongSettings

README = Path(__file__).parents[2] / "README.md"


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


def test_the_readme_lists_every_setting() -> None:
    environment = Noted()
    with pytest.raises(WrongSettings):
        Settings.read(environment)
    rows = [line for line in README.read_text().splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
    assert listed == {name for name in environment.asked if not name.endswith("_FILE")}
