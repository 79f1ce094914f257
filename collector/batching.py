"""When a batch is full: by entries or by bytes. Pure: its age is the batcher's to watch."""

from __future__ import annotations

from dataclasses import dataclass

from collector.model import Batch, Delivery, Entry, Opened, Reject, Trigger


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When a batch leaves, whichever comes first."""

    entries: int
    bytes: int
    age: float


class Pending:
    """The batch that is being filled. A delivery stays whole, so the last one may take it over its limits."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._taken = 0
        self._clear()

    def _clear(self) -> None:
        self._deliveries: list[Delivery] = []
        self._entries: list[Entry] = []
        self._rejects: list[Reject] = []
        self._bytes = self._weight = 0

    def __bool__(self) -> bool:
        return bool(self._deliveries)

    @property
    def room(self) -> int:
        """How many entries more it takes to be full."""
        return self._policy.entries - len(self._entries) - len(self._rejects)

    def add(self, opened: Opened) -> Trigger | None:
        """Add deliveries, not more than there is room for unless it is one; return the limit that was reached."""
        self._deliveries += opened.deliveries
        self._entries += opened.entries
        self._rejects += opened.rejects
        self._bytes += opened.size
        self._weight += opened.weight
        if self.room <= 0:
            return Trigger.ENTRIES
        return Trigger.BYTES if self._bytes >= self._policy.bytes else None

    def take(self, trigger: Trigger) -> Batch:
        """Return what is there as a batch and begin the next one."""
        self._taken += 1
        batch = Batch(
            self._taken, self._deliveries, self._entries, self._rejects, self._bytes, trigger, weight=self._weight
        )
        self._clear()
        return batch
