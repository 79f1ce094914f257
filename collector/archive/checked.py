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
    from collector.decoding.envelope import Encoded

NULL = msgspec.Raw(b"null")
MAX_DEPTH = 100
"""Levels of lists and maps in a value. MongoDB has the same limit, and DuckDB reads 128 levels."""
_MOST_DIGITS = 308
"""Digits of a number that a double can hold in any case."""
_SIGNS = bytes(
    0 if sign in b"0123456789+" else 1 if sign in b"eE" else 2 if sign in b"{[" else 3 for sign in range(256)
)
_EXPONENT, _DIGITS, _OPENED = bytes((0, 1, 0, 0, 0)), bytes(_MOST_DIGITS + 1), b"\2"
"""An exponent of three digits, a very long number, and the begin of a list or map, where `_SIGNS` has been applied."""
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
    # `find` and not `in`, which raises and forgets an exception in CPython each time
    if not source.isascii() or signs.find(_EXPONENT) >= 0 or signs.find(_DIGITS) >= 0:
        _check_numbers(source)
    if signs.count(_OPENED) > MAX_DEPTH:
        check_depth(source)


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


def may_be_deep(encoded: bytes) -> bool:
    """Tell whether `check_depth` has to be asked."""
    return len(encoded) > 2 * MAX_DEPTH and encoded.count(b"{") + encoded.count(b"[") > MAX_DEPTH


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
