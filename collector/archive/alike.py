"""Entries that are alike, read together: bodies in, columns of rows out, or None when they have to be read one by one.

A call costs as much as half of the work that it does for one entry, so here each step is done once for all entries of
a slice. Nothing is decided here that the decoder of one entry decides in another way: any doubt is None. Pure.
"""

from __future__ import annotations

from datetime import datetime
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from collector.archive.checked import NULL, are_plain, are_shallow
from collector.archive.times import texts_of, time_in_json
from collector.decoding.weight import MAX_VALUES
from collector.errors import Poison

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Columns(NamedTuple):
    """The fields of entries, one list for each; None where no entry brings the field, or one does not."""

    data: Sequence[msgspec.Raw]
    metadata: Sequence[msgspec.Raw]
    timestamps: Sequence[str | None] | None
    identities: Sequence[str] | None


# --- JSON: data and metadata stay as they came


class _Body(msgspec.Struct, gc=False):
    timestamp: msgspec.Raw = NULL
    metadata: msgspec.Raw = NULL
    data: msgspec.Raw = NULL
    id: msgspec.Raw = NULL


_body = msgspec.json.Decoder(_Body).decode
_moments = msgspec.json.Decoder(list[datetime]).decode
_any_json = msgspec.json.Decoder(msgspec.Raw).decode
_BRACE = ord("{")
_MILLISECONDS, _IDENTITY = len('"2026-01-02T03:04:05.678Z"'), len('"65a1b2c3d4e5f60718293a4b"')


def of_json(sources: Sequence[bytes]) -> Columns | None:
    """Return the columns of entries in JSON."""
    try:
        bodies = list(map(_body, sources))
    except (ValueError, RecursionError):
        return None
    data = [body.data for body in bodies]
    if {bytes(value)[0] for value in data} != {_BRACE} or not _are_light(sources) or not are_plain(sources):
        return None
    times, identities = _column([body.timestamp for body in bodies]), _column([body.id for body in bodies])
    texts: Sequence[str | None] | None = None
    try:
        if times:
            texts = _time_texts(times) or list(map(time_in_json, times))
    except Poison:
        return None
    named = _identities(identities) if identities else ()
    if named is None:
        return None
    return Columns(data, [body.metadata for body in bodies], texts, named or None)


def _column(values: list[msgspec.Raw]) -> list[msgspec.Raw]:
    """Return the values of a field; none when no entry has it."""
    return values if values.count(NULL) < len(values) else []


def plain_json(sources: Sequence[bytes]) -> list[msgspec.Raw] | None:
    """Return bodies, each one JSON value of one line, as values."""
    try:
        values = list(map(_any_json, sources))
    except (ValueError, RecursionError):
        return None
    return values if are_plain(sources) else None


def _are_light(sources: Sequence[bytes]) -> bool:
    return max(map(len, sources)) <= MAX_VALUES  # a value takes a byte


def _time_texts(times: Sequence[msgspec.Raw]) -> list[str] | None:
    """Return times that are written as `rfc_3339` does, to the millisecond; None when any is not."""
    joined = _of_length(times, _MILLISECONDS)
    if joined[11 :: _MILLISECONDS + 1].strip(b"T") or joined[_MILLISECONDS - 2 :: _MILLISECONDS + 1].strip(b"Z"):
        return None
    try:
        if min(_moments(b"[%b]" % joined)).year == 1:  # Go's zero time
            return None
    except ValueError:
        return None
    return joined[1:-1].decode().split('","')


def _identities(values: Sequence[msgspec.Raw]) -> list[str] | None:
    """Return identities that are 24 hex digits; None when any is not."""
    found = _of_length(values, _IDENTITY)[1:-1].decode(errors="replace").lower().split('","')
    try:
        return found if len(bytes.fromhex("".join(found))) == 12 * len(values) else None
    except ValueError:
        return None


def _of_length(values: Sequence[msgspec.Raw], length: int) -> bytes:
    """Return texts of one length, joined by commas; nothing when any is longer or shorter, or has an escape."""
    joined = b",".join(values)
    return joined if set(map(len, values)) == {length} and joined.find(b"\\") < 0 else b""


# --- msgpack: as our clients write it, with the time at the end of an entry, and behind it an id or nothing

_TIME, _ID = b"\xa9timestamp\xd7\xff", b"\xa2id\xc4\x0c"
_WITH_ID, _WITHOUT_ID = Struct(f">{len(_TIME)}sQ{len(_ID)}s12s"), Struct(f">{len(_TIME)}sQ")
_WHOLE_SECOND = b"\xa9timestamp\xd6\xff"
_NAME = len(_ID) + 12
_OTHER = b"\xd4\x00\x00"
"""An extension that is no time. JSON has no form for it, so it shows when the end of an entry is in its `data`."""
_OTHER_TIME = b"\xa9timestamp" + _OTHER
_OTHER_END = _OTHER_TIME + b"\xa2id" + _OTHER
_FLOATS = frozenset((0xCA, 0xCB))
_BEFORE = _FLOATS | {0xD6, 0xD7}
_LENGTHS = frozenset((0xC7, 0xC8, 0xC9))
"""First bytes of a float or double, also of a time in 4 or 8 bytes, and of a time behind its length."""
_SECONDS = (1 << 34) - 1


class _Timed(msgspec.Struct, gc=False):
    data: dict[str, Any]
    timestamp: msgspec.msgpack.Ext
    metadata: Any = None


class _Named(msgspec.Struct, gc=False):
    data: dict[str, Any]
    timestamp: msgspec.msgpack.Ext
    id: msgspec.msgpack.Ext
    metadata: Any = None


_timed = msgspec.msgpack.Decoder(_Timed).decode
_named = msgspec.msgpack.Decoder(_Named).decode
_encode_lines = msgspec.json.Encoder().encode_lines


def of_msgpack(sources: Sequence[bytes]) -> Columns | None:
    """Return the columns of entries in msgpack."""
    named = sources[0][-_NAME:].startswith(_ID)
    shape = _WITH_ID if named else _WITHOUT_ID
    ends = b"".join([source[-shape.size :] for source in sources])
    if ends.count(_TIME) != len(sources):
        sources = [_with_nanoseconds(source, _NAME if named else 0) for source in sources]
        ends = b"".join([source[-shape.size :] for source in sources])
    if len(ends) != shape.size * len(sources) or not _are_light(sources):
        return None
    marks, moments, *ids = zip(*shape.iter_unpack(ends), strict=True)
    if marks.count(_TIME) != len(marks) or (ids and ids[0].count(_ID) != len(marks)):
        return None
    bodies = [source[: -shape.size] for source in sources]
    texts = None if may_have_another_form(b"".join(bodies)) else _texts_of(moments)
    other, decode = (_OTHER_END, _named) if named else (_OTHER_TIME, _timed)
    values = None if texts is None else _values([body + other for body in bodies], decode)
    if values is None:
        return None
    return Columns(values[::2], values[1::2], texts, [identity.hex() for identity in ids[1]] if named else None)


def _with_nanoseconds(source: bytes, behind: int) -> bytes:
    """Return an entry whose time is a whole second, in 4 bytes, as if it were written in 8 bytes like all others."""
    start = len(source) - behind - len(_WHOLE_SECOND) - 4
    if start < 0 or not source.startswith(_WHOLE_SECOND, start):
        return source
    return b"".join((source[:start], _TIME, bytes(4), source[start + len(_WHOLE_SECOND) :]))


def may_have_another_form(encoded: bytes) -> bool:
    """Tell whether there may be a value in msgpack that msgspec writes into JSON in another way than we do.

    That is a time, or a float or double that is no number.
    """
    place = encoded.find(0x7F)
    while place >= 0:
        if encoded[place - 1] in _FLOATS:
            return True
        place = encoded.find(0x7F, place + 1)
    place = encoded.find(0xFF)
    while place >= 0:
        if encoded[place - 1] in _BEFORE or not _LENGTHS.isdisjoint(encoded[max(0, place - 5) : place]):
            return True
        place = encoded.find(0xFF, place + 1)
    return False


def _values(sources: Sequence[bytes], decode: Callable[[bytes], _Timed | _Named]) -> list[msgspec.Raw] | None:
    """Return data and metadata of each entry in JSON."""
    try:
        entries = list(map(decode, sources))
        lines = _encode_lines([value for entry in entries for value in (entry.data, entry.metadata)])
    except (TypeError, ValueError, RecursionError):
        return None
    return list(map(msgspec.Raw, lines[:-1].split(b"\n"))) if are_shallow(lines) else None


def _texts_of(moments: Sequence[int]) -> list[str] | None:
    """Return times as the collector reads them: in microseconds, and never rounded up to the next millisecond."""
    nanoseconds = [moment >> 34 for moment in moments]
    if max(nanoseconds) >= 1_000_000_000:
        return None
    microseconds = [(nano + 500) // 1000 - (nano % 1_000_000 >= 999_500) for nano in nanoseconds]
    return texts_of([moment & _SECONDS for moment in moments], microseconds)
