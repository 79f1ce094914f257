"""Good entries at the limits: the largest that each form takes, the smallest, and every way to write them down."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
import zstandard

from tests.chaos.content import data, metadata, moment
from transfer import new_id
from transfer.entries.entry import encode_entry
from transfer.wire import CONTENT_ENCODING, CONTENT_TYPE, JSON, MAX_INFLATED

_ROOM = 512
"""Bytes of headers, which count in NATS's limit of a message."""
_INTEGERS = 1_360_000
"""In a list they are 1.4 MB as msgpack and almost 16 MiB as BSON."""
_FIELDS = 10_000
_SERIES_LIMIT = 3_500_000
"""A document of a time-series collection ends at 4 MB, by MongoDB's own way of counting."""


@dataclass(frozen=True, slots=True)
class Sized:
    """A message with one entry, and the data that has to be stored."""

    data: dict[str, Any]
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


Maker: TypeAlias = Callable[[str, int, int], Sized]
"""Makes the message of an entry of a source, for a server that takes messages of that many bytes."""


def _filled_to(size: int, source: str, number: int) -> tuple[dict[str, Any], bytes]:
    """Return data, and an entry that has exactly so many bytes."""
    entry_id, content = new_id(), data(source, number) | {"filling": ""}
    missing = size - len(encode_entry(content | {"filling": "x" * 70_000}, moment(number), metadata(source), entry_id))
    content["filling"] = "x" * (70_000 + missing)
    return content, encode_entry(content, moment(number), metadata(source), entry_id)


def _message(source: str, number: int, limit: int) -> Sized:
    return Sized(*_filled_to(limit - _ROOM, source, number))


def _inflated(source: str, number: int, limit: int) -> Sized:
    content, body = _filled_to(MAX_INFLATED, source, number)
    return Sized(content, gzip.compress(body, 1), {CONTENT_ENCODING: "gzip"})


def _bson(source: str, number: int, limit: int) -> Sized:
    return _plainly(data(source, number) | {"list": [7] * _INTEGERS}, source, number)


def _series(source: str, number: int, limit: int) -> Sized:
    return Sized(*_filled_to(_SERIES_LIMIT, source, number))


def _many_fields(source: str, number: int, limit: int) -> Sized:
    return _plainly(data(source, number) | {f"field {index}": index for index in range(_FIELDS)}, source, number)


def _smallest(source: str, number: int, limit: int) -> Sized:
    return _plainly({"source": source, "number": number}, source, number)


def _json(source: str, number: int, limit: int) -> Sized:
    content = data(source, number)
    entry = {"data": content, "timestamp": moment(number), "metadata": metadata(source), "id": new_id().hex()}
    return Sized(content, msgspec.json.encode(entry), {CONTENT_TYPE: JSON})


def _zstd(source: str, number: int, limit: int) -> Sized:
    plain = _plainly(data(source, number), source, number)
    return Sized(plain.data, zstandard.compress(plain.body), {CONTENT_ENCODING: "zstd"})


def _plainly(content: dict[str, Any], source: str, number: int) -> Sized:
    return Sized(content, encode_entry(content, moment(number), metadata(source), new_id()))


EVERYWHERE: tuple[Maker, ...] = (_series, _many_fields, _smallest, _json, _zstd)
PLAIN_ONLY: tuple[Maker, ...] = (_message, _inflated, _bson)
"""Larger than a time-series collection takes."""
