"""Ticks: the moments at which a replica does together, in one turn of its event loop, what can wait. Pure.

A turn costs the same however little it does, and each replica has turns of its own. So what waits for a second is done
at few moments: the socket of NATS is read, and batches leave.
"""

from __future__ import annotations

from math import ceil, floor, log2

_AGE = 0.25
"""Seconds of an age from which on reads wait for ticks. An entry waits for its read, so its batch leaves earlier."""
_LATE = 2.0
"""Seconds of an age from which on a tick does not matter."""
_PART, _PART_WITH_READS = 12, 3.5
"""A tick is at most this part of an age: for ages of less than `_AGE`, and for others."""
_LONGEST = 1 / 4
"""Seconds from one tick to the next at most."""
_AFTER = 1 / 8
"""The part of a tick after which batches leave: until then the read of that tick has brought its messages."""
_SHORT = 0.01
"""Seconds between two reads while batches leave sooner."""
_PAUSE = 1 / 8
"""The part of a tick that passes between two reads at least: a read takes a while."""
LONGEST_WAIT = (1 + _PAUSE) * _LONGEST
"""Seconds between two reads at most: an answer of JetStream that comes meanwhile is late by as much."""


def tick_of(age: float) -> float:
    """Return the seconds from one tick to the next for batches of this age.

    It is the same for ages that differ by little, or else each batch would leave alone.
    """
    part = _PART if age < _AGE else _PART_WITH_READS
    return min(float(2 ** floor(log2(age / part))), _LONGEST)


def next_tick(moment: float, tick: float) -> float:
    """Return the first tick at this moment or after it."""
    return ceil(moment / tick) * tick


def end_of(begun: float, age: float) -> float:
    """Return when a batch leaves that began then and has this age: all of a tick together.

    Where reads wait for ticks, the first entry may have waited for a whole one, and the batch leaves after the read
    of the tick at which its age is nearly over.
    """
    tick = tick_of(age)
    if not _AGE <= age < _LATE:
        return next_tick(begun + age, tick)
    return (floor(begun / tick) + round(age / tick) - 1 + _AFTER) * tick


def between_reads(now: float, age: float) -> float:
    """Return how long the next read may wait while messages trickle and batches have this age: a part of it."""
    if age < _AGE:
        return min(_SHORT, age / 10)
    tick = tick_of(age)
    return next_tick(now + tick * _PAUSE, tick) - now
