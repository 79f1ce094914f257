"""Entries a second, from the counts of the status: no entry or batch costs anything more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """The rates of all loggers; `now` is the seconds of a clock that never goes back.

    Only a logger that counts something has marks: those that rest cost nothing.
    """

    def __init__(self) -> None:
        self._marks: dict[str, _Marks] = {}
        self._marked_at: float | None = None

    def begin(self, key: str, counts: Counts) -> None:
        """Take the counts of a logger that is about to count more as those at the last `mark`, unless it has marks."""
        if self._marked_at is not None and key not in self._marks:
            self._marks[key] = _Marks((self._marked_at, counts), (self._marked_at, counts))

    def mark(self, now: float, counts_of: Callable[[str], Counts | None]) -> None:
        """Note the counts of all loggers that counted something lately; None for one that is gone."""
        self._marked_at = now
        for key, marks in list(self._marks.items()):
            counts = counts_of(key)
            quiet = counts == marks.older[1] and now - marks.newer[0] >= SPAN
            if counts is None or quiet:
                del self._marks[key]
            elif now - marks.newer[0] >= SPAN:
                marks.older, marks.newer = marks.newer, (now, counts)

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
