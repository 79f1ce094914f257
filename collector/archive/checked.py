"""Values in, JSON that a file of an archive can hold out: one line, UTF-8, and nothing that breaks a reader. Pure.

One bad value in a file makes readers refuse the whole file, so it has to be found before its row is written. A body
that is JSON already stays as it is, byte for byte, apart from white space between its values.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

from collector.errors import Poison
from collector.model import Reason
from transfer.ndjson import as_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.decoding.envelope import Encoded

NULL = msgspec.Raw(b"null")
MAX_DEPTH = 100
"""Levels of lists and maps in a value. MongoDB has the same limit, and DuckDB reads 128 levels."""
_MOST_DIGITS = 308
"""Digits of a number that a double can hold in any case."""
_SIGNS = bytes(
    0 if sign in b"0123456789+" else 1 if sign in b"eE" else 2 if sign in b"{[" else 4 if sign in b"\r\n" else 3
    for sign in range(256)
)
_EXPONENT, _DIGITS, _OPENED = bytes((1, 0, 0, 0)), bytes(_MOST_DIGITS - 99), b"\2"
"""An exponent of three digits, as many digits as 99 zeros more make too many, and the begin of a list or map.

They are so where `_SIGNS` has been applied.
"""
_TOO_DEEP = _OPENED * (MAX_DEPTH + 1)
_NOT_OPENED = bytes((0, 1, 3))
"""Everything but begins of lists and maps, and ends of lines."""
_OPENED_AS_BRACE, _BRACES = bytes.maketrans(b"[", b"{"), b"{" * (MAX_DEPTH + 1)
_NEITHER_OPENED_NOR_END = bytes(set(range(256)) - set(b"{[\n"))
_AROUND = 40
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_TOO_LONG = re.compile(rb"[0-9]{%d}" % (_MOST_DIGITS + 1))
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def check_body(source: Encoded) -> None:
    """Raise Poison for JSON that is well-formed so far, and has a number, bytes or levels that readers refuse.

    msgspec looks at none of them when it passes over a `Raw`.
    """
    signs = source.translate(_SIGNS)
    if _is_odd(source, signs):
        _check_numbers(source)
    if signs.count(_OPENED) > MAX_DEPTH:
        check_depth(source)


def are_plain(sources: Sequence[bytes]) -> bool:
    """Tell whether `check_body` surely takes each body, and each is one line: it is much faster for many."""
    joined = b"\n".join(sources)
    signs = joined.translate(_SIGNS)
    opened = signs.translate(None, _NOT_OPENED)
    return opened.count(b"\4") == len(sources) - 1 and opened.find(_TOO_DEEP) < 0 and not _is_odd(joined, signs)


def are_shallow(lines: bytes) -> bool:
    """Tell whether no line of JSON surely has more than `MAX_DEPTH` levels."""
    return lines.translate(_OPENED_AS_BRACE, _NEITHER_OPENED_NOR_END).find(_BRACES) < 0


def _is_odd(source: Encoded, signs: Encoded) -> bool:
    """Tell whether there may be bytes that are no text, or a number that no double can hold."""
    if not source.isascii():
        try:
            source.decode()
        except UnicodeDecodeError:
            return True
    # `find` and not `in`, which raises and forgets an exception in CPython each time
    place = signs.find(_EXPONENT)
    while place >= 0:
        if _may_be_in_number(source, place):
            return True
        place = signs.find(_EXPONENT, place + 1)
    return signs.find(_DIGITS) >= 0


def _may_be_in_number(source: Encoded, place: int) -> bool:
    """Tell whether the `e` at a place may belong to a number; in an id in hex it stands behind a letter or a quote."""
    before = source[max(0, place - _AROUND) : place]
    left = before.rstrip(b"0123456789.-")
    return len(left) < len(before) and (not left or left[-1] in b":,[ \t\r\n")


def _check_numbers(source: Encoded) -> None:
    try:
        _decode(source)
    except (ValueError, RecursionError) as error:
        raise Poison(Reason.MALFORMED, f"JSON: {describe(error)}") from error
    if _TOO_LONG.search(_TEXT.sub(b"", source)):
        raise Poison(Reason.MALFORMED, f"JSON: expected numbers of at most {_MOST_DIGITS} digits, got a longer one")


def check_depth(source: Encoded) -> None:
    """Raise Poison for JSON with more than `MAX_DEPTH` levels."""
    left = _TEXT.sub(b"", source).translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        left = left.replace(b"[]", b"")
    if left:
        raise Poison(Reason.DOCUMENT_INVALID, f"expected at most {MAX_DEPTH} levels of nesting, got more")


def one_line(value: msgspec.Raw) -> msgspec.Raw:
    """Return JSON without white space between its parts."""
    return msgspec.Raw(msgspec.json.format(bytes(value), indent=-1))


def to_json(value: Any) -> msgspec.Raw:
    """Return the JSON of any value, in the form of the project's other JSON. Raises Poison when there is none.

    Ids are hex text, times RFC 3339 in UTC, bytes base64, and what JSON has no number for is text.
    """
    if value is None:
        return NULL
    try:
        encoded = _encoded(as_json(value))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Poison(Reason.DOCUMENT_INVALID, f"expected a value that JSON can hold, got {describe(error)}") from error
    check_body(encoded)
    return msgspec.Raw(encoded)


def _encoded(value: object) -> bytes:
    try:
        return _encode(value)
    except (ValueError, OverflowError):  # half a surrogate pair, or a number of more than 64 bits
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")


def text_of(value: msgspec.Raw) -> bytes | None:
    """Return JSON as text in UTF-8, and null as None."""
    encoded = bytes(value)
    return None if encoded == b"null" else encoded


def texts_of(values: Sequence[msgspec.Raw]) -> list[bytes | None]:
    """Return the same for many values."""
    return [None if encoded == b"null" else encoded for encoded in map(bytes, values)]


def describe(error: Exception) -> str:
    """Say what is wrong with a value, without the value."""
    match error:
        case msgspec.DecodeError():
            return str(error)
        case RecursionError():
            return "expected fewer levels of nesting"
        case UnicodeDecodeError():
            return "expected text in UTF-8, got other bytes"
        case TypeError():
            return "a name that is no text"
    return f"`{type(error).__name__}`"
