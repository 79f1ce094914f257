"""The bytes that came lately: they decide how much a logger may borrow."""

from __future__ import annotations


class Flow:
    """Bytes that came in this second and in the one before it."""

    __slots__ = ("_before", "_now", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._now = 0
        self._before = 0

    def add(self, size: int, second: int) -> None:
        """Count `size` bytes that came in this second."""
        self._advance(second)
        self._now += size

    def recent(self, second: int) -> int:
        """Return the bytes of this second and the one before it."""
        self._advance(second)
        return self._before + self._now

    def _advance(self, second: int) -> None:
        if second != self._second:
            self._before = self._now if second == self._second + 1 else 0
            self._now, self._second = 0, second
