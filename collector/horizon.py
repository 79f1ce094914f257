"""Which deliveries of a time-series logger may have been written before: rules 6 to 9 of TIMESERIES.md. Pure.

A time-series collection has no unique index. Its one owner keeps an entry from being written twice by three things it
knows of every delivery: whether its sequence is new, whether it was published again, and whether a copy is in hand.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from collector.codec import attempt
from transfer.wire import TRANSFER_ATTEMPT

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from collector.model import Delivery, Entry, Opened

_ATTEMPT = TRANSFER_ATTEMPT.lower().encode()


class Suspicion(StrEnum):
    """Why an entry may have been written before: a closed list, the label of a metric."""

    BELOW_HORIZON = "below_horizon"
    REPUBLISHED = "republished"


class Horizon:
    """The highest sequence that anybody may have written, and what of the stream is in hand.

    It begins at the mark, above which nobody has ever inserted, and never falls. What is new comes in the order of its
    sequence, so a delivery at or below the horizon may have been written: redelivered, forgotten in a crash of
    nats-server, or late. Nothing else has to be noticed.
    """

    def __init__(self, mark: int) -> None:
        self.highest = mark
        self.suspects: dict[str, Suspicion] = {}
        """By reply subject, the deliveries in hand whose entries are looked up before they are inserted."""
        self._sequences: set[int] = set()
        self._identities: set[Hashable] = set()
        self._waiting: list[tuple[Opened, Suspicion]] = []

    def admit(self, opened: Opened) -> bool:
        """Judge a delivery, and return whether it may be written now; call it once for each, as they were received.

        A copy of what is in hand, by sequence or by the identity of one entry, waits: `released` returns it later.
        """
        suspicion = self._judge(opened.delivery)
        identities = _identities(opened.entries)
        if opened.delivery.sequence in self._sequences or not self._identities.isdisjoint(identities):
            self._waiting.append((opened, suspicion or Suspicion.REPUBLISHED))
            return False
        self._enter(opened, identities, suspicion)
        return True

    def settled(self, deliveries: Iterable[Delivery], entries: Iterable[Entry]) -> None:
        """Let go of deliveries whose result is known; `entries` are all of theirs."""
        for delivery in deliveries:
            self._sequences.discard(delivery.sequence)
            self.suspects.pop(delivery.reply, None)
        self._identities.difference_update(_identities(entries))

    def released(self) -> list[Opened]:
        """Return the copies that wait for nobody any more. They are in hand from now on, as suspects."""
        if not self._waiting:
            return []
        released: list[Opened] = []
        waiting, self._waiting = self._waiting, []
        for opened, suspicion in waiting:
            identities = _identities(opened.entries)
            if opened.delivery.sequence in self._sequences or not self._identities.isdisjoint(identities):
                self._waiting.append((opened, suspicion))
            else:
                self._enter(opened, identities, suspicion)
                released.append(opened)
        return released

    def _judge(self, delivery: Delivery) -> Suspicion | None:
        if delivery.sequence <= self.highest:
            return Suspicion.BELOW_HORIZON
        self.highest = delivery.sequence
        republished = _ATTEMPT in delivery.raw_headers.lower() and attempt(delivery.raw_headers) > 1
        return Suspicion.REPUBLISHED if republished else None

    def _enter(self, opened: Opened, identities: list[Hashable], suspicion: Suspicion | None) -> None:
        self._sequences.add(opened.delivery.sequence)
        before = len(self._identities)
        self._identities.update(identities)
        if len(self._identities) - before < len(identities):  # one identity twice in one message
            suspicion = suspicion or Suspicion.REPUBLISHED
        if suspicion is not None:
            self.suspects[opened.delivery.reply] = suspicion


def _identities(entries: Iterable[Entry]) -> list[Hashable]:
    return [hashable(entry.document["_id"]) for entry in entries]


def hashable(identity: Any) -> Hashable:
    """Return what stands for an `_id`: publishers may choose a map, or NaN, which is not equal to itself.

    Equals of different types only wait too long.
    """
    return repr(identity) if isinstance(identity, (dict, list, float)) else identity
