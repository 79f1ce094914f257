"""Values of Python that are odd, broken, endless or in themselves."""

from __future__ import annotations

import dataclasses
import enum
from collections import namedtuple
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, tzinfo
from itertools import count
from typing import Any


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
