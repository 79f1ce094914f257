"""The drawing of the rooms in docs/design.md is the tree, and its order is that of the floors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.rooms import FLOORS

ROOT = Path(__file__).parents[2]
DRAWING = (ROOT / "docs" / "design.md").read_text().partition("## 6. The rooms")[2].partition("## 7.")[0]


def drawn(package: str) -> list[str]:
    """Return the rooms of a package from top to bottom."""
    part = DRAWING.partition(f"\n{package}/\n")[2].partition("\n\n")[0].partition("```")[0]
    return re.findall(r"^ {2}(?:\w+)? +(\w+)/ {2}", part, re.MULTILINE)


def rooms(package: str) -> set[str]:
    return {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}


@pytest.mark.parametrize("package", ["collector", "transfer"])
def test_the_drawing_has_every_room_once_and_no_other(package: str) -> None:
    assert sorted(drawn(package)) == sorted(rooms(package))


@pytest.mark.parametrize("package", ["collector", "transfer"])
def test_the_drawing_goes_from_the_highest_floor_to_the_lowest(package: str) -> None:
    heights = [FLOORS[f"{package}.{room}"] for room in drawn(package)]
    assert heights == sorted(heights, reverse=True)
