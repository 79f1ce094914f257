"""Fields that msgspec writes just as a walk leaves them -> their bytes. Most entries have no others.

Nothing of the application is called here, and few functions are: this is in the application's thread.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

KINDS = frozenset({type(None), bool, int, float, str, bytes})
"""The types of flat values."""
MOST_FLAT = 1000
"""More values are counted by a walk, which has a bound for them."""
_TEXT = frozenset({str})
_END = 1 << 63
may_be_beyond = re.compile(rb"\xcf[\x80-\xff]").search
"""Looks for the two bytes that an integer above 63 bits begins with, and others may. It is worth it where 0xCF is."""
encode = msgspec.msgpack.Encoder().encode


def flat_bytes(fields: Any, taken: frozenset[str] = frozenset()) -> bytes | None:
    """Return the bytes of a dict whose names and values are flat, None of anything else and where a name is taken.

    Another thread that changes the dict meanwhile changes nothing here. Raises what is raised without memory or stack.
    """
    if type(fields) is not dict:
        return None
    copy = fields.copy()
    if len(copy) > MOST_FLAT or not KINDS.issuperset(map(type, copy.values())) or not are_names(copy):
        return None
    if not taken.isdisjoint(copy):
        return None
    try:
        encoded = encode(copy)
    except (UnicodeEncodeError, OverflowError):  # a lone surrogate, a large integer
        return None
    if 0xCF in encoded and may_be_beyond(encoded) and not are_in_range(copy.values()):
        return None
    return encoded


def are_names(names: Collection[Any]) -> bool:
    """Return whether all are names as fields have them: text in ASCII without NUL, which ends a name in MongoDB."""
    if not _TEXT.issuperset(map(type, names)):
        return False
    joined = "".join(names)
    return joined.isascii() and "\0" not in joined


def are_in_range(values: Iterable[Any]) -> bool:
    """Return whether no integer is above 63 bits, for which MongoDB has no room."""
    return all(value < _END for value in values if type(value) is int)
