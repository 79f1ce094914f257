"""One of each kind of message or entry that can never be stored as it is, and where it has to end."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from collector.model import Reason
from tests.chaos.content import data, metadata, moment
from tests.chaos.world import TAKEN
from transfer import new_id
from transfer.entries.entry import encode_entry
from transfer.wire import BUNDLE, CONTENT_ENCODING, CONTENT_TYPE, JSON, MAX_INFLATED

_DEEP = 300
_TOO_MANY = 1_500_000
"""Small integers in a list: 1.5 MB as msgpack, more than 16 MiB as BSON."""
_encode = msgspec.msgpack.encode


@dataclass(frozen=True, slots=True)
class Poison:
    """A message that has to be a dead letter as a whole, its bytes unchanged."""

    body: bytes
    reason: Reason = Reason.MALFORMED
    headers: dict[str, str] = field(default_factory=dict)


Maker: TypeAlias = Callable[[str, int], Poison]
"""Makes the poison that is an entry of a source."""


def _good(source: str, number: int) -> bytes:
    return encode_entry(data(source, number), moment(number), metadata(source))


def _with(more: Callable[[], dict[str, Any]], reason: Reason) -> Maker:
    """Make an entry with more data, past the client, which would refuse some of it."""

    def make(source: str, number: int) -> Poison:
        entry = {"data": data(source, number) | more(), "timestamp": moment(number), "metadata": metadata(source)}
        return Poison(_encode({**entry, "id": new_id()}), reason)

    return make


def _nested() -> dict[str, Any]:
    value: Any = 1
    for _ in range(_DEEP):
        value = [value]
    return {"deep": value}


UNREADABLE: tuple[Maker, ...] = (
    lambda _, __: Poison(b"\xc1" * 3),
    lambda _, __: Poison(b""),
    lambda _, __: Poison(b'{"data": ', headers={CONTENT_TYPE: JSON}),
    lambda _, __: Poison(b'{"data": null, "id": "%s"}' % new_id().hex().encode()),
    lambda _, __: Poison(_encode({"data": "text", "id": new_id()})),
    lambda _, __: Poison(_encode({"data": {}, "timestamp": {"no": "time"}})),
    lambda _, __: Poison(_encode({"data": {}, "id": b"short"})),
    lambda _, __: Poison(b"\x81\xa4data\x81\xa1\xff\x01"),
    lambda _, __: Poison(b"\x28\xb5\x2f\xfd" + b"\xff" * 20, headers={CONTENT_ENCODING: "zstd"}),
    lambda _, __: Poison(
        gzip.compress(bytes(MAX_INFLATED + 1), 1), Reason.TOO_LARGE_INFLATED, {CONTENT_ENCODING: "gzip"}
    ),
    lambda source, number: Poison(_good(source, number)[:-7]),
    lambda source, number: Poison(_good(source, number) + b"\xc0"),
    lambda source, number: Poison(_good(source, number), headers={CONTENT_TYPE: "text/plain"}),
    lambda source, number: Poison(_good(source, number), headers={CONTENT_TYPE: BUNDLE}),
    lambda source, number: Poison(_good(source, number), headers={CONTENT_ENCODING: "gzip"}),
    lambda source, number: Poison(gzip.compress(_good(source, number))[:-5], headers={CONTENT_ENCODING: "gzip"}),
)
"""Messages that cannot be decoded."""
UNENCODABLE: tuple[Maker, ...] = (
    _with(lambda: {"large": 1 << 63}, Reason.DOCUMENT_INVALID),
    _with(_nested, Reason.DOCUMENT_INVALID),
    _with(lambda: {"no\0name": 1}, Reason.DOCUMENT_INVALID),
    _with(lambda: {"list": [1] * _TOO_MANY}, Reason.DOCUMENT_TOO_LARGE),
)
"""Entries that msgpack can hold and BSON cannot."""
REFUSED: tuple[Maker, ...] = (
    _with(lambda: {"refused": True}, Reason.DOCUMENT_INVALID),
    _with(lambda: {"ticket": TAKEN}, Reason.DUPLICATE_KEY),
)
"""Entries that a validation rule or a unique index of the user's refuses; plain collections have them."""


def bad_in_bundle(source: str, number: int) -> bytes:
    """Return the bytes of an entry that only harms itself in a bundle of good ones."""
    entry = {"data": data(source, number), "timestamp": "yesterday", "metadata": metadata(source), "id": new_id()}
    return _encode(entry)
