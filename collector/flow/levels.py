"""The messages and writes that loggers have in progress: they change with each batch, and are reported each second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.events import Held, WritesInProgress

if TYPE_CHECKING:
    from collector.events import Report
    from collector.flow.in_hand import InHand


class Levels:
    """The levels of all loggers of a replica, and those of them that have changed since they were reported."""

    def __init__(self) -> None:
        self._changed: dict[Level, None] = {}

    def open(self, key: str, in_hand: InHand) -> Level:
        """Return the level of a logger that begins to move entries."""
        return Level(key, in_hand, self._changed)

    def tell(self, report: Report) -> None:
        """Report each level that has changed."""
        changed = list(self._changed)
        self._changed.clear()
        for level in changed:
            level.tell(report)


class Level:
    """The messages that a logger has in hand, and its writes in progress."""

    __slots__ = ("_changed", "_in_hand", "_key", "_told", "writes")

    def __init__(self, key: str, in_hand: InHand, changed: dict[Level, None]) -> None:
        self.writes = 0
        self._key = key
        self._in_hand = in_hand
        self._changed = changed
        self._told = -1
        """The writes that were reported last."""

    def touch(self) -> None:
        """Take note that the level has changed."""
        self._changed[self] = None

    def tell(self, report: Report) -> None:
        """Report the level as it is now."""
        report(Held(self._key, len(self._in_hand), self._in_hand.memory_bytes))
        if self.writes != self._told:
            self._told = self.writes
            report(WritesInProgress(self._key, self.writes))

    def close(self, report: Report) -> None:
        """Report that the logger holds and writes nothing any more."""
        self._changed.pop(self, None)
        report(Held(self._key, 0, 0))
        report(WritesInProgress(self._key, 0))
