"""Receipts: they stand for deliveries whose bytes are not needed until the answer. Pure.

The reply subject has all facts of a delivery, so a receipt is a reply subject alone.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Receipt(Protocol):
    """The facts that an answer needs. A `Delivery` is a receipt too, so the hot path makes no second object."""

    @property
    def reply(self) -> str:
        """The subject that the answer is published to."""

    @property
    def sequence(self) -> int:
        """The sequence of the message in its stream."""

    @property
    def num_delivered(self) -> int:
        """How often the message was delivered, this time included."""

    @property
    def published_ns(self) -> int:
        """When the stream stored the message, in nanoseconds since 1970."""


class Slim(msgspec.Struct, frozen=True, gc=False):
    """A receipt without the delivery; see `Receipt`."""

    reply: str

    @property
    def sequence(self) -> int:
        """The sequence of the message in its stream."""
        return int(read_reply(self.reply)[1][1])

    @property
    def num_delivered(self) -> int:
        """How often the message was delivered, this time included."""
        return int(read_reply(self.reply)[1][0])

    @property
    def published_ns(self) -> int:
        """When the stream stored the message."""
        return int(read_reply(self.reply)[1][3])


def read_reply(reply: str) -> tuple[str, list[str]]:
    """Return the stream, and the fields behind the durable: delivered, sequence, its number, time, pending.

    A reply subject is `$JS.ACK.[domain.account.]stream.durable.delivered.sequence.number.time.pending[.x]`.
    Raises ValueError when it is another kind of subject: then the message was not delivered by JetStream.
    """
    fields = reply.split(".")
    if len(fields) >= 11:  # with domain and account hash: ADR-15
        del fields[2:4]
    if len(fields) < 9 or fields[0] != "$JS" or fields[1] != "ACK":
        message = f"expected a reply subject $JS.ACK.<stream>.<durable>.<five numbers>, got {reply!r}"
        raise ValueError(message)
    return fields[2], fields[4:]
