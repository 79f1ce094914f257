"""Lines that were written a moment ago are counted and not written again. Pure: the caller has a clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

_T = TypeVar("_T")


@dataclass(slots=True)
class Repeated(Generic[_T]):
    """A span of time in which lines of one kind came again and again; `last` is the last of them, at `last_at`."""

    since: float
    last: _T
    last_at: float
    more: int = 0
    said: set[str] = field(default_factory=set)
    """The loggers whose lines were written."""
    kept: dict[str, None] = field(default_factory=dict)
    """The loggers whose lines were counted, in this order."""


class Repeats(Generic[_T]):
    """Has the first line of a kind written, for each of the first `whose` loggers, and counts further ones for a span.

    Lines that go on have one span after the other. A kind of which nothing was counted in a span is forgotten, so that
    only kinds that go on take memory.
    """

    def __init__(self, span: float, whose: int = 1) -> None:
        self._span = span
        self._whose = whose
        self._open: dict[Hashable, Repeated[_T]] = {}  # in the order of their beginnings

    def is_first(self, key: Hashable, what: _T, now: float, who: str = "") -> bool:
        """Tell whether to write a line now, or count it. Call `ended` before."""
        repeated = self._open.get(key)
        if repeated is None:
            repeated = self._open[key] = Repeated(now, what, now)
        repeated.last, repeated.last_at = what, now
        if who not in repeated.said and len(repeated.said) < self._whose:
            repeated.said.add(who)
            return True
        repeated.more += 1
        repeated.kept[who] = None
        return False

    def ended(self, now: float) -> list[Repeated[_T]]:
        """Return the spans that are over and in which lines were counted."""
        over = []
        for key, repeated in list(self._open.items()):
            if now - repeated.since < self._span:
                break
            del self._open[key]
            if repeated.more:
                over.append(repeated)
                self._open[key] = Repeated(now, repeated.last, repeated.last_at, said=repeated.said)
        return over

    def all(self) -> list[Repeated[_T]]:
        """Return all spans in which lines were counted, and forget everything."""
        left = [repeated for repeated in self._open.values() if repeated.more]
        self._open.clear()
        return left
