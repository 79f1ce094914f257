"""The bytes of one entry in, its envelope out, in every form that an entry is written in. Pure.

The forms are those of docs/design.md 2. Times come out in UTC and without a zone. pymongo takes such times for UTC, and
encodes a time with a zone as slowly as the rest of the entry.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias, TypeVar

import msgspec
from bson import ObjectId
from bson.errors import InvalidId

from collector.decoding.timestamps import EPOCH, read_timestamp, undo_rounding
from collector.decoding.weight import MAX_VALUES, MAX_WEIGHT, ceiling_of_json, ceiling_of_msgpack, check_values
from collector.errors import Poison
from collector.model import Envelope, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Encoded: TypeAlias = "bytes | bytearray"
"""The bytes of one entry, or of a whole body; inflated bytes are a bytearray."""
_NODE_TIME = 13
"""The msgpack extension that Node.js publishers use for a time; the Go collector reads it as a time too."""
_T = TypeVar("_T")
UTC_EPOCH = EPOCH.replace(tzinfo=None)
"""1970 without a zone, like the times in documents."""


class Positional(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """An entry of a Go client that encodes structs as arrays: exactly these three fields in this order."""

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
_map = msgspec.msgpack.Decoder(Envelope, ext_hook=_extension).decode
_array = msgspec.msgpack.Decoder(Positional, ext_hook=_extension).decode
_timestamp_in_map = msgspec.msgpack.Decoder(_Timestamp).decode
_timestamp_in_array = msgspec.msgpack.Decoder(_PositionalTimestamp).decode


def _array_or_map(source: Encoded) -> Envelope | Positional:
    """Read an array, for which `_map` raises; for every other value raise the same error again."""
    first = memoryview(source)[0]
    return _array(source) if first & 0xF0 == 0x90 or first in {0xDC, 0xDD} else _map(source)


class Form(NamedTuple):
    """A form of entries: decoders for the entry and for its id alone, and the ceiling of its memory."""

    name: str
    decode: Callable[[Encoded], Envelope | Positional]
    decode_otherwise: Callable[[Encoded], Envelope | Positional]
    """The decoder that is tried when `decode` finds another type than it expects."""
    decode_id: Callable[[Encoded], _Id]
    ceiling: Callable[[Sequence[Encoded]], int]


MSGPACK_FORM = Form("msgpack", _map, _array_or_map, msgspec.msgpack.Decoder(_Id).decode, ceiling_of_msgpack)
_json = msgspec.json.Decoder(Envelope).decode
_id_in_json = msgspec.json.Decoder(_Id).decode
JSON_FORM = Form("JSON", _json, _json, _id_in_json, ceiling_of_json)
_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"


def _behind(decode: Callable[[Encoded], _T]) -> Callable[[Encoded], _T]:
    return lambda source: decode(without_mark(source))


def without_mark(source: Encoded) -> Encoded:
    """Return JSON without white space and a byte order mark in front of it."""
    return source.lstrip(_SPACE).removeprefix(_BOM)


JSON_BEHIND_FORM = Form("JSON", _behind(_json), _behind(_json), _behind(_id_in_json), ceiling_of_json)
"""JSON behind white space or a byte order mark, as Windows writes it."""
BEFORE_JSON = frozenset(_SPACE + _BOM[:1])
"""White space and the first byte of the mark. In msgpack they are numbers, so no entry begins with them."""


def form_behind(body: Encoded) -> Form:
    """Return the form of an entry that begins with a byte of `BEFORE_JSON`."""
    return JSON_BEHIND_FORM if body.lstrip(_SPACE).removeprefix(_BOM).lstrip(_SPACE)[:1] == b"{" else MSGPACK_FORM


def read_envelope(form: Form, source: Encoded) -> Envelope | Positional:
    """Return the envelope of an entry, with its `timestamp` as a moment or None. Raises Poison."""
    if len(source) > MAX_VALUES and form.ceiling((source,)) > MAX_WEIGHT:  # a value takes a byte
        check_values(source, json=form is not MSGPACK_FORM)
    try:
        envelope = form.decode(source)
    except _UNREADABLE as error:
        envelope = _decode_otherwise(form, source, error)
    moment = envelope.timestamp
    if type(moment) is not datetime or moment.year == 1 or not moment.microsecond % 1000:
        moment = _exact(form, envelope, source)
    envelope.timestamp = moment if moment is None else UTC_EPOCH + (moment - EPOCH)
    return envelope


def _decode_otherwise(form: Form, source: Encoded, error: Exception) -> Envelope | Positional:
    """Decode an entry whose types are not those of the form, in the form's other way. Raises Poison."""
    if not isinstance(error, msgspec.ValidationError):
        raise _poison(form, error) from error
    try:
        return form.decode_otherwise(source)
    except _UNREADABLE as again:
        raise _poison(form, again) from again


def _exact(form: Form, envelope: Envelope | Positional, source: Encoded) -> datetime | None:
    """Return the moment of an envelope that its decoder has not read, or may have rounded. Raises Poison."""
    moment = envelope.timestamp
    try:
        if type(moment) is not datetime or moment.year == 1:
            return read_timestamp(moment)
        raw = (_timestamp_in_map if type(envelope) is Envelope else _timestamp_in_array)(source).timestamp
        return undo_rounding(moment, bytes(raw))
    except _UNREADABLE as error:
        raise _poison(form, error) from error


def _poison(form: Form, error: Exception) -> Poison:
    return Poison(Reason.MALFORMED, f"{form.name}: {_describe_failure(error)}")


def read_identity(claimed: Any, where: str = "id") -> ObjectId:
    """Return the identity that an entry or a message brings. Raises Poison."""
    try:
        return ObjectId(claimed)
    except (InvalidId, TypeError) as error:
        expected = f"{where}: expected 12 bytes, or 24 hex digits as text"
        raise Poison(Reason.MALFORMED, f"{expected}, got another `{type(claimed).__name__}`") from error


def readable_identity(form: Form, source: Encoded) -> ObjectId | None:
    """Return the identity that an entry brings, if it can be read."""
    try:
        claimed = form.decode_id(source).id
        return None if claimed is None else read_identity(claimed)
    except (*_UNREADABLE, Poison):
        return None


_UNREADABLE = (ValueError, RecursionError)
"""Errors of decoding: msgspec.DecodeError and UnicodeDecodeError are ValueErrors, and so is a time in year 10000."""


def _describe_failure(error: Exception) -> str:
    match error:
        case msgspec.DecodeError():
            return str(error)
        case RecursionError():
            return "Expected values nested less deep than Python's recursion limit, got more"
        case UnicodeDecodeError():
            return "Expected text in UTF-8, got other bytes"
    return "Expected times in the years 1 to 9999, got one beyond them"
