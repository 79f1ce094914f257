"""Values of an application -> values that msgspec writes as msgpack's own types, in one walk. Pure.

Which type becomes what stands once, in the tables below, and as a table in docs/client.md. A value that MongoDB
cannot store is a `Misfit` with its path where the entry has to be exact; `lenient` stores it as text.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from itertools import islice
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from transfer.entries.misfit import Misfit, type_name
from transfer.entries.moments import END, FIRST, extension, from_datetime

if TYPE_CHECKING:
    import msgspec

DEEPEST = 100
"""Levels of maps and lists, the entry itself is the first: as many as MongoDB promises to take."""
_MOST_VALUES = 10 * 1024 * 1024
"""Each takes a byte at least, and more than 10 MiB is a dead letter."""
IN_ITSELF = "no value in itself"
CUT = "…"
_EXPECTED = (
    "None, a bool, number, text, bytes, time, UUID, path, IP address, Enum, dataclass, exception, or a list or mapping "
    "of them"
)


class Walk:
    """One walk through the values of an entry. A value that cannot be stored as it is raises a `Misfit`."""

    __slots__ = ("_inside", "left")
    most_values = _MOST_VALUES

    def __init__(self) -> None:
        self.left = self.most_values
        """Values that may still come: what holds itself in several places has no end."""
        self._inside: list[int] = []

    def value(self, value: Any) -> object:
        """Return what is stored of a value."""
        kind = type(value)
        if kind in _AS_IT_IS:
            return value
        convert = _BY_TYPE.get(kind) or _by_base(value)
        return self.unknown(value) if convert is None else convert(self, value)

    def mapping(self, value: Mapping[Any, Any]) -> dict[str, object]:
        """Return what is stored of a mapping, in its order."""
        items: Any = value.items() if type(value) is dict else list(islice(value.items(), self.left + 1))
        depth = self.enter(value)
        self.left -= len(items)
        if self.left < 0:
            items = [*self.cut(items, len(items)), (CUT, self.more)]
        plain: dict[str, object] = {}
        odd = False
        for key, item in items:
            name = key
            if type(key) is not str or not key.isascii() or "\0" in key:
                name, odd = self.name(key), True
            if odd and name in plain:
                name = self.twice(name, plain)
            kind = type(item)
            if kind in _AS_IT_IS or (kind is str and item.isascii()):
                plain[name] = item
                continue
            try:
                convert = _BY_TYPE.get(kind) or _by_base(item)
                plain[name] = self.unknown(item) if convert is None else convert(self, item)
            except Exception as error:  # noqa: BLE001 - the application's own `items`, `__getattr__` and so on
                del self._inside[depth:]
                plain[name] = self.failed(item, f".{name}", error)
        self._inside.pop()
        return plain

    def sequence(self, value: Any) -> list[object]:
        """Return what is stored of something that has items."""
        exact = type(value) is list or type(value) is tuple
        items: Any = value if exact else list(islice(value, self.left + 1))
        depth = self.enter(value)
        self.left -= len(items)
        if self.left < 0:
            items = [*self.cut(items, len(items)), self.more]
        plain: list[object] = []
        for item in items:
            kind = type(item)
            if kind in _AS_IT_IS or (kind is str and item.isascii()):
                plain.append(item)
                continue
            try:
                plain.append(self.value(item))
            except Exception as error:  # noqa: BLE001 - as above
                del self._inside[depth:]
                plain.append(self.failed(item, f"[{len(plain)}]", error))
        self._inside.pop()
        return plain

    def fields(self, value: object, fields: Mapping[str, object]) -> dict[str, object]:
        """Return what is stored of an object that has fields."""
        self.enter(value)
        plain = self.mapping(fields)
        self._inside.pop()
        return plain

    def enter(self, value: object) -> int:
        """Return how many maps and lists the walk is in, with this one."""
        inside = self._inside
        if len(inside) >= DEEPEST:
            raise Misfit(f"at most {DEEPEST} levels of maps and lists", "too many levels")
        if id(value) in inside:
            raise Misfit(IN_ITSELF, "one that is, which is too many levels")
        inside.append(id(value))
        return len(inside)

    # The replacements of a walk that must not raise.

    def unknown(self, value: object) -> object:
        """Return what is stored of a value whose type is in no table."""
        raise Misfit(_EXPECTED, type_name(value))

    def failed(self, value: object, step: str, error: Exception) -> object:
        """Return what is stored in place of a value that has raised this."""
        if isinstance(error, RecursionError):
            raise error
        if not isinstance(error, Misfit):
            misfit = Misfit("a value that can be read", f"{type_name(value)} that raised {type(error).__name__}")
            misfit.path = step
            raise misfit from error
        error.path = step + error.path
        raise error

    def text(self, value: str) -> str:
        """Return a text that UTF-8 may not be able to encode."""
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Misfit("text that UTF-8 can encode", f"a lone surrogate at position {error.start}") from error
        return value

    def integer(self, value: int) -> object:
        """Return a number that is beyond 64 bits."""
        got = str(value) if value.bit_length() < 256 else "a larger one"
        raise Misfit("an integer of 64 bits, signed, as MongoDB has it", got)

    def name(self, key: object) -> str:
        """Return the name of a field that is not plain ASCII."""
        if not isinstance(key, str):
            raise Misfit("keys to be text", f"the key {key!r}")
        name = self.text(str.__str__(key))
        if "\0" in name:
            raise Misfit("names without NUL, which ends a name in MongoDB", f"the key {key!r}")
        return name

    def twice(self, name: str, taken: Mapping[str, object]) -> str:  # noqa: ARG002 - as for the lenient one
        """Return the name of a field whose name is there already."""
        raise Misfit("keys that differ", f"the key {name!r} twice")

    def cut(self, items: Any, count: int) -> list[Any]:  # noqa: ARG002 - as above
        """Return those of the items that are stored."""
        raise Misfit(f"at most {self.most_values:,} values", "more")

    @property
    def more(self) -> str:
        """Say that something was cut."""
        return f"{CUT} and more: an entry has room for {self.most_values:,} values"


# --- what becomes of which type


def _text(walk: Walk, value: str) -> str:
    if type(value) is not str:
        value = str.__str__(value)
    return value if value.isascii() else walk.text(value)


def _integer(walk: Walk, value: int) -> object:
    value = int.__int__(value)
    return value if -(1 << 63) <= value < 1 << 63 else walk.integer(value)


def _moment(_: Walk, value: datetime) -> msgspec.msgpack.Ext:
    moment = from_datetime(value)
    if not FIRST <= moment < END:
        raise Misfit("a time between the years 1 and 9999", repr(value))
    return extension(moment)


def _said(_: Walk, value: object) -> str:
    return str(value)


def _exact(_: Walk, value: Any) -> object:
    """Return a number where it says the same, else its text: 1.5, but "0.3333333333333333333333333333" and "1/3"."""
    try:
        number = float(value)
        same = math.isnan(number) or number == value or type(value)(repr(number)) == value
    except (ArithmeticError, ValueError):
        return str(value)
    return number if same else str(value)


def _path(walk: Walk, value: os.PathLike[Any]) -> object:
    return walk.value(os.fspath(value))


def _error(walk: Walk, value: BaseException) -> str:
    return _text(walk, error_text(value, str(value)))


def error_text(error: BaseException, said: str) -> str:
    """Return what the last line of a traceback says."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{name}: {said}" if said else name


def _fields(walk: Walk, value: Any) -> object:
    """Return the fields that the `repr` of a dataclass shows; one with a `repr` of its own may have reasons for it."""
    made = getattr(type(value).__repr__, "__wrapped__", None)
    if getattr(getattr(made, "__code__", None), "co_filename", "") != "<string>":
        return walk.unknown(value)
    shown = [one.name for one in dataclasses.fields(value) if one.repr and hasattr(value, one.name)]
    return walk.fields(value, {name: getattr(value, name) for name in shown})


def _numpy(walk: Walk, value: Any) -> object:
    """Return numbers, text and lists of them; times of numpy are in UTC."""
    if value.dtype.kind in "mM":
        return walk.value(list(value)) if value.ndim else _numpy_time(walk, value)
    if value.size > walk.left:
        return walk.unknown(value)
    plain = value.tolist()
    return float(value) if type(plain) is type(value) else walk.value(plain)  # a longdouble stays one


def _numpy_time(walk: Walk, value: Any) -> object:
    if value.dtype.kind == "m":
        return walk.value(value.astype("timedelta64[us]").item())
    moment = value.astype("datetime64[us]").item()
    if moment is None:
        return None
    return walk.value(moment.replace(tzinfo=UTC) if isinstance(moment, datetime) else str(value))


_Convert = Callable[[Walk, Any], object]
_AS_IT_IS: frozenset[type] = frozenset({type(None), bool, float, bytes})
_BY_TYPE: dict[type, _Convert] = {
    str: _text,
    int: _integer,
    dict: Walk.mapping,
    list: Walk.sequence,
    tuple: Walk.sequence,
    set: Walk.sequence,
    frozenset: Walk.sequence,
    deque: Walk.sequence,
    datetime: _moment,
    bytearray: lambda _, value: bytes(value),
    memoryview: lambda _, value: value.tobytes(),
}
_BY_BASE: tuple[tuple[type, _Convert], ...] = (
    (Enum, lambda walk, member: walk.value(member.value)),
    (str, _text),
    (int, _integer),
    (float, lambda _, value: float.__float__(value)),
    (bytes, lambda _, value: bytes.__getitem__(value, slice(None))),
    (datetime, _moment),
    (date, lambda _, value: value.isoformat()),
    (time, lambda _, value: value.isoformat()),
    (timedelta, lambda _, value: value.total_seconds()),
    (Mapping, Walk.mapping),
    (list, Walk.sequence),
    (tuple, Walk.sequence),
    (AbstractSet, Walk.sequence),
    (deque, Walk.sequence),
    (bytearray, lambda _, value: bytes(memoryview(value))),
    (BaseException, _error),
    (os.PathLike, _path),
)
_BY_NAME: dict[str, _Convert] = {
    "uuid.UUID": _said,
    "decimal.Decimal": _exact,
    "fractions.Fraction": _exact,
    "ipaddress.IPv4Address": _said,
    "ipaddress.IPv6Address": _said,
    "ipaddress.IPv4Network": _said,
    "ipaddress.IPv6Network": _said,
    "bson.objectid.ObjectId": _said,
    "bson.decimal128.Decimal128": lambda walk, value: walk.value(value.to_decimal()),
    "array.array": lambda walk, value: walk.value(value.tolist()),
    "builtins.dict_values": Walk.sequence,
    "collections.UserList": Walk.sequence,
    "collections.UserString": _said,
    "numpy.generic": _numpy,
    "numpy.ndarray": _numpy,
}
"""Of modules that this package need not import: who has such a value has imported them."""


SIMPLE = _AS_IT_IS | {str, int, datetime}
"""Types whose text costs nothing and is nobody's own."""


def is_known(value: object) -> bool:
    """Return whether the type of a value is in a table."""
    return (_BY_TYPE.get(type(value)) or _by_base(value)) is not None


def _by_base(value: object) -> _Convert | None:
    kind = type(value)
    for base, convert in _BY_BASE:
        if isinstance(value, base):
            return convert
    for one in kind.__mro__:
        if named := _BY_NAME.get(f"{one.__module__}.{one.__qualname__}"):
            if one is kind:
                _BY_TYPE[kind] = named
            return named
    if isinstance(value, Integral):
        return lambda walk, number: _integer(walk, int(number))
    if isinstance(value, Real):
        return lambda _, number: float(number)
    return _fields if dataclasses.is_dataclass(kind) else None
