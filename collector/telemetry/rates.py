"""Entries a second, from the counts of the status: no entry or batch costs anything more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SPAN = 5.0
"""Seconds between two marks. A rate is that of the last one or two spans, or of a life that is shorter."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The entries of a logger so far."""

    received: int = 0
    written: int = 0


@dataclass(slots=True)
class _Marks:
    older: tuple[float, Counts]
    newer: tuple[float, Counts]


class Rates:
    """The rates of all loggers; `now` is the seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._marks: dict[str, _Marks] = {}

    def mark(self, now: float, counts: Mapping[str, Counts]) -> None:
        """Note the counts of all loggers; a logger without counts is forgotten."""
        for key in self._marks.keys() - counts.keys():
            del self._marks[key]
        for key, count in counts.items():
            marks = self._marks.get(key)
            if marks is None:
                self._marks[key] = _Marks((now, count), (now, count))
            elif now - marks.newer[0] >= SPAN:
                marks.older, marks.newer = marks.newer, (now, count)

    def of(self, key: str, now: float, counts: Counts) -> tuple[float, float]:
        """Return the entries received and written a second; 0 for a logger without a mark."""
        marks = self._marks.get(key)
        if marks is None or now <= marks.older[0]:
            return 0.0, 0.0
        since, before = marks.older
        took = now - since
        return (
            round((counts.received - before.received) / took, 1),
            round((counts.written - before.written) / took, 1),
        )
