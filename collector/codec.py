"""What a delivery holds: bytes in, entries as documents out, and what can never be one as rejects.

The forms are those of DESIGN.md 2. Nothing here waits or keeps anything between two deliveries.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeAlias

import msgspec
from bson import ObjectId
from bson.errors import InvalidId

from collector.bundle import split
from collector.errors import Poison
from collector.inflate import inflate
from collector.model import Delivery, Entry, Opened, Reason, Refusal, Reject
from collector.timestamps import EPOCH, read_timestamp, undo_rounding
from collector.weight import (
    ENTRY,
    MAX_VALUES,
    MAX_WEIGHT,
    SURELY_LIGHT,
    ceiling_of_json,
    ceiling_of_msgpack,
    check_values,
    is_plausible,
    weigh,
)
from transfer.wire import (
    BUNDLE,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    JSON,
    MAX_INFLATED,
    MSGPACK,
    TRANSFER_ATTEMPT,
    TRANSFER_CONTENT_ID,
    TRANSFER_CONTENT_TIME,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from collector.identity import Incarnation

Source: TypeAlias = "bytes | bytearray"
"""The bytes of one entry, or of all that a message holds; what was inflated is a bytearray."""
_BYTES = "latin-1"
"""The encoding in which every byte is a character, so that any header comes back unchanged, also from MongoDB."""
_LONE = frozenset({"", MSGPACK})
"""The media types of an entry that is a message of its own; with either, a body that begins with a brace is JSON."""
_BRACE = ord("{")
_NODE_TIME = 13
"""The extension that Node.js publishers use for a time; Go's msgpack, and so the Go collector, reads it as one."""
_CONTENT_TIME = TRANSFER_CONTENT_TIME.lower().encode()
_LAST_MS = 253_402_300_799_999
"""The end of the year 9999."""
_TOO_HEAVY = f"expected entries that take at most {MAX_WEIGHT >> 20} MiB in memory together, got more"
MAX_ATTEMPT = 999_999_999
"""The highest Transfer-Attempt that is believed; with another one a message counts as sent for the first time."""


class _Envelope(msgspec.Struct, gc=False):
    """An entry on the wire. Fields that are not known are passed over."""

    data: dict[str, Any]
    timestamp: Any = None
    metadata: Any = None
    id: Any = None


class _Positional(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """The same as the Go client sends it with its structs encoded as arrays: exactly these three, in this order."""

    metadata: Any
    data: dict[str, Any]
    timestamp: Any
    id: ClassVar[None] = None


class _Id(msgspec.Struct):
    id: Any = None


class _Timestamp(msgspec.Struct):
    timestamp: msgspec.Raw


class _PositionalTimestamp(msgspec.Struct, array_like=True):
    metadata: msgspec.Raw
    data: msgspec.Raw
    timestamp: msgspec.Raw


def _extension(code: int, content: memoryview) -> datetime:
    if code == _NODE_TIME and len(content) in {4, 8, 12}:
        return _time(b"\xc7" + bytes((len(content), 0xFF)) + content)
    message = f"Expected no extension but times, got extension {code}"
    raise msgspec.ValidationError(message)


_time = msgspec.msgpack.Decoder(datetime).decode
_map = msgspec.msgpack.Decoder(_Envelope, ext_hook=_extension).decode
_array = msgspec.msgpack.Decoder(_Positional, ext_hook=_extension).decode
_timestamp_in_map = msgspec.msgpack.Decoder(_Timestamp).decode
_timestamp_in_array = msgspec.msgpack.Decoder(_PositionalTimestamp).decode


def _map_or_array(source: Source) -> _Envelope | _Positional:
    try:
        return _map(source)
    except msgspec.ValidationError:
        first = memoryview(source)[0]
        if first & 0xF0 != 0x90 and first not in {0xDC, 0xDD}:
            raise
    return _array(source)


class _Form(NamedTuple):
    """How an entry is written: what reads it, and what reads its id alone when the rest cannot be read."""

    name: str
    decode: Callable[[Source], _Envelope | _Positional]
    decode_id: Callable[[Source], _Id]
    ceiling: Callable[[Source], int]


_MSGPACK = _Form("msgpack", _map_or_array, msgspec.msgpack.Decoder(_Id).decode, ceiling_of_msgpack)
_JSON = _Form("JSON", msgspec.json.Decoder(_Envelope).decode, msgspec.json.Decoder(_Id).decode, ceiling_of_json)


class _Origin(Protocol):
    """What gives an identity to entries that bring none: the stream's incarnation, or a header of the message."""

    def identity(self, sequence: int, position: int | None = None) -> ObjectId: ...


class _Named(NamedTuple):
    """The origin of a message that names its identity itself, see TRANSFER_CONTENT_ID.

    A bundle's entries have the same identities as if they were derived: those that follow its own.
    """

    own: ObjectId

    def identity(self, sequence: int, position: int | None = None) -> ObjectId:  # noqa: ARG002 - wherever it is
        number = int.from_bytes(self.own.binary) + (position or 0)
        return ObjectId((number % (1 << 96)).to_bytes(12))


class Unpacked(msgspec.Struct, frozen=True, gc=False):
    """A delivery that is inflated, and cut into entries that are not decoded."""

    delivery: Delivery
    form: _Form | Poison
    """Or why the message cannot be opened."""
    origin: _Origin
    sources: Sequence[Source]
    bundled: bool
    size: int
    """Of what is inflated, or may have been."""


def ceiling(many: Sequence[Unpacked]) -> int:
    """Return the most that these take in memory when they are decoded; one look at many is cheaper than many looks."""
    total = 0
    for form in (_MSGPACK, _JSON):
        sources = [source for unpacked in many if unpacked.form is form for source in unpacked.sources]
        if sources:
            total += form.ceiling(b"".join(sources)) + ENTRY * len(sources)
    return total


class Codec:
    """Opens the deliveries of one stream."""

    def __init__(self, incarnation: Incarnation, max_inflated: int = MAX_INFLATED) -> None:
        self._incarnation = incarnation
        self._max_inflated = max_inflated

    def unpack(self, delivery: Delivery) -> Unpacked:
        """Inflate a delivery and cut it into entries, before they are decoded. Never raises."""
        try:
            form, origin, sources, bundled = self._sources(delivery)
        except Poison as poison:
            anew = Poison(poison.reason, poison.error)  # the one that was raised keeps all that was inflated
            return Unpacked(delivery, anew, self._incarnation, (), bundled=False, size=self._max_inflated)
        size = sum(map(len, sources)) if bundled else len(sources[0])
        return Unpacked(delivery, form, origin, sources, bundled, size)

    def open(self, delivery: Delivery) -> Opened:
        """Return everything that is in a delivery: each entry once, as an entry or as a reject. Never raises."""
        unpacked = self.unpack(delivery)
        return self.open_unpacked(unpacked, ceiling((unpacked,)))

    def open_unpacked(self, unpacked: Unpacked, most: int, *, closely: bool = True) -> Opened:
        """Return everything that is in a delivery, which takes `most` bytes at most; see `open`.

        Where that is far more than the entries can be expected to take they are weighed themselves, if asked to look
        closely. Whether a message takes too much depends on itself alone.
        """
        delivery, form = unpacked.delivery, unpacked.form
        if isinstance(form, Poison):
            return self._opened_as_letter(delivery, form)
        entries: list[Entry] = []
        rejects: list[Reject] = []
        weight = 0
        bounded = unpacked.size > SURELY_LIGHT and ceiling((unpacked,)) > MAX_WEIGHT
        weighing = bounded or (closely and not is_plausible(most, unpacked.size, len(unpacked.sources)))
        for position, source in _placed(unpacked.sources, unpacked.bundled):
            try:
                entry = self._entry(delivery, position, form, unpacked.origin, source)
            except Poison as poison:
                derived = unpacked.origin.identity(delivery.sequence, position)
                identity = _readable_identity(form, source) or derived
                rejects.append(_reject(delivery, position, identity, source, poison))
                weight += ENTRY + len(source)
                continue
            entries.append(entry)
            if weighing:
                weight += weigh(entry.document, len(source))
                if bounded and weight > MAX_WEIGHT:
                    return self._opened_as_letter(delivery, Poison(Reason.RULE, _TOO_HEAVY))
        return Opened(delivery, entries, rejects, unpacked.size, weight if weighing else most)

    def _opened_as_letter(self, delivery: Delivery, poison: Poison) -> Opened:
        identity = self._origin(delivery).identity(delivery.sequence)
        reject = _reject(delivery, None, identity, delivery.body, poison)
        return Opened(delivery, [], [reject], delivery.size, ENTRY + delivery.size)

    def originals(self, delivery: Delivery, positions: Sequence[int | None]) -> list[bytes]:
        """Return the bytes of entries of a delivery that was opened, as their publisher sent them.

        Of an entry in a bundle that is its slice, else the body unchanged; a bundle is inflated and split once for all.
        """
        if None in positions:
            return [delivery.body]
        sources = self._sources(delivery)[2]
        return [bytes(sources[position or 0]) for position in positions]

    def rejects(self, refused: Sequence[Refusal]) -> list[Reject]:
        """Return what the sink refused as rejects, with their original bytes; a bundle is opened once for all of it.

        The identity of an entry that brought an `_id` of its own is the derived one: its publisher may use an `_id`
        twice, and the letter of one entry must not hide that of another.
        """
        by_delivery: dict[str, list[Refusal]] = {}
        for refusal in refused:
            by_delivery.setdefault(refusal.entry.delivery.reply, []).append(refusal)
        return [reject for refusals in by_delivery.values() for reject in self._rejects_of_one(refusals)]

    def _rejects_of_one(self, refusals: list[Refusal]) -> Iterator[Reject]:
        delivery = refusals[0].entry.delivery
        bodies = self.originals(delivery, [refusal.entry.position for refusal in refusals])
        origin = self._origin(delivery)
        for refusal, body in zip(refusals, bodies, strict=True):
            entry = refusal.entry
            derived = origin.identity(delivery.sequence, entry.position)
            identity = derived if entry.own_id else entry.document["_id"]
            yield Reject(delivery, entry.position, identity, refusal.reason, refusal.error, body)

    def _sources(self, delivery: Delivery) -> tuple[_Form, _Origin, Sequence[Source], bool]:
        """Return the bytes of each entry and whether they stand in a bundle. Raises Poison when that cannot be said."""
        media_type = ""
        body: Source = delivery.body
        origin: _Origin = self._incarnation
        if b"content-" in delivery.raw_headers.lower():
            fields = headers(delivery.raw_headers)
            origin = _named(fields) or origin
            media_type = _field(fields, CONTENT_TYPE).partition(";")[0].strip()
            body = inflate(delivery.body, _field(fields, CONTENT_ENCODING), self._max_inflated)
        if not body:
            raise Poison(Reason.MALFORMED, "body: expected an entry, got nothing")
        if media_type == BUNDLE:
            return _MSGPACK, origin, split(body), True
        if media_type in _LONE:
            return (_JSON if body[0] == _BRACE else _MSGPACK), origin, (body,), False
        if media_type == JSON:
            return _JSON, origin, (body,), False
        expected = f"{MSGPACK}, {JSON} or {BUNDLE}"
        raise Poison(Reason.MALFORMED, f"Content-Type: expected {expected}, got {media_type[:80]!r}")

    def _origin(self, delivery: Delivery) -> _Origin:
        """Return the origin of a message that may be poison in every way."""
        try:
            return _named(headers(delivery.raw_headers)) or self._incarnation
        except Poison:
            return self._incarnation

    def _entry(self, delivery: Delivery, position: int | None, form: _Form, origin: _Origin, source: Source) -> Entry:
        if len(source) > MAX_VALUES:  # a value takes a byte
            check_values(source, json=form is _JSON)
        try:
            envelope = form.decode(source)
            moment = envelope.timestamp
            if type(moment) is not datetime or moment.year == 1 or not moment.microsecond % 1000:
                moment = _moment(envelope, source) or _published(delivery)
        except _UNREADABLE as error:
            raise Poison(Reason.MALFORMED, f"{form.name}: {_sentence(error)}") from error
        document = envelope.data  # becomes the document itself: a copy would cost as much as decoding
        own_id = document.get("_id") is not None
        if not own_id:
            document["_id"] = _identity(envelope.id) or origin.identity(delivery.sequence, position)
        document["timestamp"] = moment
        document["metadata"] = envelope.metadata
        return Entry(delivery, position, document, own_id)


def _reject(delivery: Delivery, position: int | None, identity: ObjectId, source: Source, poison: Poison) -> Reject:
    body = delivery.body if position is None else bytes(source)
    return Reject(delivery, position, identity, poison.reason, poison.error, body)


def _readable_identity(form: _Form, source: Source) -> ObjectId | None:
    """Return the identity that the entry brings, when that much of it can be read."""
    try:
        return _identity(form.decode_id(source).id)
    except (*_UNREADABLE, Poison):
        return None


def _placed(sources: Sequence[Source], bundled: bool) -> Iterable[tuple[int | None, Source]]:
    return enumerate(sources) if bundled else ((None, sources[0]),)


def _identity(claimed: Any, where: str = "id") -> ObjectId | None:
    """Return the identity that an entry or a message brings, if it does."""
    if claimed is None:
        return None
    try:
        return ObjectId(claimed)
    except (InvalidId, TypeError) as error:
        expected = f"{where}: expected 12 bytes, or 24 hex digits as text"
        raise Poison(Reason.MALFORMED, f"{expected}, got another `{type(claimed).__name__}`") from error


def _named(fields: list[tuple[str, str]]) -> _Named | None:
    own = _identity(_field(fields, TRANSFER_CONTENT_ID) or None, TRANSFER_CONTENT_ID)
    return None if own is None else _Named(own)


def _moment(envelope: _Envelope | _Positional, source: Source) -> datetime | None:
    timestamp = envelope.timestamp
    if type(timestamp) is not datetime or timestamp.year == 1:
        return read_timestamp(timestamp)
    encoded = _timestamp_in_map(source) if type(envelope) is _Envelope else _timestamp_in_array(source)
    return undo_rounding(timestamp, bytes(encoded.timestamp))


def _published(delivery: Delivery) -> datetime:
    return EPOCH + timedelta(microseconds=first_published_ns(delivery) // 1000)


_UNREADABLE = (ValueError, RecursionError)
"""What decoding raises: msgspec.DecodeError and UnicodeDecodeError are ValueErrors, and so is a time in year 10000."""


def _sentence(error: Exception) -> str:
    match error:
        case msgspec.DecodeError():
            return str(error)
        case RecursionError():
            return "Expected values nested less deep than Python's recursion limit, got more"
        case UnicodeDecodeError():
            return "Expected text in UTF-8, got other bytes"
    return "Expected times in the years 1 to 9999, got one beyond them"


def headers(raw_headers: bytes) -> list[tuple[str, str]]:
    """Read a header block: all of its fields, in order, also those that came more than once. Never raises.

    A character stands for a byte, see `_BYTES`. A line without a colon is a name without a value.
    """
    fields = []
    for line in raw_headers.decode(_BYTES).split("\r\n")[1:]:
        if line:
            name, _, value = line.partition(":")
            fields.append((name, value.strip(" \t")))
    return fields


def _field(fields: list[tuple[str, str]], wanted: str) -> str:
    """Return the value in lower case; what came more than once is one list, as in HTTP."""
    return ", ".join(value.lower() for name, value in fields if name.lower() == wanted.lower())


def attempt(raw_headers: bytes) -> int:
    """Return how many times the entry had been sent when this message was: its header Transfer-Attempt, else 1."""
    value = _field(headers(raw_headers), TRANSFER_ATTEMPT)
    believed = value.isascii() and value.isdigit() and len(value) <= len(str(MAX_ATTEMPT))
    return max(1, int(value)) if believed else 1


def first_published_ns(delivery: Delivery) -> int:
    """Return when a message was first published, also if it was published again, in nanoseconds since 1970."""
    if _CONTENT_TIME not in delivery.raw_headers.lower():
        return delivery.published_ns
    value = _field(headers(delivery.raw_headers), TRANSFER_CONTENT_TIME)
    believed = value.isascii() and value.isdigit() and len(value) < 16 and int(value) <= _LAST_MS
    return int(value) * 1_000_000 if believed else delivery.published_ns
