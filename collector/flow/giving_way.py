"""When a logger gives back what it cannot write, so that others find room for their next message.

In an outage of MongoDB this helps nobody: whoever got the room could not write either, and what was given back would be
pulled again. So a logger gives way soon only while the batches of others are settled. Where nothing is settled nobody
knows whose fault that is, and a single one gives way now and then, so that another can try.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from collector.flow.pool import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

TRIAL = 120.0
"""Seconds that stand for `PATIENCE` while nothing of any logger is settled."""
PROGRESS = 5.0
"""Seconds for which a batch that was settled shows that MongoDB takes writes: as long as between two looks."""


class GivingWay:
    """Gives the loggers of a replica their turns to give way, one after the other."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._settled_at = self._gave_way_at = -math.inf

    def settled(self) -> None:
        """Take note that a batch of any logger was settled."""
        self._settled_at = self._clock()

    def has_come(self, stuck_since: float) -> bool:
        """Whether it is the turn of a logger that has been in the way since then; its turn is over with this answer."""
        now = self._clock()
        patience = PATIENCE if now - self._settled_at < PROGRESS else TRIAL
        if now - max(stuck_since, self._gave_way_at) < patience:
            return False
        self._gave_way_at = now
        return True
