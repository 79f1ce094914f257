"""When the messages of one logger that have come are worth waking its consumer. Pure; an alarm watches their age."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.flow.batch_age import LoggerAge

_EARLY = 0.002
"""Seconds that an alarm may ring too early: the timers of an event loop count milliseconds."""


class Alarm(Protocol):
    """Rings once, soon after the end of an age."""

    def __call__(self, begun: float, age: float, ring: Callable[[], None]) -> float:
        """Return when it rings: soon after the end of the age, with those that end at nearly the same time."""


@dataclass(frozen=True, slots=True)
class Enough:
    """The messages and bytes that are surely worth a batch."""

    messages: int
    bytes: int


class Gathering:
    """Gathers the messages of one logger until there are enough for a batch, or the first of them is old enough.

    The age of a batch begins when its first message comes. Messages that are taken before its end, and do not fill a
    batch, wait on in the open batch of the batcher until the same end.
    """

    __slots__ = (
        "_age",
        "_alarm",
        "_bytes",
        "_came",
        "_clock",
        "_end",
        "_enough",
        "_is_armed",
        "_is_expecting",
        "_is_missed",
        "_late_alarm",
        "_messages",
        "_most",
        "_wake",
    )

    def __init__(
        self,
        age: LoggerAge,
        enough: Enough,
        clock: Callable[[], float],
        alarm: Alarm,
        wake: Callable[[], None],
        *,
        late_alarm: Alarm | None = None,
    ) -> None:
        """`late_alarm` may ring later than `alarm`; without it nothing is expected."""
        self._age = age
        self._most = self._enough = enough
        self._clock = clock
        self._alarm = alarm
        self._late_alarm = late_alarm
        self._wake = wake
        self._end = math.inf
        """When the age of the batch is over; infinite while nothing waits."""
        self._is_armed = False
        self._messages = self._bytes = 0
        self._came = 0
        self._is_expecting = self._is_missed = False

    @property
    def waits(self) -> bool:
        """Whether the end of an age will wake the consumer."""
        return self._end < math.inf

    def came(self, messages: int, size: int, now: float) -> bool:
        """Count messages that have come; return whether the consumer is to be woken at once."""
        self._age.came(now)
        self._came += 1
        self._messages += messages
        self._bytes += size
        if self._end == math.inf:
            self._begin(now)
        return self._is_enough or now >= self._end

    def taken(self) -> bool:
        """Count the messages as taken; return whether all that is not written yet is old enough to leave."""
        now, enough = self._clock(), self._is_enough
        self._messages = self._bytes = 0
        if now >= self._end - _EARLY:
            self._end = math.inf
            return True
        if enough:  # full batches leave, and the age of the rest begins
            self._begin(now)
        return False

    def expects(self) -> bool:
        """Tell whether a message is expected soon. When it does not come in time, the consumer is woken."""
        now, came = self._clock(), self._came
        left = self._age.next_by - now
        if left <= 0 or self._late_alarm is None:
            return False

        def look() -> None:
            if self._came == came:
                self.miss()

        self._is_expecting = True
        self._late_alarm(now, left, look)
        return True

    def miss(self) -> None:
        """Wait no longer for the message that is expected; the consumer is woken for that."""
        if self._is_expecting:
            self._is_expecting, self._is_missed = False, True
            self._wake()

    def missed(self) -> bool:
        """Tell, once, whether an expected message did not come."""
        missed, self._is_missed = self._is_missed, False
        return missed

    def left(self) -> None:
        """Take note that all that was taken leaves now; the alarm wakes nobody for it."""
        if not self._messages:
            self._end = math.inf

    def learn(self, messages: int, entries: int) -> None:
        """Learn from the last messages how many of them hold the entries of a batch."""
        if messages:
            self._enough = Enough(max(1, self._most.messages * messages // max(messages, entries)), self._most.bytes)

    @property
    def _is_enough(self) -> bool:
        return self._messages >= self._enough.messages or self._bytes >= self._enough.bytes

    def _begin(self, now: float) -> None:
        age = self._age.at(now)
        self._end = now + age
        if age and not self._is_armed:
            self._is_armed = True
            self._end = self._alarm(now, age, self._ring)

    def _ring(self) -> None:
        self._is_armed = False
        if (now := self._clock()) >= self._end - _EARLY:
            self._wake()
        elif self._end < math.inf:  # the batch for which it was set has left before
            self._is_armed = True
            self._end = self._alarm(now, self._end - now, self._ring)
