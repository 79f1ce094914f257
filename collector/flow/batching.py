"""A batch while it is filled, and when it is full: by entries or by bytes. Pure: its age is the batcher's to watch."""

from __future__ import annotations

from dataclasses import dataclass

from collector.model import Batch, Decoded, Delivery, Entry, Rejected, Trigger


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When a batch leaves, whichever comes first."""

    entries: int
    bytes: int
    age: float


class OpenBatch:
    """A batch that is filled until it is full or taken. A delivery stays whole: the last may take it over its limits.

    It is offered to the writer when it is full or old enough, and taken when it can be written: what comes meanwhile
    goes with it. So a writer that is behind writes fewer batches, and larger ones.
    """

    def __init__(self, number: int, policy: BatchPolicy) -> None:
        self.id = number
        self.offered: Trigger | None = None
        """Why it was, before it was full."""
        self.taken = False
        self._policy = policy
        self._hold_nothing()

    def _hold_nothing(self) -> None:
        self._deliveries: list[Delivery] = []
        self._entries: list[Entry] = []
        self._rejects: list[Rejected] = []
        self._bytes = self._weight = 0

    def __bool__(self) -> bool:
        return bool(self._deliveries)

    @property
    def room(self) -> int:
        """How many entries more it takes to be full."""
        return self._policy.entries - len(self._entries) - len(self._rejects)

    @property
    def full(self) -> Trigger | None:
        """The limit that is reached."""
        if self.room <= 0:
            return Trigger.ENTRIES
        return Trigger.BYTES if self._bytes >= self._policy.bytes else None

    def add(self, decoded: Decoded) -> None:
        """Add deliveries, not more than there is room for unless it is one."""
        self._deliveries += decoded.deliveries
        self._entries += decoded.entries
        self._rejects += decoded.rejects
        self._bytes += decoded.size
        self._weight += decoded.weight

    def take(self) -> Batch:
        """Return what is there as a batch, and hold it no more. Nothing may be added then."""
        self.taken = True
        why = self.full or self.offered or Trigger.DRAIN
        batch = Batch(self.id, self._deliveries, self._entries, self._rejects, self._bytes, why, weight=self._weight)
        self._hold_nothing()  # else who filled it keeps it until more comes, which may be never
        return batch
