"""The content of deliveries: bytes in, entries as documents out, and rejects for bytes that can never be an entry.

No function here waits. Between two deliveries the codec keeps only the meaning of the last header block.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace

from collector.decoding.envelope import (
    UTC_EPOCH,
    Encoded,
    Form,
    Positional,
    read_envelope,
    read_identity,
    readable_identity,
)
from collector.decoding.headers import first_published_ns
from collector.decoding.unpacking import Unpacker
from collector.decoding.weight import ENTRY, MAX_WEIGHT, SURELY_LIGHT, is_plausible, weight_of
from collector.errors import Poison
from collector.model import Decoded, Delivery, Dropped, Entry, Envelope, Reason, Refusal, Rejected
from collector.rules import DROP
from transfer.wire import MAX_INFLATED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from bson import ObjectId

    from collector.decoding.identity import Incarnation
    from collector.decoding.unpacking import Inflated
    from collector.rules import Rule

_Identity: TypeAlias = "Callable[[int, int | None], ObjectId]"
_WITHOUT_A_PAUSE = 500
"""Entries of a bundle that are decoded without a pause: some milliseconds when all of them are poison."""
_TOO_HEAVY = f"expected entries that take at most {MAX_WEIGHT >> 20} MiB in memory together, got more"


class _DroppedError(Exception):
    """A rule drops the entry."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class Codec(Unpacker):
    """Decodes the deliveries of one stream, and applies the rules of its logger to each entry."""

    __slots__ = ("_identity", "_read", "_rules")

    def __init__(
        self, incarnation: Incarnation, rules: Sequence[Rule] = (), *, max_inflated: int = MAX_INFLATED
    ) -> None:
        super().__init__(incarnation, max_inflated)
        self._identity = incarnation.identity
        self._rules = rules
        self._read = self._read_by_rules if rules else read_envelope

    def _read_by_rules(self, form: Form, source: Encoded) -> Envelope:
        """Return what the rules make of an entry. Raises Poison and _DroppedError."""
        envelope = read_envelope(form, source)
        if isinstance(envelope, Positional):
            envelope = Envelope(envelope.data, envelope.timestamp, envelope.metadata)
        for rule in self._rules:
            applied = rule.apply(envelope)
            if applied is DROP:
                raise _DroppedError(rule.name)
            envelope = applied
        return envelope

    def decode(self, delivery: Delivery) -> Decoded:
        """Return all entries of a delivery, each once, as an entry or as a reject. Never raises."""
        return next(one for one in self._decode_one(self.inflated_from([delivery]), weigh=True) if one is not None)

    def decode_inflated(self, inflated: Inflated, *, weigh: bool) -> Iterable[Decoded | None]:
        """Yield all entries of the deliveries, see `decode`, and None now and then, so that other tasks can run.

        With `weigh`, entries are weighed when their ceiling is not plausible. Whether a message is too heavy depends on
        that message alone.
        """
        form, deliveries = inflated.form, inflated.deliveries
        if len(deliveries) == 1 or isinstance(form, Poison):
            return self._decode_one(inflated, weigh=weigh)
        if self._rules:
            return [self._decode_by_rules(inflated, form, weigh=weigh)]
        identity, read = self._identity, self._read
        try:
            entries = [_entry(delivery, None, form, identity, delivery.body, read) for delivery in deliveries]
        except Poison:  # one entry is poison: each delivery is decoded alone
            return [self.decode(delivery) for delivery in deliveries]
        weight = inflated.ceiling
        if weigh and not is_plausible(weight, inflated.size, len(entries)):
            weight = sum([weight_of(entry.document, len(entry.delivery.body)) for entry in entries])
        return [Decoded(deliveries, entries, [], inflated.size, weight)]

    def _decode_by_rules(self, inflated: Inflated, form: Form, *, weigh: bool) -> Decoded:
        """Return several deliveries of one entry each. Each is read once, because a rule may count what it sees."""
        entries: list[Entry] = []
        rejects: list[Rejected] = []
        dropped: list[Dropped] = []
        for delivery in inflated.deliveries:
            try:
                entries.append(_entry(delivery, None, form, self._identity, delivery.body, self._read))
            except _DroppedError as drop:
                dropped.append(Dropped(delivery, drop.rule))
            except Poison as poison:
                rejects.append(_reject(delivery, None, form, self._identity, delivery.body, poison=poison))
        weight = inflated.ceiling
        if weigh and not is_plausible(weight, inflated.size, len(inflated.sources)):
            weight = sum([weight_of(entry.document, len(entry.delivery.body)) for entry in entries])
            weight += sum([ENTRY + len(reject.body) for reject in rejects])
        return Decoded(inflated.deliveries, entries, rejects, inflated.size, weight, dropped)

    def _decode_one(self, inflated: Inflated, *, weigh: bool) -> Iterator[Decoded | None]:
        (delivery,), form, identity = inflated.deliveries, inflated.form, inflated.origin.identity
        if isinstance(form, Poison):
            yield self._as_letter(delivery, form)
            return
        decoded = Decoded([delivery], [], [], inflated.size, inflated.ceiling)
        weight, read = 0, self._read
        bounded = inflated.size > SURELY_LIGHT and inflated.ceiling > MAX_WEIGHT
        plausible = is_plausible(inflated.ceiling, inflated.size, len(inflated.sources))
        weighing = bounded or (weigh and not plausible)
        for number, source in enumerate(inflated.sources):
            if number % _WITHOUT_A_PAUSE == _WITHOUT_A_PAUSE - 1:
                yield None
            position = number if inflated.bundled else None
            try:
                entry = _entry(delivery, position, form, identity, source, read)
            except _DroppedError as drop:
                decoded.dropped.append(Dropped(delivery, drop.rule))
                continue
            except Poison as poison:
                decoded.rejects.append(_reject(delivery, position, form, identity, source, poison=poison))
                weight += ENTRY + len(source)
                continue
            decoded.entries.append(entry)
            if weighing:
                weight += weight_of(entry.document, len(source))
                if bounded and weight > MAX_WEIGHT:
                    yield self._as_letter(delivery, Poison(Reason.RULE, _TOO_HEAVY))
                    return
        yield replace(decoded, weight=weight) if weighing else decoded

    def _as_letter(self, delivery: Delivery, poison: Poison) -> Decoded:
        identity = self.origin(delivery).identity(delivery.sequence)
        reject = Rejected(delivery, None, identity, poison.reason, poison.error, delivery.body)
        return Decoded([delivery], [], [reject], delivery.size, ENTRY + delivery.size)

    def rejects(self, refused: Sequence[Refusal]) -> list[Rejected]:
        """Return the entries that the sink refused as rejects with their original bytes.

        An entry that brought an `_id` of its own gets the derived identity: its publisher may use an `_id` twice, and
        the dead letter of one entry must not hide that of another one.
        """
        by_delivery: dict[str, list[Refusal]] = {}
        for refusal in refused:
            by_delivery.setdefault(refusal.entry.delivery.reply, []).append(refusal)
        return [reject for refusals in by_delivery.values() for reject in self._rejects_of_one(refusals)]

    def _rejects_of_one(self, refusals: list[Refusal]) -> Iterator[Rejected]:
        delivery = refusals[0].entry.delivery
        bodies = self.originals(delivery, [refusal.entry.position for refusal in refusals])
        origin = self.origin(delivery)
        for refusal, body in zip(refusals, bodies, strict=True):
            entry = refusal.entry
            derived = origin.identity(delivery.sequence, entry.position)
            identity = derived if entry.own_id else entry.document["_id"]
            yield Rejected(delivery, entry.position, identity, refusal.reason, refusal.error, body)


def _entry(  # noqa: PLR0917 - by keyword it would cost 50 ns for each entry
    delivery: Delivery,
    position: int | None,
    form: Form,
    identity: _Identity,
    source: Encoded,
    read: Callable[[Form, Encoded], Envelope | Positional],
) -> Entry:
    """Return an entry. Raises Poison, and what `read` raises."""
    envelope = read(form, source)
    document = envelope.data  # it becomes the document: a copy would cost as much as decoding
    own_id = document.get("_id") is not None
    if not own_id:
        claimed = envelope.id
        document["_id"] = identity(delivery.sequence, position) if claimed is None else read_identity(claimed)
    moment = envelope.timestamp
    document["timestamp"] = _published(delivery) if moment is None else moment
    document["metadata"] = envelope.metadata
    return Entry(delivery, position, document, own_id)


def _reject(
    delivery: Delivery, position: int | None, form: Form, identity: _Identity, source: Encoded, *, poison: Poison
) -> Rejected:
    """Return an entry that is poison, under the identity that it brings when that much of it can be read."""
    own = readable_identity(form, source) or identity(delivery.sequence, position)
    body = delivery.body if position is None else bytes(source)
    return Rejected(delivery, position, own, poison.reason, poison.error, body)


def _published(delivery: Delivery) -> datetime:
    return UTC_EPOCH + timedelta(microseconds=first_published_ns(delivery) // 1000)
