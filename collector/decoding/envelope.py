"""The bytes of one entry in, what stands in them out: every form an entry is written in. Pure.

The forms are those of docs/design.md 2. Times come out in UTC and without a zone. pymongo takes such times for UTC, and
a time with a zone costs it as much as the rest of the entry.
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
from collector.model import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Encoded: TypeAlias = "bytes | bytearray"
"""The bytes of one entry, or of all that a message holds; what was inflated is a bytearray."""
_NODE_TIME = 13
"""The extension that Node.js publishers use for a time; Go's msgpack, and so the Go collector, reads it as one."""
_T = TypeVar("_T")
UTC_EPOCH = EPOCH.replace(tzinfo=None)
"""1970, as times stand in documents."""


class Envelope(msgspec.Struct, gc=False):
    """An entry on the wire. Fields that are not known are passed over."""

    data: dict[str, Any]
    timestamp: Any = None
    metadata: Any = None
    id: Any = None


class Positional(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
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
_map = msgspec.msgpack.Decoder(Envelope, ext_hook=_extension).decode
_array = msgspec.msgpack.Decoder(Positional, ext_hook=_extension).decode
_timestamp_in_map = msgspec.msgpack.Decoder(_Timestamp).decode
_timestamp_in_array = msgspec.msgpack.Decoder(_PositionalTimestamp).decode


def _array_or_map(source: Encoded) -> Envelope | Positional:
    """Read an array, for which `_map` raises; for everything else raise as it did."""
    first = memoryview(source)[0]
    return _array(source) if first & 0xF0 == 0x90 or first in {0xDC, 0xDD} else _map(source)


class Form(NamedTuple):
    """How an entry is written: what reads it, what reads its id alone, and what it may take in memory."""

    name: str
    decode: Callable[[Encoded], Envelope | Positional]
    decode_otherwise: Callable[[Encoded], Envelope | Positional]
    """Tried when `decode` finds another type than it expects."""
    decode_id: Callable[[Encoded], _Id]
    ceiling: Callable[[Sequence[Encoded]], int]


MSGPACK_FORM = Form("msgpack", _map, _array_or_map, msgspec.msgpack.Decoder(_Id).decode, ceiling_of_msgpack)
_json = msgspec.json.Decoder(Envelope).decode
_id_in_json = msgspec.json.Decoder(_Id).decode
JSON_FORM = Form("JSON", _json, _json, _id_in_json, ceiling_of_json)
_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"


def _behind(decode: Callable[[Encoded], _T]) -> Callable[[Encoded], _T]:
    return lambda source: decode(source.lstrip(_SPACE).removeprefix(_BOM))


JSON_BEHIND_FORM = Form("JSON", _behind(_json), _behind(_json), _behind(_id_in_json), ceiling_of_json)
"""JSON behind white space or a byte order mark, as Windows writes it."""
BEFORE_JSON = frozenset(_SPACE + _BOM[:1])
"""Bytes that no entry in msgpack begins with: those of white space and of the mark are numbers there."""


def form_behind(body: Encoded) -> Form:
    """Return the form of an entry that begins with one of these bytes."""
    return JSON_BEHIND_FORM if body.lstrip(_SPACE).removeprefix(_BOM).lstrip(_SPACE)[:1] == b"{" else MSGPACK_FORM


def read_envelope(form: Form, source: Encoded) -> Envelope | Positional:
    """Return what stands in an entry, its `timestamp` as a moment or None. Raises Poison."""
    if len(source) > MAX_VALUES and form.ceiling((source,)) > MAX_WEIGHT:  # a value takes a byte
        check_values(source, json=form is not MSGPACK_FORM)
    try:
        try:
            envelope = form.decode(source)
        except msgspec.ValidationError:
            envelope = form.decode_otherwise(source)
        moment = envelope.timestamp
        if type(moment) is not datetime or moment.year == 1:
            moment = read_timestamp(moment)
        elif not moment.microsecond % 1000:
            raw = (_timestamp_in_map if type(envelope) is Envelope else _timestamp_in_array)(source).timestamp
            moment = undo_rounding(moment, bytes(raw))
    except _UNREADABLE as error:
        raise Poison(Reason.MALFORMED, f"{form.name}: {_sentence(error)}") from error
    envelope.timestamp = moment if moment is None else UTC_EPOCH + (moment - EPOCH)
    return envelope


def read_identity(claimed: Any, where: str = "id") -> ObjectId:
    """Return the identity that an entry or a message brings. Raises Poison."""
    try:
        return ObjectId(claimed)
    except (InvalidId, TypeError) as error:
        expected = f"{where}: expected 12 bytes, or 24 hex digits as text"
        raise Poison(Reason.MALFORMED, f"{expected}, got another `{type(claimed).__name__}`") from error


def readable_identity(form: Form, source: Encoded) -> ObjectId | None:
    """Return the identity that an entry brings, when that much of it can be read."""
    try:
        claimed = form.decode_id(source).id
        return None if claimed is None else read_identity(claimed)
    except (*_UNREADABLE, Poison):
        return None


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
