"""Readings of NATS, which are reported as events: lag of a logger, storage of JetStream, bucket of loggers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transfer.difference import Difference

STALE_AFTER = 60.0
"""Seconds after which a reading says nothing about the present, and is not shown any more: absent beats wrong."""


class Sampled(msgspec.Struct, frozen=True, gc=False):
    """The stream of a logger was read, and its durable now or before. It is made for every logger again and again."""

    logger: str
    messages: int
    bytes: int
    oldest_age_seconds: float
    pending: int | None
    """None, like the other counts of the durable, when this reading did not ask it although the stream has messages."""
    ack_pending: int | None
    ack_pending_limit: int
    redelivered: int | None
    waiting_pulls: int
    at: float
    """The time of the reading by the replica's clock, in seconds since 1970."""
    ack_wait: float | None = None
    """Seconds; None when this reading did not ask the durable."""
    differences: tuple[Difference, ...] = ()
    """The fields of stream and durable that are not as needed."""

    @property
    def lag(self) -> int:
        """The messages that wait or are worked on: all of the stream where the durable was not asked."""
        if self.pending is None or self.ack_pending is None:
            return self.messages
        return self.pending + self.ack_pending

    @property
    def stuck(self) -> int | None:
        """The messages that the durable does not know of; None when it was not asked."""
        return None if self.pending is None else max(0, self.messages - self.lag)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The stream of a logger was read and its durable could not be: all messages of the stream may be waiting."""

    logger: str
    messages: int
    """0 when there is no stream."""
    at: float
    """The time of the reading by the replica's clock, in seconds since 1970."""


class Limit(StrEnum):
    """The kinds of limits that a stream may have: a closed list, the label of a metric."""

    BYTES = "bytes"
    MESSAGES = "messages"
    AGE = "age"


@dataclass(frozen=True, slots=True)
class Store:
    """The bytes that JetStream stores for our account, in files or in memory, and in one tier where there are tiers."""

    kind: str
    tier: str
    bytes: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class Storage:
    """The storage of JetStream was read."""

    stores: Sequence[Store]
    filled: Mapping[str, Mapping[Limit, float]]
    """By logger, the used share of each limit of its stream."""
    messages: Mapping[str, int]
    """By logger, the messages in its stream. The logger may be declared nowhere."""
    at: float
    """The time of the reading by the replica's clock, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Declared:
    """The bucket of loggers was read."""

    trouble: str = ""
    """Why the bucket cannot be trusted, so that the running loggers go on; empty when it can be."""
    unreadable: int = 0
    """Keys of the bucket that declare no logger."""
    looked: bool = True
    """Whether the whole bucket has been read since this process started."""
