"""The figures as one picture: the drains as bars beside their ceilings, and how cost grows as lines.

A thin line at the end of a bar, or through a point, goes from the lowest to the highest value of the rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.groups import ceiling, drain, growth
from bench.svg import FAINT, GRID, INK, Drawing
from bench.tables import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.figures import Figure, Figures
    from bench.plan import Plan
    from bench.svg import Point

_WIDTH, _MARGIN = 900, 24
_BAR, _BAR_GAP, _LABELS = 16, 8, 220
_PANEL_WIDTH, _PANEL_HEIGHT = 400, 190
_BLUE, _GREY, _GREEN, _AMBER = "#2b6cb0", "#cbd2d9", "#2f855a", "#b7791f"


def draw(figures: Figures, plan: Plan, title: str) -> str | None:
    """Return the picture as SVG, None when nothing was measured that it shows."""
    rates = [one for one in figures if one.group in {ceiling.NAME, drain.NAME} and one.measure == "entries/s"]
    panels = [panel for panel in _panels(figures, plan) if panel.points]
    if not rates and not panels:
        return None
    bars_height = 40 + len(rates) * (_BAR + _BAR_GAP) + _MARGIN if rates else 0
    rows = math.ceil(len(panels) / 2)
    drawing = Drawing(_WIDTH, 60 + bars_height + rows * (_PANEL_HEIGHT + 80))
    drawing.text((_MARGIN, 32), title, size=15)
    if rates:
        _draw_bars(drawing, rates, figures, 60)
    for place, panel in enumerate(panels):
        left = _MARGIN + (place % 2) * (_PANEL_WIDTH + 52)
        panel.draw(drawing, (left, 60 + bars_height + (place // 2) * (_PANEL_HEIGHT + 80)))
    return str(drawing)


def _draw_bars(drawing: Drawing, rates: Sequence[Figure], figures: Figures, top: float) -> None:
    drawing.text((_MARGIN, top), "Entries a second: ceilings and drains", size=13)
    room = _WIDTH - _MARGIN - _LABELS - 170
    most = max(max(rate.values) for rate in rates)
    for place, rate in enumerate(rates):
        y = top + 16 + place * (_BAR + _BAR_GAP)
        middle, end = y + _BAR / 2, _LABELS + room * rate.median / most
        is_ceiling = rate.group == ceiling.NAME
        drawing.text((_LABELS - 10, middle + 4), rate.case, anchor="end")
        drawing.bar((_LABELS, y), end - _LABELS, _BAR, _GREY if is_ceiling else _BLUE)
        drawing.line([(_LABELS + room * v / most, middle) for v in (min(rate.values), max(rate.values))], INK, 1.5)
        share = figures.find(rate.group, rate.case, "of ceiling")
        words = number(rate.median) + (f", {share.median:.2f} of its ceiling" if share else "")
        drawing.text((_LABELS + room * max(rate.values) / most + 8, middle + 4), words, colour=FAINT)


@dataclass(frozen=True, slots=True)
class _Panel:
    """One measure against a count, which goes up in powers of ten."""

    title: str
    points: list[tuple[int, Figure]]
    colour: str

    def draw(self, drawing: Drawing, corner: Point) -> None:
        left, top = corner[0] + 46, corner[1] + 20
        right, bottom = corner[0] + _PANEL_WIDTH, corner[1] + 20 + _PANEL_HEIGHT
        drawing.text((corner[0], corner[1]), self.title, size=13)
        step = _round_step(max(max(figure.values) for _, figure in self.points) / 4)
        for tick in range(5):
            y = bottom - (bottom - top) * tick / 4
            drawing.line([(left, y), (right, y)], GRID)
            drawing.text((left - 6, y + 4), f"{step * tick:,g}", size=11, anchor="end", colour=FAINT)
        first, last = (math.log10(self.points[place][0]) for place in (0, -1))

        def at(count: int, value: float) -> Point:
            across = (math.log10(count) - first) / (last - first or 1)
            return left + 14 + (right - left - 28) * across, bottom - (bottom - top) * value / (4 * step)

        drawing.line([at(count, figure.median) for count, figure in self.points], self.colour, 2)
        for count, figure in self.points:
            drawing.line([at(count, min(figure.values)), at(count, max(figure.values))], self.colour, 1.5)
            drawing.dot(at(count, figure.median), self.colour)
            drawing.text((at(count, 0)[0], bottom + 18), f"{count:,}", size=11, anchor="middle", colour=FAINT)


def _panels(figures: Figures, plan: Plan) -> list[_Panel]:
    measures = (
        ("entries a second", growth.RATE, _BLUE),
        ("collector's CPU, µs an entry", growth.COST, _AMBER),
        ("collector's peak memory, MiB", growth.MEMORY, _GREEN),
    )
    counted = (
        ("entries in the backlog", plan.backlogs, growth.of_backlog),
        ("loggers", plan.logger_counts, growth.of_loggers),
    )
    panels = []
    for what, measure, colour in measures:
        for over, counts, case in counted:
            found = [(count, figures.find(growth.NAME, case(count), measure)) for count in counts]
            points = [(count, figure) for count, figure in found if figure is not None]
            panels.append(_Panel(f"{what[0].upper()}{what[1:]}, over {over}", points, colour))
    return panels


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5, 10 times a power of ten that is not below."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least)
