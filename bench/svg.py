"""As much of SVG as a plot needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

INK, FAINT, GRID = "#1f2933", "#7b8794", "#e4e7eb"
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"

Point = tuple[float, float]


@dataclass
class Drawing:
    """A picture of a fixed size, on white, so that it can be read on any page."""

    width: int
    height: int
    _shapes: list[str] = field(default_factory=list)

    def text(self, at: Point, words: str, *, size: int = 12, anchor: str = "start", colour: str = INK) -> None:
        """Write words; `anchor` is start, middle or end."""
        x, y = at
        style = f'font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
        self._shapes.append(f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>')

    def line(self, points: Sequence[Point], colour: str = GRID, width: float = 1) -> None:
        """Draw a line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def dot(self, at: Point, colour: str) -> None:
        """Draw a point that can be seen."""
        self._shapes.append(f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="3.5" fill="{colour}"/>')

    def bar(self, at: Point, width: float, height: float, colour: str) -> None:
        """Fill a rectangle from its upper left corner."""
        place = f'x="{at[0]:.1f}" y="{at[1]:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self._shapes.append(f'<rect {place} fill="{colour}" rx="2"/>')

    def __str__(self) -> str:
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        paper = f'<rect width="{self.width}" height="{self.height}" fill="white"/>'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONT}">'
        return "\n".join([head, paper, *self._shapes, "</svg>", ""])
