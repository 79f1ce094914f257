"""Alarms: they wake the loggers of a replica whose batches are old enough, those of the same moment together."""

from __future__ import annotations

import asyncio
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_TICK = 0.02
"""Seconds within which loggers are woken together at most: one turn of the event loop writes all their batches."""
_PART = 16
"""An alarm rings too late by at most this part of its age."""
_LONG, _LONG_TICK = 20.0, 0.25
"""Seconds from which on an age is long, and within which loggers are woken together after such an age."""


class Alarms:
    """Rings for all loggers of a replica. It has no task: the event loop calls it when somebody is due."""

    def __init__(self, clock: Callable[[], float], tick: float | None = None) -> None:
        """With a `tick` they wake together within so many seconds, whatever the age is."""
        self._clock = clock
        self._tick = tick
        self._due: dict[float, list[Callable[[], None]]] = {}

    def set(self, begun: float, age: float, ring: Callable[[], None]) -> float:
        """See `Alarm`. It rings only while the event loop runs."""
        tick = self._tick or (min(_TICK, age / _PART) if age < _LONG else _LONG_TICK)
        when = ceil((begun + age) / tick) * tick
        if (due := self._due.get(when)) is not None:
            due.append(ring)
        else:
            self._due[when] = [ring]
            asyncio.get_running_loop().call_later(max(0.0, when - self._clock()), self._ring, when)
        return when

    def _ring(self, when: float) -> None:
        for ring in self._due.pop(when):
            ring()
