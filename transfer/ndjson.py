"""A document -> the JSON object that stands for it on a line: of `transfer tail --json` and of the sinks of files.

Ids are hex text, times RFC 3339 in UTC, bytes base64, and what JSON has no number for is text. Pure.
"""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from bson import DatetimeMS, Decimal128, ObjectId

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SAME = frozenset({str, int, bool, type(None)})
"""Types whose values JSON has as they are."""
_encode = msgspec.json.Encoder().encode


def json_object(document: Mapping[str, object]) -> bytes:
    """Return one JSON object in UTF-8 without a line break, its fields in the order stored.

    Raises RecursionError, TypeError, ValueError or OverflowError when there is none, as for a field without a name.
    """
    values = as_json(document)
    try:
        return _encode(values)
    except (ValueError, OverflowError):  # half a surrogate pair, or a number of more than 64 bits
        return json.dumps(values, separators=(",", ":")).encode()


def as_json(value: object) -> object:
    """Return what JSON has for a value, and for all that is in it."""
    if isinstance(value, dict):
        return {name: item if type(item) in _SAME else as_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [item if type(item) in _SAME else as_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    for kind, convert in _KINDS:
        if isinstance(value, kind):
            return convert(value)
    return value if value is None else str(value)


def _moment(value: datetime) -> str:
    """Return a time; one without a zone is in UTC, and the digits below a millisecond are there when it has some."""
    precision = "microseconds" if value.microsecond % 1000 else "milliseconds"
    moment = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat(timespec=precision) + "Z"


_KINDS: tuple[tuple[type, Callable[..., object]], ...] = (
    (ObjectId, str),
    (datetime, _moment),
    (bool, bool),
    (int, int),
    (bytes, lambda value: base64.b64encode(value).decode()),
    (DatetimeMS, int),  # a time that a datetime has no room for, in milliseconds since 1970
    (Decimal128, str),
)
