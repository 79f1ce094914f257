"""The nouns that flow through a pipeline: what comes in from JetStream, what goes to MongoDB, what became of it."""

from __future__ import annotations

from enum import StrEnum
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bson import ObjectId


class Reason(StrEnum):
    """Why an entry is a dead letter: a closed list, the label of a metric and a field of the letter."""

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


# One of each is made for every message: a msgspec.Struct costs a tenth of a frozen dataclass. None is part of a cycle.


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One hand-over of a message by JetStream, still unanswered."""

    subject: str
    reply: str
    """Where JetStream takes the answer."""
    body: bytes
    raw_headers: bytes
    """The header block as it came, from `NATS/1.0` to the empty line; empty when there is none."""
    stream: str
    sequence: int
    """Of the message in its stream."""
    num_delivered: int
    published_ns: int
    """When the stream stored the message, in nanoseconds since 1970, by the server's clock."""

    @property
    def size(self) -> int:
        """The bytes it holds in memory, as far as they grow with the message."""
        return len(self.body) + len(self.raw_headers)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry, decoded into the document it will be. `document["_id"]` is its identity."""

    delivery: Delivery
    position: int | None
    """In its bundle, from 0; None when the message is the entry."""
    document: dict[str, Any]
    own_id: bool
    """The `_id` is the publisher's own field `data._id`, so a duplicate need not be the same entry."""


class Refusal(msgspec.Struct, frozen=True):
    """An entry that the sink can never take."""

    entry: Entry
    reason: Reason
    error: str
    """One sentence: expected, got, where. It is kept with the dead letter and not logged."""


class Rejected(msgspec.Struct, frozen=True):
    """One entry that can never be stored, or a whole message that cannot be opened (position None)."""

    delivery: Delivery
    position: int | None
    identity: ObjectId
    """The entry's own identity, under which its dead letter is kept once."""
    reason: Reason
    error: str
    """One sentence: expected, got, where. Never the payload itself."""
    body: bytes
    """The original bytes: of the entry within its bundle, else of the message, unchanged."""


class Decoded(msgspec.Struct, frozen=True):
    """Deliveries that were opened together, and everything that was in them.

    One delivery with whatever it held, or several that each are exactly one entry, in the same order.
    """

    deliveries: list[Delivery]
    entries: list[Entry]
    rejects: list[Rejected]
    size: int
    """The bytes that the entries were read from: inflated, which may be far more than came."""
    weight: int = 0
    """The bytes that the entries take in memory, estimated."""

    def cut(self, count: int) -> tuple[Decoded, Decoded | None]:
        """Return the first `count` deliveries and the others; one delivery is never cut."""
        total = len(self.deliveries)
        if total <= count or total == 1:
            return self, None
        size, weight = self.size * count // total, self.weight * count // total
        first = Decoded(self.deliveries[:count], self.entries[:count], [], size, weight)
        return first, Decoded(self.deliveries[count:], self.entries[count:], [], self.size - size, self.weight - weight)

    def singly(self) -> list[Decoded]:
        """Return each delivery on its own; together they have the same size and weight."""
        total = len(self.deliveries)
        if total == 1:
            return [self]
        lone = zip(self.deliveries, self.entries, strict=True)
        sizes, weights = _shares(self.size, total), _shares(self.weight, total)
        return [Decoded([delivery], [entry], [], next(sizes), next(weights)) for delivery, entry in lone]


def _shares(whole: int, count: int) -> Iterator[int]:
    """Divide a whole into parts that are equal but for the first, which has what is left over."""
    part, left_over = divmod(whole, count)
    return chain([part + left_over], repeat(part, count - 1))


class Batch(msgspec.Struct, frozen=True):
    """What is written in one go. A delivery is never split over two batches."""

    id: int
    """Counted within one pipeline, for the log."""
    deliveries: list[Delivery]
    entries: list[Entry]
    rejects: list[Rejected]
    bytes: int
    """Of its entries, inflated."""
    trigger: Trigger
    weight: int = 0
    """What its entries take in memory, estimated."""
