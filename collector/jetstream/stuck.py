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
LAPSE = 60.0
"""Seconds between two sightings with which they are not in a row any more."""
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
class _Row:
    """Sightings in a row: of the same oldest message of the same durable, each soon after the one before."""

    first: Stuck
    since: float
    last: float
    sightings: int = 0

    def is_continued(self, stuck: Stuck, now: float) -> bool:
        same = (stuck.durable, stuck.first_sequence) == (self.first.durable, self.first.first_sequence)
        return same and now - self.last <= LAPSE


class Sightings:
    """Remembers what was seen in a row, for each logger; a reading that sees nothing ends the row."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._acted: dict[str, tuple[int, float]] = {}
        """The oldest message for which a durable was made anew, and when."""

    def add(self, key: str, stuck: Stuck, now: float) -> bool:
        """Note a sighting; return whether it is time to make the durable anew, which is then taken as done."""
        row = self._rows.get(key)
        if row is None or not row.is_continued(stuck, now):
            row = self._rows[key] = _Row(stuck, now, now)
        row.last, row.sightings = now, row.sightings + 1
        if row.sightings < SIGHTINGS or now - row.since < SETTLED or self._is_acted(key, stuck, now):
            return False
        self._acted[key] = stuck.first_sequence, now
        return True

    def over(self, key: str) -> None:
        """Note a reading in which nothing was stuck, or something else explained it."""
        self._rows.pop(key, None)

    def _is_acted(self, key: str, stuck: Stuck, now: float) -> bool:
        sequence, at = self._acted.get(key, (stuck.first_sequence, -AGAIN))
        return sequence == stuck.first_sequence and now - at < AGAIN
