"""Whether stream and durable still are those that somebody has looked at.

A stream that was made anew has the name of the old one, and its messages have the same reply subjects. An answer to an
old message would be taken as one to a new message, which nobody has written. So an answer waits until it is certain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

UNWATCHED = 1.0
"""Seconds without an outstanding request after which stream and durable may be others for an answer. The server tells
only whoever has a request outstanding that they are deleted; and in less time nobody notices that they are gone, makes
them anew, fills the stream, and is given a message of it."""


class _State(NamedTuple):
    life: int
    """Of the connection."""
    doubts: int
    gaps: int
    """Times without an outstanding request, however short."""


class Certainty:
    """What is certain about one logger's stream and durable; nothing is before the first look."""

    def __init__(self, life: Callable[[], int], clock: Callable[[], float]) -> None:
        self._life = life
        self._clock = clock
        self._doubts = self._gaps = 0
        self._looked_from: _State | None = None
        self._found: _State | None = None
        self._watched_until = clock()

    @property
    def _now(self) -> _State:
        return _State(self._life(), self._doubts, self._gaps)

    def doubt(self) -> None:
        """Take note of a word of the server, or of a message, after which nothing is certain."""
        self._doubts += 1

    def watched(self) -> None:
        """Take note that a request was outstanding until now."""
        self._watched_until = self._clock()

    def gap(self) -> None:
        """Take note that a request begins after a time without one."""
        if not self._is_watched:
            self.doubt()
        self._gaps += 1

    def begin_check(self) -> None:
        """Say that a look begins: what is heard, or connected anew, before its answer makes it worth nothing."""
        self._looked_from = self._now

    def end_check(self) -> None:
        """Say that the look has found the same stream, and that the durable is there."""
        self._found = self._looked_from
        self.watched()

    @property
    def of_deliveries(self) -> bool:
        """Whether what has come is of the stream that was looked at."""
        return self._found == self._now

    def of_answers(self, *, watched: bool) -> bool:
        """Whether what is answered is of that stream; `watched` says that a request is outstanding."""
        now, found = self._now, self._found
        same = found is not None and (found.life, found.doubts) == (now.life, now.doubts)
        return same and (watched or self._is_watched)

    @property
    def _is_watched(self) -> bool:
        return self._clock() - self._watched_until <= UNWATCHED
