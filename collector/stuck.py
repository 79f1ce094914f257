"""Messages that nobody is given any more: when that is certain enough to make their durable anew.

A message gets there by the `max_deliver` of a durable that somebody else made or changed: it stays in the stream, and
no pull brings it, also when the limit is lifted. nats-server keeps no list of them. Streams and durables are asked one
after the other, so that one number always is a moment older than the other; and a message that was just acked may still
be counted. What is stuck, though, stays, and stays the oldest.
"""

from __future__ import annotations

from dataclasses import dataclass

SIGHTINGS = 3
SETTLED = 5.0
"""Seconds between the first and the last sighting: the longest that an ack takes to reach all servers, and more."""
AGAIN = 600.0
"""Seconds after which the same is tried again: whoever loses the same message at once is not helped by more of it."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """What was seen of one logger."""

    durable: str
    """When the durable was made, as the server wrote it."""
    first_sequence: int
    """The oldest message of the stream."""
    messages: int
    """At least so many are given to nobody."""


def stuck_messages(*, delivered_sequence: int, ack_pending: int, messages: int, last_sequence: int) -> int:
    """Return how many messages are surely stuck, by the durable's numbers and, read after them, those of its stream.

    Of the stream's messages at most `last_sequence - delivered_sequence` had not been delivered yet, whatever was
    published meanwhile; the others were being worked on, or are stuck. What was acked meanwhile hides as many.
    """
    return max(0, messages - (last_sequence - delivered_sequence) - ack_pending)


@dataclass(slots=True)
class _Case:
    first: Stuck
    since: float
    sightings: int = 0
    acted_at: float | None = None


class Sightings:
    """Remembers what was seen, for each logger."""

    def __init__(self) -> None:
        self._cases: dict[str, _Case] = {}

    def add(self, key: str, stuck: Stuck, now: float) -> bool:
        """Note a sighting; return whether it is time to make the durable anew, which is then taken as done."""
        case = self._cases.get(key)
        if case is None or case.first.first_sequence != stuck.first_sequence:
            case = self._cases[key] = _Case(stuck, now)
        elif case.first.durable != stuck.durable:
            case.first, case.since, case.sightings = stuck, now, 0
        case.sightings += 1
        if case.sightings < SIGHTINGS or now - case.since < SETTLED:
            return False
        if case.acted_at is not None and now - case.acted_at < AGAIN:
            return False
        case.acted_at = now
        return True
