"""Alarms: they wake the loggers of a replica whose batches are old enough, those of the same moment together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from collector.flow.ticks import end_of, next_tick

if TYPE_CHECKING:
    from collections.abc import Callable


class Alarms:
    """Rings for all loggers of a replica. It has no task: the event loop calls it when somebody is due."""

    def __init__(self, clock: Callable[[], float], tick: float | None = None) -> None:
        """With a `tick` they wake together within so many seconds, whatever the age is."""
        self._clock = clock
        self._tick = tick
        self._due: dict[float, list[Callable[[], None]]] = {}

    def set(self, begun: float, age: float, ring: Callable[[], None]) -> float:
        """See `Alarm`. It rings only while the event loop runs."""
        when = end_of(begun, age) if self._tick is None else next_tick(begun + age, self._tick)
        if (due := self._due.get(when)) is not None:
            due.append(ring)
        else:
            self._due[when] = [ring]
            asyncio.get_running_loop().call_later(max(0.0, when - self._clock()), self._ring, when)
        return when

    def _ring(self, when: float) -> None:
        for ring in self._due.pop(when):
            ring()
