"""What an application may log: whatever there is in Python."""

from __future__ import annotations

import array
import dataclasses
import decimal
import enum
import ipaddress
import math
import re
import sys
import threading
import types
import uuid
import weakref
from collections import Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from itertools import count
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import bson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from random import Random


class Unspeakable:
    """Neither `repr` nor `str` says what it is."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


class UnspeakableError(Exception):
    """An exception that is as bad."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Liar:
    """Says that it is a text, as proxies do."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return str


class Faceless:
    """Not even its class is to be had: a proxy out of its context."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("working outside of a context")


class Everything:
    """Has every attribute, and each is itself."""

    def __getattr__(self, name: str) -> Everything:
        return self


class BrokenText(str):
    """A text that does not want to be one."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def isascii(self) -> bool:
        raise RuntimeError("no text")

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("no text")


class BrokenNumber(int):
    """A number that does not want to be one."""

    def __int__(self) -> int:
        raise RuntimeError("no number")

    def __repr__(self) -> str:
        raise RuntimeError("no number")


class BrokenDict(dict[str, object]):
    """A dict that cannot be read."""

    def items(self) -> Any:
        raise RuntimeError("no items")


class BrokenList(list[object]):
    """A list that cannot be read."""

    def __iter__(self) -> Iterator[object]:
        raise OSError("no items")


class Broken(Mapping[str, object]):
    """A mapping that fails when it is read."""

    def __getitem__(self, key: str) -> object:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("gone")

    def __len__(self) -> int:
        return 1


class Endless(Mapping[str, object]):
    """A mapping without an end."""

    def __getitem__(self, key: str) -> object:
        return key

    def __iter__(self) -> Iterator[str]:
        return map(str, count())

    def __len__(self) -> int:
        return 1


class Growing:
    """Grows the dict that it is in, when it is asked what it is."""

    def __init__(self) -> None:
        self.place: dict[object, object] = {}

    def __repr__(self) -> str:
        self.place[len(self.place)] = "grown"
        return "growing"


def growing() -> dict[object, object]:
    inside = Growing()
    inside.place |= {"growing": inside, "neighbour": 1}
    return inside.place


class BadZone(tzinfo):
    """A zone that knows nothing."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        raise RuntimeError("no zone")

    def dst(self, _: datetime | None) -> timedelta:
        raise RuntimeError("no zone")

    def tzname(self, _: datetime | None) -> str:
        raise RuntimeError("no zone")


class Colour(enum.Enum):
    RED = "red"
    ODD = object()


class Number(enum.IntEnum):
    ONE = 1


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


@dataclasses.dataclass
class Order:
    number: int
    secret: str = dataclasses.field(default="s3cret", repr=False)


@dataclasses.dataclass
class Node:
    """One that holds itself."""

    next: Node | None = None


@dataclasses.dataclass
class Silent:
    """One that shows nothing of itself."""

    secret: str

    def __repr__(self) -> str:
        return "Silent()"


Point = namedtuple("Point", "x y")  # what applications log


def recursive() -> dict[str, object]:
    inside: dict[str, object] = {}
    inside["self"] = inside
    inside["list"] = [inside, [inside]]
    return inside


def node() -> Node:
    one = Node()
    one.next = Node(one)
    return one


def deep(levels: int = 10_000) -> object:
    value: object = 1
    for level in range(levels):
        value = [value] if level % 2 else {"deeper": value}
    return value


def shared() -> object:
    """Return a few lists that would be a billion values if each were written where it stands."""
    value: list[object] = ["laugh"]
    for _ in range(30):
        value = [value] * 2
    return value


def released() -> memoryview:
    view = memoryview(b"gone")
    view.release()
    return view


def incomplete() -> Order:
    order = Order(1)
    del order.number
    return order


ODD: tuple[Callable[[], object], ...] = (
    lambda: 2**63,
    lambda: -(2**63) - 1,
    lambda: 2**64 - 1,
    lambda: 10**5000,
    lambda: math.nan,
    lambda: math.inf,
    lambda: 1 + 2j,
    lambda: "\ud800",
    lambda: "a\0b",
    lambda: "\ud83d\ude00",
    lambda: bytearray(b"\xff\0"),
    lambda: memoryview(b"view"),
    released,
    lambda: array.array("d", [1.5]),
    lambda: uuid.UUID(int=7),
    lambda: Decimal("9.95"),
    lambda: Decimal("0.3333333333333333333333333333"),
    lambda: Decimal("1E+400"),
    lambda: Decimal("NaN"),
    lambda: Decimal("sNaN"),
    lambda: Decimal("-Infinity"),
    lambda: Fraction(1, 3),
    lambda: Fraction(10**400),
    lambda: date(2026, 11, 27),
    lambda: time(22, 20, 59, 123456),
    lambda: timedelta(days=-1, microseconds=1),
    lambda: timedelta.max,
    lambda: datetime(2026, 11, 27, 22, 20, 59, 123456, UTC),
    lambda: datetime(2026, 11, 27, 22, 20, 59),  # noqa: DTZ001 - as applications do
    lambda: datetime.min,  # noqa: DTZ901 - as above
    lambda: datetime.max,  # noqa: DTZ901 - as above
    lambda: datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
    lambda: datetime(2026, 1, 1, tzinfo=BadZone()),
    lambda: Path("/var/log/app.log"),
    lambda: PurePosixPath("odd\udcff"),
    lambda: PureWindowsPath("C:\\log"),
    lambda: ipaddress.ip_address("10.0.0.1"),
    lambda: ipaddress.ip_network("2001:db8::/32"),
    lambda: ipaddress.ip_interface("10.0.0.1/8"),
    lambda: Colour.RED,
    lambda: Colour.ODD,
    lambda: Number.ONE,
    lambda: Rights.READ | Rights.WRITE,
    lambda: {1, 2},
    lambda: frozenset({"a"}),
    lambda: deque([1, "a"]),
    lambda: (number for number in range(3)),
    count,
    lambda: range(10**12),
    {"a": 1}.keys,
    {"a": 1}.values,
    {"a": 1}.items,
    lambda: Point(1, "y"),
    lambda: Order(7),
    incomplete,
    node,
    lambda: Silent("s3cret"),
    lambda: ValueError("no"),
    lambda: ExceptionGroup("many", [ValueError("no")]),
    lambda: SystemExit(3),
    lambda: Order,
    lambda: len,
    lambda: lambda: 0,
    lambda: sys,
    object,
    threading.Lock,
    lambda: weakref.ref(Order),
    lambda: re.compile("a+"),
    MagicMock,
    Unspeakable,
    UnspeakableError,
    Liar,
    Faceless,
    Everything,
    lambda: BrokenText("text"),
    lambda: BrokenNumber(7),
    lambda: BrokenDict(a=1),
    lambda: BrokenList([1]),
    Broken,
    growing,
    recursive,
    lambda: deep(40),
    lambda: deep(200),
    deep,
    lambda: UserDict({"a": 1}),
    lambda: UserList([1]),
    lambda: UserString("text"),
    lambda: OrderedDict(a=1),
    lambda: defaultdict(list, a=[1]),
    lambda: Counter("aab"),
    lambda: types.MappingProxyType({"a": 1}),
    lambda: types.SimpleNamespace(a=1),
    bson.ObjectId,
    lambda: bson.Decimal128("1.5"),
    lambda: bson.Int64(7),
    lambda: bson.Regex("a+"),
    lambda: bson.Timestamp(1, 1),
    lambda: bson.Binary(b"x", 4),
    lambda: decimal,
)
"""Makes one of everything that is odd; each is of its own, for some change when they are read."""
HUGE: tuple[Callable[[], object], ...] = (Endless, shared, lambda: [[0] * 1000] * 2000)
"""What has more values than an entry has room for."""
KEYS: tuple[Callable[[], object], ...] = (
    lambda: 1,
    lambda: "1",
    lambda: 1.0,
    lambda: None,
    lambda: True,
    lambda: b"bytes",
    lambda: (1, 2),
    lambda: uuid.UUID(int=7),
    lambda: date(2026, 11, 27),
    lambda: Colour.RED,
    lambda: "\ud800",
    lambda: "a\0b",
    lambda: "a\\0b",
    lambda: "",
    lambda: "$set",
    lambda: "a.b",
    lambda: "_id",
    lambda: "timestamp",
    lambda: "timestamp_",
    lambda: "metadata",
    lambda: "msg",
    lambda: "level",
    lambda: "ünï",
    lambda: BrokenText("key"),
    Unspeakable,
)
_SIMPLE: tuple[Callable[[Random], object], ...] = (
    lambda _: None,
    lambda random: random.random() < 0.5,
    lambda random: random.randint(-(2**70), 2**70),
    lambda random: random.randint(-1000, 1000),
    lambda random: random.uniform(-1e300, 1e300),
    lambda random: "".join(map(chr, random.choices(range(0x110000), k=random.randrange(8)))),
    lambda random: random.randbytes(random.randrange(8)),
    lambda random: datetime.fromtimestamp(random.uniform(-6e10, 2e11), UTC),
)


def random_value(random: Random, levels: int = 3) -> object:
    """Return a value of any type: half of them hold others."""
    dice = random.random()
    if levels and dice < 0.25:
        return [random_value(random, levels - 1) for _ in range(random.randrange(5))]
    if levels and dice < 0.5:
        return random_mapping(random, levels - 1)
    if levels and dice < 0.55:
        return tuple(random_value(random, levels - 1) for _ in range(random.randrange(3)))
    return random.choice(ODD)() if dice < 0.85 else random.choice(_SIMPLE)(random)


def random_mapping(random: Random, levels: int = 2) -> dict[Any, object]:
    """Return a dict with keys and values of any type."""
    keys = [random.choice(KEYS)() if random.random() < 0.3 else f"k{number}" for number in range(random.randrange(5))]
    return {key: random_value(random, levels) for key in keys}


unhurried = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
"""Decorates a test: whether it is slow is not what it is about."""
# Faceless is left to those who try each of ODD: hypothesis asks what its values are.
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.decimals()
    | st.timedeltas()
    | st.deferred(lambda: st.sampled_from([one for one in ODD if one is not Faceless]).map(lambda make: make())),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.sampled_from(KEYS).map(lambda make: make()), inner)
    ),
    max_leaves=8,
)
