"""A batch while it is filled, and when it is full: by entries or by bytes. Pure: `gathering.py` watches its age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from collector.model import Batch, Decoded, Delivery, Dropped, Entry, Rejected, Trigger


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """The limits of a batch: it leaves when it reaches the first of them."""

    entries: int
    bytes: int


class HandedOn(NamedTuple):
    """Decoded deliveries on their way from the consumer to the batcher."""

    decoded: list[Decoded]
    leaves: bool
    """Whether they leave at once, with all that waits in the open batch."""


class OpenBatch:
    """A batch that is filled until it is full or taken. A delivery stays whole: the last one may exceed the limits.

    The batch is offered to the writer when it is full or old enough, and taken when it can be written. Deliveries that
    come between go with it. So a writer that is behind writes fewer batches, and larger ones.
    """

    def __init__(self, number: int, policy: BatchPolicy) -> None:
        self.id = number
        self.offered: Trigger | None = None
        """Why the batch was offered before it was full."""
        self.taken = False
        self._policy = policy
        self._hold_nothing()

    def _hold_nothing(self) -> None:
        self._deliveries: list[Delivery] = []
        self._entries: list[Entry] = []
        self._rejects: list[Rejected] = []
        self._dropped: list[Dropped] = []
        self._bytes = self._weight = 0

    def __bool__(self) -> bool:
        return bool(self._deliveries)

    @property
    def room(self) -> int:
        """How many more entries the batch takes until it is full."""
        return self._policy.entries - len(self._entries) - len(self._rejects) - len(self._dropped)

    @property
    def full(self) -> Trigger | None:
        """The limit that the batch has reached, if any."""
        if self.room <= 0:
            return Trigger.ENTRIES
        return Trigger.BYTES if self._bytes >= self._policy.bytes else None

    def add(self, decoded: Decoded) -> None:
        """Add deliveries: not more than there is room for, or a single one."""
        self._deliveries += decoded.deliveries
        self._entries += decoded.entries
        self._rejects += decoded.rejects
        self._dropped += decoded.dropped
        self._bytes += decoded.size
        self._weight += decoded.weight

    def take(self) -> Batch:
        """Return the deliveries as a batch and hold them no more. After this nothing may be added."""
        self.taken = True
        why = self.full or self.offered or Trigger.DRAIN
        batch = Batch(
            self.id, self._deliveries, self._entries, self._rejects, self._bytes, why, self._weight, self._dropped
        )
        self._hold_nothing()  # else the batcher keeps the deliveries until the next one comes, which may be never
        return batch
