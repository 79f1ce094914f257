"""The age of a batch follows the load: the more loggers of a replica are busy, the longer their batches wait. Pure.

A batch costs the same whatever is in it, so a replica writes about `BATCHES_PER_SECOND` batches a second, and longer
ages make them larger. The age never follows the batches, only the messages that come: so it cannot oscillate.
"""

from __future__ import annotations

import math
from random import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES_PER_SECOND = 100
"""Batches that busy loggers shall have in a second, all together."""
_GROWTH = 1.5
"""The age has grown when it is so many times the age of the batch before."""
_GROWN, _STEADY = 1.0, 0.1
"""Parts of an age that chance takes away at most: after the age has grown, and else."""
_LATE, _LATEST = 3.0, 3.0
"""The gaps, and the seconds, after the last message in which the next one is still expected."""


class BatchAge:
    """The age at which the batches of a replica leave.

    A logger is busy in a second in which a message of it came soon after the one before it, so that a longer age puts
    both into one batch. It counts once, however many messages come. A logger with an entry now and then is never busy.
    The loggers of this second and of the one before it are compared, and the larger number counts: the age rises with
    the load at once, and is the least one again in the second second after its end.
    """

    def __init__(self, least: float, most: float) -> None:
        """Have an age between `least` and `most`; where the least one is 0, or more than `most`, it is always that."""
        self.least = least
        self.most = max(least, most) if least else 0.0
        self._replicas = 1
        self._second = 0
        self._busy = self._busy_before = 0

    def at(self, now: float) -> float:
        """Return the age of a batch that begins now."""
        self._go_to(int(now))
        busy = max(self._busy, self._busy_before)
        return min(max(self.least, busy * self._replicas / BATCHES_PER_SECOND), self.most)

    def share(self, replicas: int) -> None:
        """Take so many replicas as living: each has a part of the loggers, and all write as many batches as one."""
        self._replicas = max(1, replicas)

    def count(self, second: int) -> None:
        """Count a logger that is busy in this second."""
        self._go_to(second)
        self._busy += 1

    def _go_to(self, second: int) -> None:
        if second != self._second:
            self._busy_before = self._busy if second == self._second + 1 else 0
            self._busy, self._second = 0, second


class LoggerAge:
    """The share of one logger in the age of all, and the age of its own batches.

    Loggers that become busy together would write together, again and again, and wait for each other. So an age above
    the least one is shortened at random: by any part when it has just grown, and later by little.
    """

    __slots__ = ("_came_at", "_chance", "_counted", "_gap", "_last", "_of_all")

    def __init__(self, of_all: BatchAge, chance: Callable[[], float] = random) -> None:
        """`chance` returns a number from 0 to 1."""
        self._of_all = of_all
        self._chance = chance
        self._came_at = -math.inf
        self._gap = math.inf
        """Seconds between messages, of late; infinite for a logger that is not busy."""
        self._counted = -1
        self._last = math.inf

    def came(self, now: float) -> None:
        """Take note of messages that came together."""
        gap = now - self._came_at
        self._came_at = now
        if gap > self._of_all.most:
            self._gap = math.inf
            return
        self._gap = gap if self._gap == math.inf else (self._gap + gap) / 2
        if (second := int(now)) != self._counted:
            self._counted = second
            self._of_all.count(second)

    @property
    def next_by(self) -> float:
        """When the next message is there if they go on to come as they did; in the past where nothing is expected.

        Nothing is expected by a replica with little to do, whose batches leave at the least age.
        """
        if self._gap == math.inf or not self._of_all.least < self._last < math.inf:
            return -math.inf
        return self._came_at + min(_LATE * self._gap, _LATEST)

    def at(self, now: float) -> float:
        """Return the age of a batch of this logger that begins now."""
        age, before = self._of_all.at(now), self._last
        self._last = age
        if age <= self._of_all.least:
            return age
        part = _GROWN if age > _GROWTH * before else _STEADY
        return max(age * (1 - part * self._chance()), self._of_all.least)
