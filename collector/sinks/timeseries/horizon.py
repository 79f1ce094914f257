"""Which deliveries of a time-series logger may have been written before: rules 6 to 9 of docs/timeseries.md. Pure.

A time-series collection has no unique index. Its one owner never writes an entry twice, because it checks three things
of every delivery: a new sequence, a publishing for the first time, and no copy in hand.
"""

from __future__ import annotations

from operator import lt
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from collector.decoding.headers import attempt
from collector.events import Suspicion
from transfer.wire import TRANSFER_ATTEMPT

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable

    from collector.model import Decoded, Delivery, Entry

_ATTEMPT = TRANSFER_ATTEMPT.lower().encode()


class Horizon:
    """The highest sequence that any replica may have written, and the sequences and identities in hand.

    The horizon begins at the mark, above which nobody has ever inserted, and never falls. New messages come in the
    order of their sequences. So a delivery at or below the horizon may have been written before: it was redelivered,
    was forgotten in a crash of nats-server, or is late.
    """

    def __init__(self, mark: int) -> None:
        self.highest = mark
        self.suspects: dict[str, Suspicion] = {}
        """The deliveries in hand whose entries are looked up before they are inserted, by reply subject."""
        self._sequences: set[int] = set()
        self._identities: set[Hashable] = set()
        self._waiting: list[tuple[Decoded, Suspicion]] = []

    def admitted(self, decoded: Decoded) -> list[Decoded]:
        """Judge deliveries, once and in the order of their receipt; return those that may be written now.

        A delivery waits while a copy of it is in hand: the same sequence, or the same identity of one entry. `released`
        returns it later.
        """
        if len(decoded.deliveries) > 1 and self._enter_fresh(decoded):
            return [decoded]
        return [one for one in decoded.singly() if self.admit(one)]

    def admit(self, one: Decoded) -> bool:
        """Judge one delivery; return whether it may be written now. See `admitted`."""
        (delivery,) = one.deliveries
        suspicion = self._judge(delivery)
        identities = _identities(one.entries)
        if delivery.sequence in self._sequences or not self._identities.isdisjoint(identities):
            self._waiting.append((one, suspicion or Suspicion.REPUBLISHED))
            return False
        self._enter(one, identities, suspicion)
        return True

    def _enter_fresh(self, decoded: Decoded) -> bool:
        """Enter deliveries all at once when none of them is a suspect or a copy; else do nothing."""
        sequences = [delivery.sequence for delivery in decoded.deliveries]
        if sequences[0] <= self.highest or not all(map(lt, sequences, sequences[1:])):
            return False
        if _ATTEMPT in b"".join([delivery.raw_headers for delivery in decoded.deliveries]).lower():
            return False
        identities = _identities(decoded.entries)
        if len(set(identities)) < len(identities) or not self._identities.isdisjoint(identities):
            return False
        self.highest = sequences[-1]
        self._sequences.update(sequences)
        self._identities.update(identities)
        return True

    def settled(self, deliveries: Collection[Delivery], entries: Iterable[Entry]) -> None:
        """Forget deliveries whose outcomes are known; `entries` are all entries of these deliveries."""
        self._sequences.difference_update([delivery.sequence for delivery in deliveries])
        if self.suspects:
            for delivery in deliveries:
                self.suspects.pop(delivery.reply, None)
        self._identities.difference_update(_identities(entries))

    def released(self) -> list[Decoded]:
        """Return the waiting deliveries that have no copy in hand any more. They are in hand now, as suspects."""
        if not self._waiting:
            return []
        released: list[Decoded] = []
        waiting, self._waiting = self._waiting, []
        for one, suspicion in waiting:
            identities = _identities(one.entries)
            if one.deliveries[0].sequence in self._sequences or not self._identities.isdisjoint(identities):
                self._waiting.append((one, suspicion))
            else:
                self._enter(one, identities, suspicion)
                released.append(one)
        return released

    @property
    def holds(self) -> bool:
        """Whether deliveries wait for a copy in hand."""
        return bool(self._waiting)

    def _judge(self, delivery: Delivery) -> Suspicion | None:
        if delivery.sequence <= self.highest:
            return Suspicion.BELOW_HORIZON
        self.highest = delivery.sequence
        republished = _ATTEMPT in delivery.raw_headers.lower() and attempt(delivery.raw_headers) > 1
        return Suspicion.REPUBLISHED if republished else None

    def _enter(self, one: Decoded, identities: list[Hashable], suspicion: Suspicion | None) -> None:
        (delivery,) = one.deliveries
        self._sequences.add(delivery.sequence)
        before = len(self._identities)
        self._identities.update(identities)
        if len(self._identities) - before < len(identities):  # one identity twice in one message
            suspicion = suspicion or Suspicion.REPUBLISHED
        if suspicion is not None:
            self.suspects[delivery.reply] = suspicion


def _identities(entries: Iterable[Entry]) -> list[Hashable]:
    return [hashable(entry.document["_id"]) for entry in entries]


def hashable(identity: Any) -> Hashable:
    """Return a hashable value for an `_id`: publishers may choose a map, or NaN, which is not equal to itself.

    Values that are equal across types (1, True) merely cause an unnecessary wait. `.binary` is used because hashing an
    ObjectId runs in Python.
    """
    if type(identity) is ObjectId:
        return identity.binary
    return repr(identity) if isinstance(identity, (dict, list, float)) else identity
