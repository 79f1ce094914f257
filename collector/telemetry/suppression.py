"""What was said a moment ago and need not be said again, but counted. Pure: the clock is whoever calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

_T = TypeVar("_T")


@dataclass(slots=True)
class Repeated(Generic[_T]):
    """A span in which the same was to be said again and again; `last` is how it was last to be said, at `last_at`."""

    since: float
    last: _T
    last_at: float
    more: int = 0
    said: set[str] = field(default_factory=set)
    """Of whom it was said."""
    kept: dict[str, None] = field(default_factory=dict)
    """Of whom it was kept quiet, in this order."""


class Repeats(Generic[_T]):
    """Lets the first of its kind through, of each of the first `whose`, and counts the others until its span has ended.

    What goes on has a span after the other. What has stopped is forgotten, so that memory is bounded by what goes on.
    """

    def __init__(self, span: float, whose: int = 1) -> None:
        self._span = span
        self._whose = whose
        self._open: dict[Hashable, Repeated[_T]] = {}  # in the order of their beginnings

    def is_first(self, key: Hashable, what: _T, now: float, who: str = "") -> bool:
        """Tell whether to say it now. Take what `ended` first."""
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
        """Return the spans that are over and in which something was kept quiet."""
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
        """Return all in which something was kept quiet, and forget everything."""
        left = [repeated for repeated in self._open.values() if repeated.more]
        self._open.clear()
        return left
