"""The content of deliveries: bytes in, entries as documents out, and rejects for bytes that can never be an entry.

No function here waits. Between two deliveries the codec keeps only the meaning of the last header block.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec
from bson import ObjectId

from collector.decoding.bundle import split
from collector.decoding.envelope import (
    BEFORE_JSON,
    JSON_BEHIND_FORM,
    JSON_FORM,
    MSGPACK_FORM,
    UTC_EPOCH,
    Encoded,
    Form,
    form_behind,
    read_envelope,
    read_identity,
    readable_identity,
)
from collector.decoding.headers import field, first_published_ns, headers
from collector.decoding.inflate import AS_IT_CAME, inflate
from collector.decoding.weight import ENTRY, MAX_WEIGHT, SURELY_LIGHT, is_plausible, weight_of
from collector.errors import Poison
from collector.model import Decoded, Delivery, Entry, Reason, Refusal, Rejected
from transfer.wire import (
    BUNDLE,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    JSON,
    MAX_INFLATED,
    MSGPACK,
    TRANSFER_CONTENT_ID,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from collector.decoding.identity import Incarnation

_LONE = frozenset({"", MSGPACK})
"""The media types of an entry that is a message of its own; with either, a body that begins with a brace is JSON.

White space or a byte order mark may stand before it.
"""
_BRACE = ord("{")
_MAX_AT_ONCE = 64 * 1024
"""Bytes of deliveries that are decoded at once."""
_WITHOUT_A_PAUSE = 500
"""Entries of a bundle that are decoded without a pause: some milliseconds when all of them are poison."""
_TOO_HEAVY = f"expected entries that take at most {MAX_WEIGHT >> 20} MiB in memory together, got more"


class _Origin(Protocol):
    """Gives an identity to entries that bring none: the stream's incarnation, or a header of the message."""

    def identity(self, sequence: int, position: int | None = None) -> ObjectId: ...


class _Named(NamedTuple):
    """The origin of a message that brings its identity in a header, see TRANSFER_CONTENT_ID.

    The entries of a bundle have the identities that follow it, as if they were derived.
    """

    own: ObjectId

    def identity(self, sequence: int, position: int | None = None) -> ObjectId:  # noqa: ARG002 - it is the same in every sequence
        number = int.from_bytes(self.own.binary) + (position or 0)
        return ObjectId((number % (1 << 96)).to_bytes(12))


class _Content(NamedTuple):
    """The meaning of a message's headers for its body."""

    media_type: str = ""
    encoding: str = ""
    own_id: ObjectId | None = None


_NO_CONTENT = _Content()


class Inflated(msgspec.Struct, frozen=True, gc=False):
    """Inflated deliveries, cut into undecoded entries: one delivery, or several deliveries of one entry each."""

    deliveries: list[Delivery]
    form: Form | Poison
    """The form of the entries, or why the one message cannot be decoded."""
    origin: _Origin
    sources: Sequence[Encoded]
    bundled: bool
    size: int
    """The inflated bytes; for a poison message the most that it may have inflated."""
    ceiling: int
    """The most bytes that the decoded entries take in memory; one ceiling for many entries is cheaper than many."""


class Codec:
    """Decodes the deliveries of one stream."""

    def __init__(self, incarnation: Incarnation, max_inflated: int = MAX_INFLATED) -> None:
        self._incarnation = incarnation
        self._max_inflated = max_inflated
        self._last = (b"", _NO_CONTENT)

    def inflated_from(self, deliveries: Sequence[Delivery]) -> Inflated:
        """Inflate the first delivery and cut it into undecoded entries. Never raises.

        When its body is one uncompressed entry, the next deliveries of the same form are added, up to 64 KiB.
        """
        first = deliveries[0]
        try:
            form, origin, sources, bundled = self._sources(first)
        except Poison as poison:
            anew = Poison(poison.reason, poison.error)  # the raised one keeps the inflated bytes in its traceback
            return Inflated([first], anew, self._incarnation, (), bundled=False, size=self._max_inflated, ceiling=0)
        taken = [first]
        if form is self._form_as_it_came(first):
            taken = self._as_first(deliveries, form)
            sources = [delivery.body for delivery in taken]
        size = sum(map(len, sources))
        ceiling = form.ceiling(sources) + ENTRY * len(sources)
        return Inflated(taken, form, origin, sources, bundled, size, ceiling)

    def _as_first(self, deliveries: Sequence[Delivery], form: Form) -> list[Delivery]:
        """Return the first delivery and the next ones whose body is one uncompressed entry of the same form."""
        media_type, raw_headers = self._content(deliveries[0].raw_headers).media_type, deliveries[0].raw_headers
        size = 0
        for count, delivery in enumerate(deliveries):
            body = delivery.body
            size += len(body)
            if delivery.raw_headers == raw_headers:
                found = _lone_form(media_type, body) if body else None
            else:
                found = self._form_as_it_came(delivery)
            if count and (size > _MAX_AT_ONCE or found is not form):
                return list(deliveries[:count])
        return list(deliveries)

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
        identity = self._incarnation.identity
        try:
            entries = [_entry(delivery, None, form, identity, delivery.body) for delivery in deliveries]
        except Poison:  # one entry is poison: each delivery is decoded alone
            return [self.decode(delivery) for delivery in deliveries]
        weight = inflated.ceiling
        if weigh and not is_plausible(weight, inflated.size, len(entries)):
            weight = sum([weight_of(entry.document, len(entry.delivery.body)) for entry in entries])
        return [Decoded(deliveries, entries, [], inflated.size, weight)]

    def _decode_one(self, inflated: Inflated, *, weigh: bool) -> Iterator[Decoded | None]:
        (delivery,), form, identity = inflated.deliveries, inflated.form, inflated.origin.identity
        if isinstance(form, Poison):
            yield self._as_letter(delivery, form)
            return
        entries: list[Entry] = []
        rejects: list[Rejected] = []
        weight = 0
        bounded = inflated.size > SURELY_LIGHT and inflated.ceiling > MAX_WEIGHT
        plausible = is_plausible(inflated.ceiling, inflated.size, len(inflated.sources))
        weighing = bounded or (weigh and not plausible)
        for number, source in enumerate(inflated.sources):
            if number % _WITHOUT_A_PAUSE == _WITHOUT_A_PAUSE - 1:
                yield None
            position = number if inflated.bundled else None
            try:
                entry = _entry(delivery, position, form, identity, source)
            except Poison as poison:
                own = readable_identity(form, source) or identity(delivery.sequence, position)
                rejects.append(_reject(delivery, position, own, source, poison))
                weight += ENTRY + len(source)
                continue
            entries.append(entry)
            if weighing:
                weight += weight_of(entry.document, len(source))
                if bounded and weight > MAX_WEIGHT:
                    yield self._as_letter(delivery, Poison(Reason.RULE, _TOO_HEAVY))
                    return
        yield Decoded([delivery], entries, rejects, inflated.size, weight if weighing else inflated.ceiling)

    def _as_letter(self, delivery: Delivery, poison: Poison) -> Decoded:
        identity = self._origin(delivery).identity(delivery.sequence)
        reject = _reject(delivery, None, identity, delivery.body, poison)
        return Decoded([delivery], [], [reject], delivery.size, ENTRY + delivery.size)

    def originals(self, delivery: Delivery, positions: Sequence[int | None]) -> list[bytes]:
        """Return the original bytes of entries of a delivery that was decoded.

        An entry in a bundle has its slice of the inflated body, every other one the unchanged body. A bundle is
        inflated and split once.
        """
        if None in positions:
            return [delivery.body]
        sources = self._sources(delivery)[2]
        return [bytes(sources[position or 0]) for position in positions]

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
        origin = self._origin(delivery)
        for refusal, body in zip(refusals, bodies, strict=True):
            entry = refusal.entry
            derived = origin.identity(delivery.sequence, entry.position)
            identity = derived if entry.own_id else entry.document["_id"]
            yield Rejected(delivery, entry.position, identity, refusal.reason, refusal.error, body)

    def _sources(self, delivery: Delivery) -> tuple[Form, _Origin, Sequence[Encoded], bool]:
        """Return form, origin and bytes of the entries, and whether they are in a bundle. Raises Poison."""
        content = self._content(delivery.raw_headers)
        body = inflate(delivery.body, content.encoding, self._max_inflated)
        if not body:
            raise Poison(Reason.MALFORMED, "body: expected an entry, got nothing")
        origin = self._origin_of(content)
        if content.media_type == BUNDLE:
            return MSGPACK_FORM, origin, split(body), True
        form = _lone_form(content.media_type, body)
        if form is None:
            expected = f"{MSGPACK}, {JSON} or {BUNDLE}"
            raise Poison(Reason.MALFORMED, f"Content-Type: expected {expected}, got {content.media_type[:80]!r}")
        return form, origin, (body,), False

    def _form_as_it_came(self, delivery: Delivery) -> Form | None:
        """Return the form of a message whose body is one uncompressed entry; None for every other message."""
        try:
            content = self._content(delivery.raw_headers)
        except Poison:
            return None
        as_it_came = delivery.body and content.encoding in AS_IT_CAME and content.own_id is None
        return _lone_form(content.media_type, delivery.body) if as_it_came else None

    def _content(self, raw_headers: bytes) -> _Content:
        """Return the meaning of the headers for the body. Raises Poison."""
        if not raw_headers or b"content-" not in raw_headers.lower():
            return _NO_CONTENT
        if raw_headers != self._last[0]:
            fields = headers(raw_headers)
            named = field(fields, TRANSFER_CONTENT_ID)
            own_id = read_identity(named, TRANSFER_CONTENT_ID) if named else None
            media_type = field(fields, CONTENT_TYPE).partition(";")[0].strip()
            self._last = raw_headers, _Content(media_type, field(fields, CONTENT_ENCODING), own_id)
        return self._last[1]

    def _origin_of(self, content: _Content) -> _Origin:
        return self._incarnation if content.own_id is None else _Named(content.own_id)

    def _origin(self, delivery: Delivery) -> _Origin:
        """Return the origin of a message whose headers may be poison."""
        try:
            return self._origin_of(self._content(delivery.raw_headers))
        except Poison:
            return self._incarnation


def _lone_form(media_type: str, body: Encoded) -> Form | None:
    if media_type in _LONE:
        first = body[0]
        if first == _BRACE:
            return JSON_FORM
        return form_behind(body) if first in BEFORE_JSON else MSGPACK_FORM
    if media_type != JSON:
        return None
    return JSON_FORM if body[0] == _BRACE else JSON_BEHIND_FORM


def _entry(
    delivery: Delivery,
    position: int | None,
    form: Form,
    identity: Callable[[int, int | None], ObjectId],
    source: Encoded,
) -> Entry:
    """Return an entry. Raises Poison."""
    envelope = read_envelope(form, source)
    document = envelope.data  # it becomes the document: a copy would cost as much as decoding
    own_id = document.get("_id") is not None
    if not own_id:
        claimed = envelope.id
        document["_id"] = identity(delivery.sequence, position) if claimed is None else read_identity(claimed)
    moment = envelope.timestamp
    document["timestamp"] = _published(delivery) if moment is None else moment
    document["metadata"] = envelope.metadata
    return Entry(delivery, position, document, own_id)


def _reject(delivery: Delivery, position: int | None, identity: ObjectId, source: Encoded, poison: Poison) -> Rejected:
    body = delivery.body if position is None else bytes(source)
    return Rejected(delivery, position, identity, poison.reason, poison.error, body)


def _published(delivery: Delivery) -> datetime:
    return UTC_EPOCH + timedelta(microseconds=first_published_ns(delivery) // 1000)
