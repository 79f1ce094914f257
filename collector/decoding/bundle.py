"""Cuts a bundle, a msgpack array, into its entries: bytes in, slices out, so that each entry stands alone. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from collector.errors import Poison
from collector.model import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ENTRIES = 65_536
"""Entries of a bundle. Entries of one byte each take several hundred times their size in memory."""
_ENTRIES = msgspec.msgpack.Decoder(list[msgspec.Raw])


def split(body: bytes | bytearray) -> Sequence[bytes]:
    """Return the undecoded bytes of each entry. Raises Poison when the body is no bundle."""
    if body[:1] == b"\xdd" and (count := int.from_bytes(body[1:5])) > MAX_ENTRIES:
        raise Poison(Reason.MALFORMED, f"bundle: expected at most {MAX_ENTRIES} entries, got {count}")
    try:
        return _ENTRIES.decode(body)
    except RecursionError:
        return _split_deep(body)
    except msgspec.DecodeError as error:
        raise Poison(Reason.MALFORMED, f"bundle: {error}") from error


def _split_deep(body: bytes | bytearray) -> list[bytes]:
    """Split without recursion: msgspec rejects a whole bundle when one entry is nested too deep."""
    header, count = _array_header(body)
    entries, start = [], header
    try:
        for _ in range(count):
            end = _end_of_value(body, start)
            entries.append(bytes(body[start:end]))
            start = end
    except IndexError as error:
        raise Poison(Reason.MALFORMED, "bundle: expected a whole one, got its beginning") from error
    if start != len(body):
        raise Poison(Reason.MALFORMED, "bundle: expected its end after the last entry, got more bytes")
    return entries


def _array_header(body: bytes | bytearray) -> tuple[int, int]:
    """Return the offset of the first value and the number of values."""
    width = {0xDC: 2, 0xDD: 4}.get(body[0], 0)
    return 1 + width, int.from_bytes(body[1 : 1 + width]) if width else body[0] & 0x0F


def has_more_values(body: memoryview, limit: int) -> bool:
    """Tell whether a value holds more than `limit` values, keys included, by the lengths of its maps and arrays."""
    left, seen, at = 1, 1, 0
    try:
        while left and seen <= limit:
            at, inside = _next(body, at)
            left += inside - 1
            seen += inside
    except IndexError:
        return False  # the body is cut; decoding it raises the error
    return seen > limit


def _end_of_value(body: bytes | bytearray, at: int) -> int:
    values = 1
    while values:
        at, inside = _next(body, at)
        values += inside - 1
    if at > len(body):
        raise IndexError
    return at


def _next(body: bytes | bytearray | memoryview, at: int) -> tuple[int, int]:
    """Return the offset behind a value's head and its text or bytes, and how many values follow inside of it."""
    code = body[at]
    at += 1
    if not 0x80 <= code < 0xE0:
        return at, 0
    length_width, fixed, values_each = _FOLLOWING[code - 0x80]
    length = int.from_bytes(body[at : at + length_width]) if length_width else _length_in(code)
    return at + length_width + fixed + (0 if values_each else length), values_each * length


def _length_in(code: int) -> int:
    """Return the length in the first byte of a short map, array or text; 0 for other values."""
    if code < 0xA0:
        return code & 0x0F
    return code & 0x1F if code < 0xC0 else 0


_FOLLOWING = (
    *[(0, 0, 2)] * 16,  # 0x80 fixmap
    *[(0, 0, 1)] * 16,  # 0x90 fixarray
    *[(0, 0, 0)] * 32,  # 0xa0 fixstr
    *[(0, 0, 0)] * 4,  # 0xc0 nil, never used, false, true
    *[(1, 0, 0), (2, 0, 0), (4, 0, 0)],  # 0xc4 bin
    *[(1, 1, 0), (2, 1, 0), (4, 1, 0)],  # 0xc7 ext
    *[(0, 4, 0), (0, 8, 0)],  # 0xca float
    *[(0, 1, 0), (0, 2, 0), (0, 4, 0), (0, 8, 0)] * 2,  # 0xcc uint, 0xd0 int
    *[(0, 2, 0), (0, 3, 0), (0, 5, 0), (0, 9, 0), (0, 17, 0)],  # 0xd4 fixext
    *[(1, 0, 0), (2, 0, 0), (4, 0, 0)],  # 0xd9 str
    *[(2, 0, 1), (4, 0, 1)],  # 0xdc array
    *[(2, 0, 2), (4, 0, 2)],  # 0xde map
)
"""For a first byte from 0x80 to 0xdf, by the msgpack specification: how many bytes the length takes, how many bytes
follow in any case, and how many values follow for each unit of the length (0: a unit is a byte)."""
