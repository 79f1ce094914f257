"""Stuck messages, which their durable delivers to nobody: when that is certain enough to make the durable anew.

A durable that somebody else made or changed may have a `max_deliver`. A message that reaches it stays in the stream
and is never delivered again, also when the limit is lifted. nats-server keeps no list of stuck messages. Their number
follows from those of the stream and of its durable, which are read one after the other: one is a moment older, and may
still count a message that was just acked. A stuck message, however, stays, and stays the oldest.
"""

from __future__ import annotations

from dataclasses import dataclass

SIGHTINGS = 3
SETTLED = 5.0
"""Seconds between the first and the last sighting of a row: longer than an ack takes to reach all servers."""
LAPSE = 60.0
"""Seconds between two sightings after which they are not of one row."""
AGAIN = 600.0
"""Seconds until a durable is made anew once more for the same message: more often would not help that message."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """The stuck messages of one logger in one reading."""

    durable: str
    """The time when the durable was made, as the server wrote it."""
    first_sequence: int
    """The sequence of the oldest message in the stream."""
    messages: int
    """A lower bound of their number."""


def stuck_messages(*, delivered_sequence: int, ack_pending: int, messages: int, last_sequence: int) -> int:
    """Return a lower bound of the stuck messages, from the durable's numbers and the stream's, which were read later.

    At most `last_sequence - delivered_sequence` messages of the stream had not been delivered, whatever was published
    between the two reads. All others were unanswered, or are stuck. Messages that were acked between the two reads are
    subtracted: under load stuck messages can be missed, and never invented.
    """
    return max(0, messages - (last_sequence - delivered_sequence) - ack_pending)


@dataclass(slots=True)
class _Row:
    """Sightings of the same oldest message of the same durable, each soon after the one before."""

    first: Stuck
    since: float
    last: float
    sightings: int = 0

    def is_continued(self, stuck: Stuck, now: float) -> bool:
        same = (stuck.durable, stuck.first_sequence) == (self.first.durable, self.first.first_sequence)
        return same and now - self.last <= LAPSE


class Sightings:
    """Remembers the row of sightings of each logger. A reading without stuck messages ends the row."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._acted: dict[str, tuple[int, float]] = {}
        """The oldest message of a logger at the time when its durable was made anew, and that time."""

    def add(self, key: str, stuck: Stuck, now: float) -> bool:
        """Note a sighting; return whether to make the durable anew, which is noted as done."""
        row = self._rows.get(key)
        if row is None or not row.is_continued(stuck, now):
            row = self._rows[key] = _Row(stuck, now, now)
        row.last, row.sightings = now, row.sightings + 1
        if row.sightings < SIGHTINGS or now - row.since < SETTLED or self._is_acted(key, stuck, now):
            return False
        self._acted[key] = stuck.first_sequence, now
        return True

    def over(self, key: str) -> None:
        """Note a reading without stuck messages, or one that another fault of the durable explains."""
        self._rows.pop(key, None)

    def _is_acted(self, key: str, stuck: Stuck, now: float) -> bool:
        sequence, at = self._acted.get(key, (stuck.first_sequence, -AGAIN))
        return sequence == stuck.first_sequence and now - at < AGAIN
