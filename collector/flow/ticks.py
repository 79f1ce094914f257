"""Ticks: the moments at which a replica does together, in one turn of its event loop, what can wait. Pure.

A turn costs the same however little it does, and each replica has turns of its own. So what waits for a second is done
at few moments: batches leave, and the socket of NATS is read.
"""

from __future__ import annotations

from math import ceil, floor, log2

_PART = 12
"""A batch leaves too early or too late by at most this part of its age."""
_LONGEST = 1 / 16
"""Seconds from one tick to the next for ages of less than `_REST`."""
_REST, _LONGEST_AT_REST = 20.0, 1 / 4
"""Seconds from which on an age is long, and from one tick to the next for such ages."""
_AGE = 0.25
"""Seconds of an age from which on reads wait for ticks. An entry waits for its read, so its batch leaves earlier."""
_LATE = 2.0
"""Seconds of an age from which on a tick does not matter."""
_SHORT = 0.01
"""Seconds between two reads while batches leave sooner."""
LONGEST_WAIT = 1.5 * _LONGEST
"""Seconds between two reads at most: an answer of JetStream that comes meanwhile is late by as much."""


def tick_of(age: float) -> float:
    """Return the seconds from one tick to the next for batches of this age.

    It is the same for ages that differ by little, or else each batch would leave alone.
    """
    return min(float(2 ** floor(log2(age / _PART))), _LONGEST) if age < _REST else _LONGEST_AT_REST


def next_tick(moment: float, tick: float) -> float:
    """Return the first tick at this moment or after it."""
    return ceil(moment / tick) * tick


def end_of(begun: float, age: float) -> float:
    """Return the tick at which a batch leaves that began then and has this age."""
    tick = tick_of(age)
    end = next_tick(begun + age, tick)
    return end - tick if _AGE <= age < _LATE else end


def between_reads(now: float, age: float) -> float:
    """Return how long the next read may wait while messages trickle and batches have this age: a small part of it."""
    if age < _AGE:
        return min(_SHORT, age / 10)
    tick = min(tick_of(age), _LONGEST)
    return next_tick(now + tick / 2, tick) - now
