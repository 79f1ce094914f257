"""An entry as the application hands it over -> its bytes; raises where a value is that MongoDB could never take.

The bytes are those of the Go client: a msgpack map `metadata`, `data`, `timestamp`, times as extension -1. Ours has an
`id` behind them.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum

import msgspec

from transfer.errors import InvalidEntry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP = -1
_LIMIT = (1 << 63) * 1_000_000_000
"""Nanoseconds that the longest form of a timestamp has room for, in either direction."""
_EXPECTED = "None, a bool, int, float, str, bytes, datetime, Enum, list, tuple or a mapping of them"
_encoder = msgspec.msgpack.Encoder()


def encode_entry(
    data: Mapping[str, object],
    timestamp: datetime | int,
    metadata: Mapping[str, object] | None = None,
    id: bytes | None = None,  # noqa: A002 - the name it has in the entry
) -> bytes:
    """Return the body of the message that carries one entry; without `id`, byte for byte that of the Go client.

    `timestamp` is a datetime or the nanoseconds since 1970, of which none is lost. A datetime without a time zone,
    here and anywhere in `data` and `metadata`, is local time, as it is for Python itself. Raises `InvalidEntry`, a
    TypeError and a ValueError, that names the path of the value.
    """
    entry: dict[str, object] = {
        "metadata": metadata if metadata is None else _document("metadata", metadata),
        "data": _document("data", data),
        "timestamp": _extension(nanoseconds(timestamp)),
    }
    if id is not None:
        entry["id"] = _checked_id(id)
    return _encoder.encode(entry)


def nanoseconds(timestamp: object) -> int:
    """Return the nanoseconds since 1970 of what an application may give as a timestamp."""
    if isinstance(timestamp, datetime):
        return _from_datetime(timestamp, "timestamp")
    if isinstance(timestamp, int) and not isinstance(timestamp, bool) and -_LIMIT <= timestamp < _LIMIT:
        return timestamp
    raise InvalidEntry("timestamp", "a datetime or an int of nanoseconds since 1970", _name(timestamp))


def _from_datetime(moment: datetime, path: str) -> int:
    try:
        since = (moment if moment.tzinfo else moment.astimezone()) - _EPOCH
    except (OverflowError, OSError, ValueError) as error:
        raise InvalidEntry(path, "a local time between the years 1 and 9999", repr(moment)) from error
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000


def _extension(moment: int) -> msgspec.msgpack.Ext:
    """Encode as vmihailenco/msgpack does: the shortest of the three forms that the specification has."""
    seconds, rest = divmod(moment, 1_000_000_000)
    if seconds >> 34:
        return msgspec.msgpack.Ext(_TIMESTAMP, rest.to_bytes(4, "big") + seconds.to_bytes(8, "big", signed=True))
    both = rest << 34 | seconds
    return msgspec.msgpack.Ext(_TIMESTAMP, both.to_bytes(8 if both >> 32 else 4, "big"))


def plain_value(value: object) -> object:
    """Return a value as msgspec writes it, or raise `InvalidEntry`; what is in it may be at fault too."""
    try:
        return _plain(value)
    except _Misfit as misfit:
        raise InvalidEntry(f"value{misfit.path}", misfit.expected, misfit.got) from misfit.__cause__


def _document(name: str, value: object) -> dict[str, object]:
    """Return a copy made of what msgspec writes as msgpack's own types."""
    if not isinstance(value, Mapping):
        raise InvalidEntry(name, "a mapping", _name(value))
    try:
        return _mapping(value)
    except _Misfit as misfit:
        raise InvalidEntry(name + misfit.path, misfit.expected, misfit.got) from misfit.__cause__
    except RecursionError as error:
        raise InvalidEntry(name, "values nested less deeply, none in itself", "too many levels") from error


class _Misfit(Exception):
    """On its way out of a nested value, collecting the steps of its path."""

    def __init__(self, expected: str, got: str) -> None:
        self.path = ""
        self.expected = expected
        self.got = got


def _mapping(value: Mapping[object, object]) -> dict[str, object]:
    plain: dict[str, object] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise _Misfit("keys to be text", f"the key {key!r}")
        name = _text(key)
        if "\0" in name:
            raise _Misfit("names without NUL, which ends a name in MongoDB", f"the key {key!r}")
        try:
            plain[name] = _plain(item)
        except _Misfit as misfit:
            misfit.path = f".{key}{misfit.path}"
            raise
    return plain


def _list(value: list[object] | tuple[object, ...]) -> list[object]:
    plain = []
    for position, item in enumerate(value):
        try:
            plain.append(_plain(item))
        except _Misfit as misfit:
            misfit.path = f"[{position}]{misfit.path}"
            raise
    return plain


def _integer(value: int) -> int:
    if -(1 << 63) <= value < 1 << 63:
        return int(value)
    raise _Misfit(
        "an integer of 64 bits, signed, as MongoDB has it", str(value) if value.bit_length() < 256 else "a larger one"
    )


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise _Misfit("text that UTF-8 can encode", f"a lone surrogate at position {error.start}") from error
    return str(value)


def _moment(value: datetime) -> msgspec.msgpack.Ext:
    try:
        return _extension(_from_datetime(value, ""))
    except InvalidEntry as error:
        raise _Misfit(error.expected, error.got) from error


_PLAIN: dict[type, Callable[..., object]] = {
    str: _text,
    int: _integer,
    dict: _mapping,
    list: _list,
    tuple: _list,
    datetime: _moment,
    bytearray: bytes,
    memoryview: bytes,
}
_AS_IT_IS = frozenset({type(None), bool, float, bytes})
_SUBCLASSES: tuple[tuple[type, Callable[..., object]], ...] = (
    (Enum, lambda member: _plain(member.value)),
    (str, _text),
    (int, _integer),
    (float, float),
    (bytes, bytes),
    (datetime, _moment),
    (Mapping, _mapping),
    (list, _list),
    (tuple, _list),
)


def _plain(value: object) -> object:
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    convert = _PLAIN.get(kind)
    if convert is not None:
        return convert(value)
    for base, convert in _SUBCLASSES:
        if isinstance(value, base):
            return convert(value)
    raise _Misfit(_EXPECTED, _name(value))


def _name(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _checked_id(entry_id: object) -> bytes:
    if isinstance(entry_id, bytes) and len(entry_id) == 12:
        return entry_id
    got = f"{len(entry_id)} bytes" if isinstance(entry_id, bytes) else _name(entry_id)
    raise InvalidEntry("id", "12 bytes, an ObjectId", got)


class _Ids:
    """ObjectIds of this process; a fork restarts them, or parent and child would make the same ones."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._process = os.urandom(5)
        self._counter = itertools.count(int.from_bytes(os.urandom(3), "big"))

    def next(self) -> bytes:
        seconds = int(time.time()) & 0xFFFFFFFF
        count = next(self._counter) & 0xFFFFFF
        return seconds.to_bytes(4, "big") + self._process + count.to_bytes(3, "big")


_ids = _Ids()
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_ids.restart)


def new_id() -> bytes:
    """Return the identity of a new entry, an ObjectId: seconds (4 bytes), random of the process (5), counter (3)."""
    return _ids.next()
