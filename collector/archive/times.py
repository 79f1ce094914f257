"""Times as text in RFC 3339, in UTC: one by one, and for many at once, which mostly share their second. Pure."""

from __future__ import annotations

import time
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from collector.decoding.timestamps import read_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SECOND = 1_000_000_000
_SHORT, _LONG = len('"2026-01-02T03:04:05.678Z"'), len('"2026-01-02T03:04:05.678901Z"')
_T, _Z = b"TZ"
_encode = msgspec.json.Encoder().encode
_value = msgspec.json.Decoder().decode
_moment = msgspec.json.Decoder(datetime).decode


def rfc_3339(moment: datetime) -> str:
    """Return a moment, which has no zone and is in UTC, as the project's other JSON has it."""
    text = _encode(moment)[1:-1].decode()
    if moment.microsecond % 1000:
        return f"{text}Z"
    return f"{text[:-3]}Z" if moment.microsecond else f"{text}.000Z"


def time_in_json(raw: msgspec.Raw) -> str | None:
    """Return a time as `rfc_3339` writes it; None for null. One that is written so already stays. Raises Poison."""
    encoded = bytes(raw)
    length = len(encoded)
    if length == _SHORT or (length == _LONG and encoded[24:27] != b"000"):
        try:
            if encoded[11] == _T and encoded[-2] == _Z and b"\\" not in encoded and _moment(encoded).year > 1:
                return encoded[1:-1].decode()
        except ValueError:
            pass  # it is a leap second, or no time
    moment = read_timestamp(_value(encoded))
    return None if moment is None else rfc_3339(moment.replace(tzinfo=None))


def texts_of(seconds: Sequence[int], microseconds: Iterable[int]) -> list[str]:
    """Return moments as `rfc_3339` does; each is a second since 1970 and microseconds of it."""
    heads = {second: _second_text(second) for second in set(seconds)}
    return [
        f"{heads[second]}.{micro:06d}Z" if micro % 1000 else f"{heads[second]}.{micro // 1000:03d}Z"
        for second, micro in zip(seconds, microseconds, strict=True)
    ]


def texts_to_the_microsecond(times_ns: Sequence[int]) -> list[str]:
    """Return times in nanoseconds since 1970 as `rfc_3339` does, rounded down."""
    return texts_of([time_ns // _SECOND for time_ns in times_ns], [time_ns % _SECOND // 1000 for time_ns in times_ns])


def time_text(time_ns: int) -> str:
    """Return a time in nanoseconds since 1970 with all of its nine digits."""
    second, rest = divmod(time_ns, _SECOND)
    return f"{_second_text(second)}.{rest:09d}Z"


def time_texts(times_ns: Sequence[int]) -> list[str]:
    """Return times in nanoseconds since 1970 with all of their nine digits."""
    if not times_ns:
        return []
    second = times_ns[0] // _SECOND
    if max(times_ns) // _SECOND != second or min(times_ns) // _SECOND != second:
        return list(map(time_text, times_ns))
    head, begin = _second_text(second), second * _SECOND
    return [f"{head}.{time_ns - begin:09d}Z" for time_ns in times_ns]


def _second_text(second: int) -> str:
    minute, rest = divmod(second, 60)
    return f"{_minute_text(minute)}:{rest:02d}"


@lru_cache(maxsize=64)
def _minute_text(minute: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M", time.gmtime(minute * 60))
