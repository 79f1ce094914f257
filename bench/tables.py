"""Figures as text: a table for each group, cut into several where the terminal is too narrow, and the thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.thresholds import THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.figures import Figure, Figures

_GAP = "  "
_MARKS = {True: "met", False: "NOT MET", None: "not measured"}


def group_tables(figures: Figures, width: int) -> Iterator[str]:
    """Make the tables of all groups: a line for each case, a column for each measure, medians with their spread."""
    for group in dict.fromkeys(figure.group for figure in figures):
        yield from _tables(group, [figure for figure in figures if figure.group == group], width)


def _tables(group: str, figures: list[Figure], width: int) -> Iterator[str]:
    cases = list(dict.fromkeys(figure.case for figure in figures))
    columns = []
    for measure in dict.fromkeys(figure.measure for figure in figures):
        cells = {figure.case: cell(figure) for figure in figures if figure.measure == measure}
        columns.append([measure, *(cells.get(case, "") for case in cases)])
    first = [group, *cases]
    room = width - _width(first)
    while columns:
        fitting = [columns.pop(0)]
        while columns and sum(_width(column) + len(_GAP) for column in [*fitting, columns[0]]) <= room:
            fitting.append(columns.pop(0))
        yield _text(first, fitting)


def _width(column: Sequence[str]) -> int:
    return max(map(len, column))


def _text(first: list[str], columns: list[list[str]]) -> str:
    """Lay out a table; lines that have nothing in these columns are left out."""
    lines = []
    for number, name in enumerate(first):
        cells = [column[number] for column in columns]
        if number == 0 or any(cells):
            padded = (f"{text:>{_width(column)}}" for text, column in zip(cells, columns, strict=True))
            lines.append(_GAP.join([f"{name:<{_width(first)}}", *padded]).rstrip())
    return "\n".join(lines)


def cell(figure: Figure) -> str:
    """Write a median with half its range in percent."""
    return f"{number(figure.median)} ±{figure.spread:.0%}"


def number(value: float) -> str:
    """Write a number with about three digits."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    decimals = next((places for places, limit in ((3, 1), (2, 10), (1, 100)) if abs(value) < limit), 0)
    return f"{value:.{decimals}f}"


def thresholds_table(figures: Figures) -> str:
    """Make the table of what has to be reached and what was, for the groups that were measured."""
    groups = {figure.group for figure in figures}
    rows = [("to reach", "wanted", "found", "")]
    for threshold in (one for one in THRESHOLDS if one.group in groups):
        found = threshold.found(figures)
        shown = "" if found is None else number(found)
        rows.append((threshold.what, threshold.wanted, shown, _MARKS[threshold.is_met(figures)]))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{what:<{widths[0]}}  {wanted:<{widths[1]}}  {found:>{widths[2]}}  {mark}".rstrip()
        for what, wanted, found, mark in rows
    )
