"""The values that flow through a pipeline: deliveries of JetStream, entries, rejects and batches."""

from __future__ import annotations

from enum import StrEnum
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bson import ObjectId


class Reason(StrEnum):
    """Why an entry is a dead letter: a closed list, the label of a metric and a field of the dead letter.

    No entry gets EXHAUSTED or OTHER; the metric's labels have them.
    """

    MALFORMED = "malformed"
    TOO_LARGE_INFLATED = "too_large_inflated"
    RULE = "rule"
    DOCUMENT_INVALID = "document_invalid"
    DOCUMENT_TOO_LARGE = "document_too_large"
    DUPLICATE_KEY = "duplicate_key"
    EXHAUSTED = "exhausted"
    OTHER = "other"


class Trigger(StrEnum):
    """Why a batch left the batcher."""

    ENTRIES = "entries"
    BYTES = "bytes"
    AGE = "age"
    DRAIN = "drain"


# Deliveries and entries are made for every message: a msgspec.Struct costs a tenth of a frozen dataclass. With
# `gc=False` the garbage collector passes over them, because they are never part of a cycle.


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One hand-over of a message by JetStream, still unanswered."""

    subject: str
    reply: str
    """The subject that the answer is published to."""
    body: bytes
    raw_headers: bytes
    """The unchanged header block from `NATS/1.0` to the empty line; empty when the message has no headers."""
    stream: str
    sequence: int
    """The sequence of the message in its stream."""
    num_delivered: int
    published_ns: int
    """When the stream stored the message, in nanoseconds since 1970, by the server's clock."""

    @property
    def size(self) -> int:
        """The bytes of body and headers in memory."""
        return len(self.body) + len(self.raw_headers)


class Envelope(msgspec.Struct, gc=False):
    """An entry after decoding, before it is a document. Unknown fields on the wire are ignored."""

    data: dict[str, Any]
    timestamp: Any = None
    metadata: Any = None
    id: Any = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry, decoded into its document. `document["_id"]` is its identity."""

    delivery: Delivery
    position: int | None
    """The position in its bundle, from 0; None when the message is the entry."""
    document: dict[str, Any]
    own_id: bool
    """Whether the `_id` is the publisher's own field `data._id`, so that a duplicate need not be the same entry."""


class Refusal(msgspec.Struct, frozen=True):
    """An entry that the sink can never take."""

    entry: Entry
    reason: Reason
    error: str
    """One sentence (expected, got, where), which is kept with the dead letter and not logged."""


class Rejected(msgspec.Struct, frozen=True):
    """One entry that can never be stored, or a whole message that cannot be decoded (position None)."""

    delivery: Delivery
    position: int | None
    identity: ObjectId
    """The entry's own identity, under which its dead letter is kept once."""
    reason: Reason
    error: str
    """One sentence (expected, got, where) without the payload."""
    body: bytes
    """The original bytes of the entry in its bundle, or else the unchanged body of the message."""


class Dropped(msgspec.Struct, frozen=True, gc=False):
    """One entry that a rule of the logger's spec dropped on purpose."""

    delivery: Delivery
    rule: str


class Decoded(msgspec.Struct, frozen=True):
    """Deliveries that were decoded together, and the fates of their entries so far.

    Either one delivery with all its entries, or several deliveries of exactly one entry each. Entries, rejects and
    dropped entries are each in the order of their deliveries.
    """

    deliveries: list[Delivery]
    entries: list[Entry]
    rejects: list[Rejected]
    size: int
    """The inflated bytes of the entries, which may be far more than the received bytes."""
    weight: int = 0
    """The estimated bytes that the entries take in memory."""
    dropped: list[Dropped] = []

    @property
    def total(self) -> int:
        """How many entries the deliveries hold, whatever became of them."""
        return len(self.entries) + len(self.rejects) + len(self.dropped)

    def cut(self, count: int) -> tuple[Decoded, Decoded | None]:
        """Return the first `count` deliveries and the others; a single delivery is never cut."""
        total = len(self.deliveries)
        if total <= count or total == 1:
            return self, None
        first, others = self.deliveries[:count], self.deliveries[count:]
        size, weight = self.size * count // total, self.weight * count // total
        if len(self.entries) == total:
            part = Decoded(first, self.entries[:count], [], size, weight)
            return part, Decoded(others, self.entries[count:], [], self.size - size, self.weight - weight)
        part = self._of(first, size, weight)
        return part, self._of(others, self.size - size, self.weight - weight)

    def singly(self) -> list[Decoded]:
        """Return each delivery on its own; sizes and weights add up to the present ones."""
        total = len(self.deliveries)
        if total == 1:
            return [self]
        sizes, weights = _shares(self.size, total), _shares(self.weight, total)
        if len(self.entries) < total:
            return self._sorted(sizes, weights)
        lone = zip(self.deliveries, self.entries, strict=True)
        return [Decoded([delivery], [entry], [], next(sizes), next(weights)) for delivery, entry in lone]

    def _sorted(self, sizes: Iterator[int], weights: Iterator[int]) -> list[Decoded]:
        """Return each delivery on its own; some have no entry to be stored."""
        lone = {id(one): Decoded([one], [], [], next(sizes), next(weights)) for one in self.deliveries}
        for entry in self.entries:
            lone[id(entry.delivery)].entries.append(entry)
        for reject in self.rejects:
            lone[id(reject.delivery)].rejects.append(reject)
        for dropped in self.dropped:
            lone[id(dropped.delivery)].dropped.append(dropped)
        return list(lone.values())

    def _of(self, deliveries: list[Delivery], size: int, weight: int) -> Decoded:
        """Return some of the deliveries, some of which have no entry to be stored."""
        these = {id(delivery) for delivery in deliveries}
        entries = [entry for entry in self.entries if id(entry.delivery) in these]
        rejects = [reject for reject in self.rejects if id(reject.delivery) in these]
        dropped = [one for one in self.dropped if id(one.delivery) in these]
        return Decoded(deliveries, entries, rejects, size, weight, dropped)


def _shares(whole: int, count: int) -> Iterator[int]:
    """Divide a whole into equal parts; the first part has the remainder too."""
    part, left_over = divmod(whole, count)
    return chain([part + left_over], repeat(part, count - 1))


class Batch(msgspec.Struct, frozen=True):
    """Deliveries and entries that are written together. A delivery is never split over two batches."""

    id: int
    """The number of the batch within its pipeline, for the log."""
    deliveries: list[Delivery]
    entries: list[Entry]
    rejects: list[Rejected]
    bytes: int
    """The inflated bytes of its entries."""
    trigger: Trigger
    weight: int = 0
    """The estimated bytes that its entries take in memory."""
    dropped: list[Dropped] = []
