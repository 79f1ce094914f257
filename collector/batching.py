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
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._deliveries)

    def add(self, opened: Opened) -> Trigger | None:
        """Add a delivery; return the limit that it reached, if it did."""
        self._deliveries.append(opened.delivery)
        self._entries += opened.entries
        self._rejects += opened.rejects
        self._bytes += opened.size
        if len(self._entries) + len(self._rejects) >= self._policy.entries:
            return Trigger.ENTRIES
        return Trigger.BYTES if self._bytes >= self._policy.bytes else None

    def take(self, trigger: Trigger) -> Batch:
        """Return what is there as a batch and begin the next one."""
        self._taken += 1
        batch = Batch(self._taken, self._deliveries, self._entries, self._rejects, self._bytes, trigger)
        self._clear()
        return batch
