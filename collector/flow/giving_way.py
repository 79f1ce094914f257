"""When a logger gives back what it cannot write, so that others find room for their next message.

In an outage of MongoDB giving back does not help: the next logger could not write either, and the messages would be
pulled again. So a logger gives way soon only while batches of other loggers are settled. While no batch is settled, the
cause is not known, and one logger gives way now and then, so that another one can try.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from collector.flow.pool import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

TRIAL = 30.0
"""Seconds that replace `PATIENCE` while no batch of any logger is settled."""
PROGRESS = 5.0
"""Seconds for which a settled batch shows that MongoDB takes writes: as long as between two checks."""


class GivingWay:
    """Decides which loggers of a replica have to give way, one after the other."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._settled_at = self._gave_way_at = -math.inf

    def settled(self) -> None:
        """Note that a batch of any logger was settled."""
        self._settled_at = self._clock()

    def has_come(self, stuck_since: float) -> bool:
        """Tell whether a logger that blocks others since `stuck_since` has to give way now; True counts as done."""
        now = self._clock()
        patience = PATIENCE if now - self._settled_at < PROGRESS else TRIAL
        if now - max(stuck_since, self._gave_way_at) < patience:
            return False
        self._gave_way_at = now
        return True
