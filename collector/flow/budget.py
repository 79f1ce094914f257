"""The bytes that a replica may hold, over all its loggers, in two pools.

One pool is for messages that are requested or received. The other one is for their decoded entries, which may take many
times as much. There are two, so that received messages never take the room in which they have to be decoded.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from collector.flow.giving_way import GivingWay
from collector.flow.pool import Pool
from collector.runtime.lasting import Lasting

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class Accounts:
    """Both accounts of one logger."""

    __slots__ = ("_budget", "decoded", "received")

    def __init__(self, budget: Budget, on_room: Callable[[], None]) -> None:
        self._budget = budget
        self.received = budget.received.open(on_room)
        """For requests, and for messages in hand."""
        self.decoded = budget.decoded.open(on_room)
        """For the decoded entries of messages in hand."""

    def has_to_give_way(self) -> bool:
        """Whether the logger has to give back now what it holds; only loggers that hold something ask."""
        stuck_since = [one.freed_at for one in (self.received, self.decoded) if one.blocks_others]
        return bool(stuck_since) and self._budget.giving_way.has_come(min(stuck_since))

    @property
    def asks_again_within(self) -> float:
        """Seconds after which the logger has to ask for room again; infinite while it waits for none."""
        return min([one.asks_again_within for one in (self.received, self.decoded) if one.is_waiting], default=math.inf)

    def settled(self) -> None:
        """Take note that a batch was settled."""
        self._budget.giving_way.settled()

    def close(self) -> None:
        """Give everything back."""
        self.received.close()
        self.decoded.close()


class Budget:
    """The ceiling of one replica."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.received = Pool(limit // 4, clock, most_excess=0)
        self.decoded = Pool(limit - self.received.limit, clock)
        self.giving_way = GivingWay(clock)
        self._begin, self._end = self._expect_one_more, self._expect_one_less

    @property
    def used(self) -> int:
        """Return the bytes that are used of both pools."""
        return self.received.used + self.decoded.used

    def expecting(self) -> AbstractContextManager[None]:
        """Count a logger in the division of both pools while the block lasts, before its accounts open.

        When many loggers start at once, the guarantees are divided by all of them from the start. Else the first ones
        would request too much, and those bytes return only when the requests expire.
        """
        return Lasting(self._begin, self._end, None, None)

    def _expect_one_more(self, _: None) -> None:
        for pool in (self.received, self.decoded):
            pool.expect(+1)

    def _expect_one_less(self, _: None) -> None:
        for pool in (self.received, self.decoded):
            pool.expect(-1)

    def open(self, on_room: Callable[[], None]) -> Accounts:
        """Open the accounts of a logger; `on_room` is called when one of them was refused and there is room now."""
        return Accounts(self, on_room)
