"""The memory that the entries of a message take as Python objects: bytes or documents in, numbers of bytes out. Pure.

An empty map is one byte on the wire and 64 in memory, so the size of a body says little. A *ceiling* is computed from
the bytes of a body: it is never far too low, and far too high for text that is not ASCII. A *weight* is computed from
the decoded document. Both are estimates, and both include the copy that is encoded for MongoDB.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from collector.decoding.bundle import has_more_values
from collector.errors import Poison
from collector.model import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ENTRY = 400
"""Bytes of an entry besides its fields: document, `_id`, timestamp, and the objects of the pipeline."""
MAX_WEIGHT = 112 * 1024 * 1024
"""Bytes that the entries of a message may take. 10 MiB of entries with a dozen short fields each are just below it."""
MAX_VALUES = 262_144
"""Values that an entry may have whose ceiling is above `MAX_WEIGHT`: maps, arrays, and each key and value in them."""
SURELY_LIGHT = 512 * 1024
"""Bytes of a body that can never reach `MAX_WEIGHT`."""
_BYTE, _CONTAINER, _VALUE = 3, 128, 32
_PLAUSIBLE = 16
"""How many times its size a body of ordinary fields in ASCII may take in memory."""


def _counter(
    containers: bytes, values: bytes, long_arrays: bytes = b""
) -> Callable[[Sequence[bytes | bytearray]], int]:
    """Make a function that counts each byte, and counts more for a byte that may begin a map, an array or a value.

    A long array begins with a byte of its own. In a body with that byte, each byte is counted as a number.
    """
    table = bytes.maketrans(containers + values, b"c" * len(containers) + b"v" * len(values))
    others = bytes(set(range(256)).difference(containers, values))

    def ceiling(bodies: Sequence[bytes | bytearray]) -> int:
        body = b"".join(bodies)
        heads = body.translate(table, others)
        number = heads.count(b"c")
        numbers = 0
        for head in long_arrays:
            if head in body:
                numbers += sum([len(one) for one in bodies if head in bytes(one)])
        return _BYTE * len(body) + _CONTAINER * number + _VALUE * (len(heads) - number + numbers)

    return ceiling


ceiling_of_msgpack = _counter(bytes((*range(0x80, 0xA0), *range(0xDC, 0xE0))), bytes(range(0xA0, 0xDC)), b"\xdc\xdd")
ceiling_of_json = _counter(b"{[", b",:")


def is_plausible(ceiling: int, size: int, entries: int) -> bool:
    """Tell whether the ceiling may be used as the weight; else the weight has to be computed from the documents."""
    return ceiling <= _PLAUSIBLE * size + ENTRY * entries


def weight_of(document: dict[str, Any], size: int) -> int:
    """Return the memory that a document takes which had `size` bytes on the wire."""
    weight = ENTRY + 3 * size
    level: list[Any] = [document]
    while level:
        weight += 128 * len(level) + 48 * sum(map(len, level))
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
    return weight


def check_values(source: bytes | bytearray, *, json: bool) -> None:
    """Raise Poison when an entry has more than `MAX_VALUES` values. They are counted without decoding the entry."""
    if json:
        many = _signs(source) > MAX_VALUES and _signs(_TEXT.sub(b"", source)) > MAX_VALUES
    else:
        many = has_more_values(memoryview(source), MAX_VALUES)
    if many:
        raise Poison(Reason.RULE, f"expected at most {MAX_VALUES} keys and values in an entry, got more")


def _signs(text: bytes | bytearray) -> int:
    return sum(text.count(sign) for sign in (b"{", b"[", b",", b":"))


_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
"""A string in JSON. A string without an end reaches to the end of the body, or the search would take quadratic time."""
