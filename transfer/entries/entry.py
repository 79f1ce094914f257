"""An entry as the application hands it over -> its bytes; raises where a value is that MongoDB could never take.

The bytes are those of the Go client: a msgpack map `metadata`, `data`, `timestamp`, times as extension -1. Ours has an
`id` behind them.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from datetime import datetime
from struct import Struct

from transfer.entries.flat import encode, flat_bytes
from transfer.entries.misfit import Misfit, type_name
from transfer.entries.moments import END, FIRST, extension, from_datetime
from transfer.entries.plain import Walk
from transfer.errors import InvalidEntry
from transfer.system.forks import in_each_child, look

_LIMIT = (1 << 63) * 1_000_000_000
"""Nanoseconds that the longest form of a timestamp has room for, in either direction."""
OF_THE_ENVELOPE = frozenset({"timestamp", "metadata"})
"""Fields that every document has beside its data: the application's would be lost."""
_METADATA, _DATA, _TIMESTAMP = (encode(name) for name in ("metadata", "data", "timestamp"))
_NIL = encode(None)
_FRONT = b"\x84" + _METADATA
_FRONT_WITHOUT_METADATA = _FRONT + _NIL + _DATA
_MOMENT, _ID = _TIMESTAMP + b"\xd7\xff", encode("id") + b"\xc4\x0c"
_BACK = f">{len(_MOMENT)}sQ{len(_ID)}s"
_back, _back_with_new_id = Struct(_BACK + "12s").pack, Struct(_BACK + "IQ").pack


def encode_entry(
    data: Mapping[str, object],
    timestamp: datetime | int,
    metadata: Mapping[str, object] | None = None,
    id: bytes | None = None,  # noqa: A002 - the name it has in the entry
) -> bytes:
    """Return the body of the message that carries one entry; without `id`, byte for byte that of the Go client.

    `timestamp` is a datetime or the nanoseconds since 1970, of which none is lost. A datetime without a time zone,
    here and anywhere in `data` and `metadata`, is local time, as it is for Python itself. A field of `data` that is
    named `timestamp` or `metadata` gets `_` behind its name: the document has both of its own.

    Raises `InvalidEntry`, a TypeError and a ValueError, that names the path of the value.
    """
    moment, entry_id = nanoseconds(timestamp), None if id is None else _checked_id(id)
    body = None if entry_id is None else flat_body(data, moment, metadata, entry_id)
    return body or pack(
        _document("data", data), moment, metadata if metadata is None else _document("metadata", metadata), entry_id
    )


def pack(
    data: dict[str, object], moment: int, metadata: dict[str, object] | None, entry_id: bytes | None = None
) -> bytes:
    """Return the body of an entry whose values are plain."""
    if "timestamp" in data or "metadata" in data:
        data = beside(data, OF_THE_ENVELOPE)
    if entry_id is None:
        return encode({"metadata": metadata, "data": data, "timestamp": extension(moment)})
    return framed(encode(data), moment, entry_id, None if metadata is None else encode(metadata))


def framed(data: bytes, moment: int, entry_id: bytes, metadata: bytes | None = None) -> bytes:
    """Return the body of an entry whose data and metadata are encoded."""
    front = _FRONT_WITHOUT_METADATA if metadata is None else b"".join((_FRONT, metadata, _DATA))
    seconds, rest = divmod(moment, 1_000_000_000)
    if rest and not seconds >> 34:  # nearly always: the middle one of three forms
        return b"".join((front, data, _back(_MOMENT, rest << 34 | seconds, _ID, entry_id)))
    return b"".join((front, data, _TIMESTAMP, encode(extension(moment)), _ID, entry_id))


def flat_body(
    data: object, moment: int, metadata: object, entry_id: bytes, taken: frozenset[str] = OF_THE_ENVELOPE
) -> bytes | None:
    """Return the body of an entry whose data and metadata are flat, and has no field of such a name; None of any other.

    Nothing of the application is called.
    """
    fields = flat_bytes(data, taken)
    if fields is None or metadata is None:
        return None if fields is None else framed(fields, moment, entry_id)
    more = flat_bytes(metadata)
    return None if more is None else framed(fields, moment, entry_id, more)


def beside(data: Mapping[str, object], taken: frozenset[str]) -> dict[str, object]:
    """Return the fields in their order, those whose name is taken with `_` behind it, as many as it needs."""
    renamed: dict[str, object] = {}
    for name, value in data.items():
        new = name
        while new in taken or (new is not name and new in data) or new in renamed:
            new += "_"
        renamed[new] = value
    return renamed


def nanoseconds(timestamp: object) -> int:
    """Return the nanoseconds since 1970 of what an application may give as a timestamp."""
    if isinstance(timestamp, datetime):
        try:
            return from_datetime(timestamp)
        except Misfit as misfit:
            raise InvalidEntry("timestamp", misfit.expected, misfit.got) from misfit.__cause__
    if isinstance(timestamp, int) and not isinstance(timestamp, bool) and -_LIMIT <= timestamp < _LIMIT:
        return timestamp
    raise InvalidEntry("timestamp", "a datetime or an int of nanoseconds since 1970", type_name(timestamp))


def moment_of(timestamp: object) -> int:
    """Return the same, of what the collector takes for a moment: what is beyond would be a dead letter."""
    moment = nanoseconds(timestamp)
    if FIRST <= moment < END:
        return moment
    raise InvalidEntry("timestamp", "a moment in the years 1 to 9999, in nanoseconds since 1970", str(timestamp)[:80])


def _document(name: str, value: object) -> dict[str, object]:
    """Return a copy made of what msgspec writes as msgpack's own types."""
    if not isinstance(value, Mapping):
        raise InvalidEntry(name, "a mapping", type_name(value))
    try:
        return Walk().mapping(value)
    except Misfit as misfit:
        raise InvalidEntry(name + misfit.path, misfit.expected, misfit.got) from misfit.__cause__
    except RecursionError as error:
        raise InvalidEntry(name, "values nested less deeply, none in itself", "too many levels") from error
    except Exception as error:
        raise InvalidEntry(name, "a mapping that can be read", f"one that raised {type(error).__name__}") from error


def _checked_id(entry_id: object) -> bytes:
    if isinstance(entry_id, bytes) and len(entry_id) == 12:
        return entry_id
    got = f"{len(entry_id)} bytes" if isinstance(entry_id, bytes) else type_name(entry_id)
    raise InvalidEntry("id", "12 bytes, an ObjectId", got)


class _Ids:
    """ObjectIds of this process; a fork restarts them, or parent and child would make the same ones."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.process = int.from_bytes(os.urandom(5), "big") << 24
        self.counter = itertools.count(int.from_bytes(os.urandom(3), "big"))


_ids = _Ids()
_packed = Struct(">IQ").pack
in_each_child(_ids.restart)


def framed_with_new_id(data: bytes, moment: int) -> tuple[bytes, bytes]:
    """Return the identity of a new entry, and its body, as `new_id` and `framed` do."""
    seconds, rest = divmod(moment, 1_000_000_000)
    if not rest or seconds >> 34:
        entry_id = new_id()
        return entry_id, framed(data, moment, entry_id)
    look()
    number = _ids.process | next(_ids.counter) & 0xFFFFFF
    back = _back_with_new_id(_MOMENT, rest << 34 | seconds, _ID, int(time.time()) & 0xFFFFFFFF, number)
    return back[-12:], b"".join((_FRONT_WITHOUT_METADATA, data, back))


def new_id() -> bytes:
    """Return the identity of a new entry, an ObjectId: seconds (4 bytes), random of the process (5), counter (3)."""
    look()
    return _packed(int(time.time()) & 0xFFFFFFFF, _ids.process | next(_ids.counter) & 0xFFFFFF)
