"""Points in time: datetimes -> nanoseconds -> msgpack's extension for timestamps."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from transfer.entries.misfit import Misfit

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP = -1
FIRST, END = -62_135_596_800 * 10**9, 253_402_300_800 * 10**9
"""The years 1 to 9999, in nanoseconds since 1970. MongoDB's drivers, and so the collector, take no other moments."""


def from_datetime(moment: datetime) -> int:
    """Return the nanoseconds since 1970; one without a time zone is local time. Raises `Misfit`."""
    try:
        since = (moment if moment.tzinfo else moment.astimezone()) - _EPOCH
        return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
    except (OverflowError, OSError, ValueError) as error:
        raise Misfit("a local time between the years 1 and 9999", repr(moment)) from error


def extension(moment: int) -> msgspec.msgpack.Ext:
    """Encode as vmihailenco/msgpack does: the shortest of the three forms that the specification has."""
    seconds, rest = divmod(moment, 1_000_000_000)
    if seconds >> 34:
        return msgspec.msgpack.Ext(_TIMESTAMP, rest.to_bytes(4, "big") + seconds.to_bytes(8, "big", signed=True))
    both = rest << 34 | seconds
    return msgspec.msgpack.Ext(_TIMESTAMP, both.to_bytes(8 if both >> 32 else 4, "big"))
