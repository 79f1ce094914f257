"""The `timestamp` of an entry: every form that publishers send, in; a moment in UTC, out. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from collector.errors import Poison
from collector.model import Reason

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GO_ZERO = datetime(1, 1, 1, tzinfo=UTC)
"""`time.Time{}`, which a Go struct sends when its time was not set."""
_MICROSECOND = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_TO_THE_MICROSECOND = len("2024-05-06T07:08:09.123456Z")
_RFC_3339 = "RFC 3339 text like 2024-05-06T07:08:09.123Z"


def read_timestamp(value: object) -> datetime | None:
    """Return the moment in microseconds, rounded down; None for null and for Go's zero time. Raises Poison."""
    if value is None:
        return None
    try:
        moment = _read(value)
    except OverflowError as error:
        raise _poison("a moment in the years 1 to 9999", "one beyond them") from error
    return None if moment == _GO_ZERO else moment


def _read(value: object) -> datetime:
    match value:
        case datetime():
            return value.astimezone(UTC)
        case bool():
            pass
        case int() | float():
            return _from_epoch(value)
        case str():
            return _from_text(value)
        case [int(seconds), int(nanoseconds)] if not isinstance(seconds, bool) and 0 <= nanoseconds < 1_000_000_000:
            return EPOCH + timedelta(seconds=seconds, microseconds=nanoseconds // 1000)
        case [_, _]:
            raise _poison("[seconds, nanoseconds] as integers, nanoseconds below 1,000,000,000", "another pair")
    raise _poison("a time, [seconds, nanoseconds], RFC 3339 text or epoch seconds", f"`{type(value).__name__}`")


def _from_epoch(seconds: float) -> datetime:
    try:
        return EPOCH + timedelta(seconds=seconds)
    except ValueError as error:
        raise _poison("a number of seconds", "NaN") from error
    except OverflowError as error:
        expected = "seconds since 1970, in the years 1 to 9999"
        raise _poison(expected, "a number beyond them: are these milliseconds or finer? divide") from error


def _from_text(text: str) -> datetime:
    """Read RFC 3339. A leap second, 23:59:60, becomes the second after it, as in all times that count from 1970."""
    if len(text) <= _TO_THE_MICROSECOND and text.endswith("Z") and text[17:19] != "60":
        return _convert(text)
    leap = text[17:19] == "60"
    seconds = f"{text[:17]}59" if leap else text[:19]
    zone = text[19:].lstrip(".0123456789")
    fraction = text[19 : len(text) - len(zone)][:7]  # msgspec would round digits below a microsecond up
    moment = _convert(f"{seconds}{fraction}{zone}").astimezone(UTC)
    return moment + _SECOND if leap else moment


def _convert(text: str) -> datetime:
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError as error:
        raise _poison(_RFC_3339, "other text") from error
    if moment.tzinfo is None:
        raise _poison(_RFC_3339, "text without a zone")
    return moment


def undo_rounding(moment: datetime, encoded: bytes) -> datetime:
    """Undo it when msgspec has rounded `encoded`, a msgpack time, up to the next millisecond.

    MongoDB keeps milliseconds, so 08:59:59.9999997 would otherwise be stored as 09:00:00.
    """
    if len(encoded) == 10:
        nanoseconds = int.from_bytes(encoded[2:6]) >> 2
    elif len(encoded) == 15:
        nanoseconds = int.from_bytes(encoded[3:7])
    else:
        return moment
    return moment - _MICROSECOND if nanoseconds % 1_000_000 > 999_000 else moment


def _poison(expected: str, got: str) -> Poison:
    return Poison(Reason.MALFORMED, f"timestamp: expected {expected}, got {got}")
