"""Whether stream and durable are still those that were checked.

A stream that was made anew has the name of the old one, and its messages have the same reply subjects. There an answer
to an old message would settle a new message, which nobody has written. So an answer waits until it is certain that the
stream is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

UNWATCHED = 1.0
"""Seconds without an outstanding request after which stream and durable may have been replaced. Only an outstanding
request is told by the server that they were deleted. In less time nobody can make them anew, fill the stream, and be
given a message of it."""


class _State(NamedTuple):
    life: int
    """Of the connection."""
    doubts: int
    gaps: int
    """How often there was no outstanding request, however shortly."""


class Certainty:
    """Knows whether one logger's stream and durable are those of the last check; before the first check nothing is."""

    __slots__ = ("_clock", "_doubts", "_found", "_gaps", "_life", "_looked_from", "_looked_life", "_watched_until")

    def __init__(self, life: Callable[[], int], clock: Callable[[], float]) -> None:
        self._life = life
        self._clock = clock
        self._doubts = self._gaps = 0
        self._looked_from: _State | None = None
        self._found: _State | None = None
        self._watched_until = clock()
        self._looked_life = life()

    @property
    def _now(self) -> _State:
        return _State(self._life(), self._doubts, self._gaps)

    def doubt(self) -> None:
        """Note that a status or a message has come after which nothing is certain."""
        self._doubts += 1

    def watched(self) -> None:
        """Note that a request was outstanding until now."""
        self._watched_until = self._clock()

    def gap(self) -> None:
        """Note that a request begins after a time without one."""
        if not self._is_watched:
            self.doubt()
        self._gaps += 1

    def begin_check(self) -> None:
        """Begin a check; a doubt, a gap or a new connection before `end_check` makes it worthless."""
        self._looked_from = self._now
        self._looked_life = self._life()

    @property
    def is_new_connection(self) -> bool:
        """Whether no check was begun since the connection was made."""
        return self._looked_life != self._life()

    def end_check(self) -> None:
        """End a check that has found the same stream, and the durable in it."""
        self._found = self._looked_from
        self.watched()

    @property
    def of_deliveries(self) -> bool:
        """Whether the received deliveries are of the stream that was checked."""
        return self._found == self._now

    def of_answers(self, *, watched: bool) -> bool:
        """Whether answers reach the stream that was checked; `watched` says that a request is outstanding."""
        now, found = self._now, self._found
        same = found is not None and (found.life, found.doubts) == (now.life, now.doubts)
        return same and (watched or self._is_watched)

    @property
    def _is_watched(self) -> bool:
        return self._clock() - self._watched_until <= UNWATCHED
