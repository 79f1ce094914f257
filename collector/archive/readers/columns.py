"""Declared columns back into the `data` that they were lifted out of: the other way of `formats/columns.py`. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from collector.archive.checked import NULL
from collector.archive.formats.columns import DATA, DELIVERIES, FACTS, HEADERS, REST, Kind
from collector.archive.times import rfc_3339
from collector.errors import BlockDamaged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_NO_DATA = {*FACTS, DATA, HEADERS, DELIVERIES, REST}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Lowering:
    """Puts the declared columns of a row back into its data."""

    def __init__(self, names: Sequence[str], kinds: Mapping[str, str]) -> None:
        """Take the columns of a block in their order; one whose type nobody knows is text."""
        self._data = names.index(DATA) if DATA in names else None
        self._rest = names.index(REST) if REST in names else None
        if self._data is None and self._rest is None:
            raise BlockDamaged(f"expected a column {DATA} or {REST}, got neither")
        self._columns = [
            (place, name.split("."), Kind(kinds.get(name, Kind.STRING)))
            for place, name in enumerate(names)
            if name not in _NO_DATA
        ]

    def data_of_text(self, fields: Sequence[str]) -> msgspec.Raw:
        """Return the data of a row of text."""
        if self._data is not None:
            return raw(fields[self._data])
        return self.data_of([field or None for field in fields], _FROM_TEXT)

    def data_of(self, values: Sequence[Any], reading: Mapping[Kind, Callable[[Any], Any]] | None = None) -> msgspec.Raw:
        """Return the data of a row of typed values."""
        if self._data is not None:
            return raw(values[self._data])
        assert self._rest is not None  # noqa: S101 - for the type checker
        reading = _FROM_PARQUET if reading is None else reading
        rest = values[self._rest]
        try:
            whole = None if rest is None else _decode(rest)
            for place, path, kind in self._columns:
                if values[place] is not None:
                    whole = {} if whole is None else whole
                    _put(whole, path, reading[kind](values[place]))
        except (ValueError, TypeError, AttributeError) as error:
            raise BlockDamaged("a row has a value that is not of the type of its declared column") from error
        return NULL if whole is None else msgspec.Raw(_encode(whole))


def raw(text: str | None) -> msgspec.Raw:
    """Return JSON text as it is, and `null` where there is none."""
    return msgspec.Raw(text.encode()) if text else NULL


def _put(whole: dict[str, Any], path: Sequence[str], value: object) -> None:
    *parents, name = path
    for parent in parents:
        whole = whole.setdefault(parent, {})
    whole[name] = value


def _double(value: float) -> float | str:
    """JSON has no number for some doubles; they were text before, and are again."""
    return value if math.isfinite(value) else str(value)


_FROM_TEXT: dict[Kind, Callable[[Any], Any]] = {
    Kind.STRING: str,
    Kind.INT64: int,
    Kind.DOUBLE: lambda text: _double(float(text)),
    Kind.BOOLEAN: {"true": True, "false": False}.__getitem__,
    Kind.TIMESTAMP: str,
    Kind.JSON: _decode,
}
_FROM_PARQUET: dict[Kind, Callable[[Any], Any]] = {
    Kind.STRING: str,
    Kind.INT64: int,
    Kind.DOUBLE: _double,
    Kind.BOOLEAN: bool,
    Kind.TIMESTAMP: lambda micros: rfc_3339(_EPOCH + timedelta(microseconds=micros)),
    Kind.JSON: _decode,
}


def time_of_micros(micros: int) -> str:
    """Return microseconds since 1970 as RFC 3339 in UTC."""
    return rfc_3339(_EPOCH + timedelta(microseconds=micros))
