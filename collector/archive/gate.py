"""The gate: which messages may be acked, where the archive and another sink both have to have them. Pure.

The archive has all messages up to its cursor, and the other sink has single ones, in no order. The gate keeps nine
bytes of a message until both have it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Gate:
    """The messages that were received since a reset of the durable, and are not acked.

    Each method returns the sequences that may be acked now. Each is returned once, unless its message comes again.
    """

    def __init__(self, cursor: int) -> None:
        """Begin with a reset; the archive has all messages up to `cursor`."""
        self._cursor = cursor
        self._open = array("Q")
        """Received sequences above the cursor, rising."""
        self._written = bytearray()
        """Whether the other sink has each of them."""
        self._late = set[int]()
        """Received sequences up to the cursor that the other sink has not; it holds their messages."""

    @property
    def unacked(self) -> int:
        """How many messages the durable waits for, once all acks are worked off."""
        return len(self._open) + len(self._late)

    @property
    def missing(self) -> list[int]:
        """The received sequences that the other sink has not, rising."""
        waiting = [sequence for sequence, is_there in zip(self._open, self._written, strict=True) if not is_there]
        return sorted(self._late) + waiting

    def take(self, sequences: Sequence[int]) -> None:
        """Wait for messages that were received: in rising order, above all that were taken before."""
        late = bisect_right(sequences, self._cursor)
        self._late.update(sequences[:late])
        self._open.extend(sequences[late:])
        self._written.extend(bytes(len(sequences) - late))

    def archived(self, to: int) -> list[int]:
        """Note that the archive has all messages up to `to`."""
        self._cursor = max(self._cursor, to)
        end = bisect_right(self._open, to)
        both = [sequence for sequence, is_there in zip(self._open[:end], self._written, strict=False) if is_there]
        self._late.update(self._open[:end])
        self._late.difference_update(both)
        del self._open[:end], self._written[:end]
        return both

    def written(self, sequences: Iterable[int]) -> list[int]:
        """Note that the other sink has these messages, also when they were received before the reset."""
        both = []
        for sequence in sequences:
            if sequence <= self._cursor:
                self._late.discard(sequence)
                both.append(sequence)
            elif (place := bisect_left(self._open, sequence)) < len(self._open) and self._open[place] == sequence:
                self._written[place] = True
        return both

    def again(self, sequences: Iterable[int]) -> list[int]:
        """Return which of these messages, that were taken before and came again, are to be acked again."""
        return [sequence for sequence in sequences if sequence <= self._cursor and sequence not in self._late]
