"""Values that an application may log: all that Python has."""

from __future__ import annotations

import array
import decimal
import ipaddress
import math
import re
import sys
import threading
import types
import uuid
import weakref
from collections import Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from itertools import count
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import bson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.transfer.odd_values import (
    BadZone,
    Broken,
    BrokenDict,
    BrokenList,
    BrokenNumber,
    BrokenText,
    Colour,
    Endless,
    Everything,
    Faceless,
    Liar,
    Number,
    Order,
    Point,
    Rights,
    Silent,
    Unspeakable,
    UnspeakableError,
    deep,
    growing,
    incomplete,
    node,
    recursive,
    released,
    shared,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


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
