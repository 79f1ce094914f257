"""The deadline of one logger: its consumer is woken when its requests were silent for too long.

Each heartbeat puts the deadline off, so an alarm that rings early is only set again. An alarm takes a fraction of the
memory of a cancel scope with a timer, which each look of a consumer would make anew.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.flow.gathering import Alarm
    from collector.jetstream.pull import Pull


class Deadline:
    """Wakes a pull at its deadline, or earlier when room has to be asked for again."""

    __slots__ = ("_alarm", "_asks_again_at", "_clock", "_pull", "_set_for")

    def __init__(self, pull: Pull, alarm: Alarm, clock: Callable[[], float]) -> None:
        self._pull: Pull | None = pull
        self._alarm = alarm
        self._clock = clock
        self._asks_again_at = math.inf
        self._set_for: tuple[float, ...] = ()
        """The times for which alarms are set, the next one first. A later one is never set beside an earlier one."""

    def watch(self, asks_again_within: float) -> None:
        """Take note that the deadline may be nearer than before, and that room is to be asked for in so many seconds.

        It never comes nearer between two calls.
        """
        self._asks_again_at = self._clock() + asks_again_within
        self._set()

    def end(self) -> None:
        """Wake nobody any more."""
        self._pull = None

    def _set(self) -> None:
        if self._pull is None:
            return
        due, now = min(self._pull.deadline, self._asks_again_at), self._clock()
        if due <= now:
            self._pull.wake()
        elif due < math.inf and (not self._set_for or due < self._set_for[0]):
            self._set_for = (due, *self._set_for)
            self._alarm(now, due - now, self._ring)

    def _ring(self) -> None:
        self._set_for = self._set_for[1:]
        self._set()
