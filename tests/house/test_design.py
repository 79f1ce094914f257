"""The drawing of the rooms in docs/design.md is the tree, and its order is the order of the imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DRAWING = (ROOT / "docs" / "design.md").read_text().partition("## 6. The rooms")[2].partition("## 7.")[0]


def drawn(package: str) -> list[str]:
    """Return the rooms of a package from top to bottom."""
    part = DRAWING.partition(f"\n{package}/\n")[2].partition("\n\n")[0].partition("```")[0]
    return re.findall(r"^ {2}(?:\w+)? +(\w+)/ {2}", part, re.MULTILINE)


def rooms(package: str) -> set[str]:
    return {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}


def arrows(package: str) -> Iterator[tuple[str, str]]:
    """Yield each room with each other room that it imports."""
    for room in rooms(package):
        for path in (ROOT / package / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
                    imported = (node.module or "").split(".")[1]
                    if imported in rooms(package) - {room}:
                        yield room, imported


@pytest.mark.parametrize("package", ["collector", "transfer"])
def test_the_drawing_has_every_room_once_and_no_other(package: str) -> None:
    assert sorted(drawn(package)) == sorted(rooms(package))


@pytest.mark.parametrize("package", ["collector", "transfer"])
def test_a_room_imports_only_rooms_that_are_drawn_below_it(package: str) -> None:
    order = drawn(package)
    found = set(arrows(package))
    assert len(found) > 5
    assert [arrow for arrow in sorted(found) if order.index(arrow[0]) > order.index(arrow[1])] == []
