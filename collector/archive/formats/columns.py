"""Declared columns: fields of `data` that have a column of their own, each with one type for ever. Pure.

A value that has not the type of its column stays with everything else in `_rest`. So nothing is lost, and no block is
refused by a reader because of one value.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from collector.archive.checked import text_of, to_json
from collector.archive.times import rfc_3339
from collector.decoding.timestamps import read_timestamp
from collector.errors import Poison

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


FACTS = ("_seq", "_pos", "_time", "_subject", "_id", "timestamp", "metadata")
"""The columns that every block has, in front of all others."""
DATA, REST = "data", "_rest"
HEADERS, DELIVERIES = "_headers", "_deliveries"
_EXACT = 1 << 53
"""Whole numbers up to this one are exact as a double."""
_NO_NUMBERS = frozenset({"nan", "inf", "-inf"})
"""The text that JSON has for these doubles."""
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Kind(StrEnum):
    """The type of a column."""

    STRING = "string"
    INT64 = "int64"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Column:
    """A field of `data` with a column of its own; its name is its path, like `user.id`."""

    name: str
    kind: Kind


class _UnfitError(Exception):
    """The value has not the type of its column."""


def declared(columns: Mapping[str, str], keys: Sequence[str] = ()) -> tuple[Column, ...]:
    """Return the columns of a declaration. Raises ValueError; `keys` are the names of the partition keys of paths."""
    taken = {*FACTS, DATA, REST, HEADERS, DELIVERIES, *keys}
    for name, kind in columns.items():
        if kind not in set(Kind):
            raise ValueError(f"expected a type of {', '.join(Kind)} for the column {name!r}, got {kind!r}")
        if name in taken:
            raise ValueError(f"expected a column with a name of its own, got {name!r}, which each row or path has")
        if not all(name.split(".")):
            raise ValueError(f"expected a path of names like user.id as a column, got {name!r}")
    nested = [(one, other) for one in columns for other in columns if other.startswith(f"{one}.")]
    for outer, inner in nested:
        raise ValueError(f"expected columns that are no part of each other, got {outer!r} and {inner!r}")
    return tuple(Column(name, Kind(kind)) for name, kind in columns.items())


class Lifting:
    """Lifts the declared columns out of `data`."""

    def __init__(self, columns: Sequence[Column], fits: Callable[[Any], bool] = lambda _value: True) -> None:
        """Lift columns; a format whose text cannot hold some values says so by `fits`."""
        self._columns = [(*_parents(column.name), _TAKERS[column.kind]) for column in columns]
        self._fits = fits

    def lift(self, data: msgspec.Raw) -> list[Any]:
        """Return the value of each column, and then the JSON of everything else, or None."""
        whole = _decode(data)
        if not isinstance(whole, dict):
            return [*[None] * len(self._columns), text_of(data)]
        values = [self._take(whole, *column) for column in self._columns]
        values.append(text_of(to_json(whole)) if whole else None)
        return values

    def _take(self, whole: dict[str, Any], parents: list[str], name: str, take: Callable[[Any], Any]) -> Any:
        """Take one value out of its map, and then out of their maps the maps that are empty by it."""
        maps = [whole]
        for parent in parents:
            inner = maps[-1].get(parent)
            if not isinstance(inner, dict):
                return None
            maps.append(inner)
        if (value := maps[-1].get(name)) is None:
            return None
        try:
            taken = take(value)
        except _UnfitError:
            return None
        if not self._fits(taken):
            return None
        del maps[-1][name]
        for place in range(len(parents), 0, -1):
            if maps[place]:
                break
            del maps[place - 1][parents[place - 1]]
        return taken


def _parents(path: str) -> tuple[list[str], str]:
    *parents, name = path.split(".")
    return parents, name


def _text(value: object) -> str:
    if type(value) is not str:
        raise _UnfitError
    return value


def _whole(value: object) -> int:
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise _UnfitError
    return value


def _double(value: object) -> float:
    if type(value) is float:
        return value
    if (type(value) is int and -_EXACT <= value <= _EXACT) or (type(value) is str and value in _NO_NUMBERS):
        return float(value)
    raise _UnfitError


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise _UnfitError
    return value


def _moment(value: object) -> str:
    """Return RFC 3339 text in UTC; digits below a microsecond are cut."""
    try:
        moment = read_timestamp(_text(value))
    except Poison as poison:
        raise _UnfitError from poison
    if moment is None:
        raise _UnfitError
    return rfc_3339(moment.replace(tzinfo=None))


def _json(value: object) -> bytes | None:
    return text_of(to_json(value))


_TAKERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.STRING: _text,
    Kind.INT64: _whole,
    Kind.DOUBLE: _double,
    Kind.BOOLEAN: _boolean,
    Kind.TIMESTAMP: _moment,
    Kind.JSON: _json,
}
