"""What is published: the content of an entry follows from its source and its number, so that wrong content is found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_LARGE, _LARGE_SIZE = 499, 20_000
_HUGE, _HUGE_SIZE = 4999, 400_000
_LEVELS = ("debug", "info", "info", "info", "warning", "error")
_ENVELOPE = ("_id", "timestamp", "metadata")


def data(source: str, number: int) -> dict[str, Any]:
    """Return the data of an entry: 200 to 300 bytes, now and then 20 kB, rarely 400 kB."""
    digest = blake2b(f"{source} {number}".encode()).hexdigest()
    filling = digest[: number % 100]
    if number % _HUGE == _HUGE - 1:
        filling = digest * (_HUGE_SIZE // len(digest))
    elif number % _LARGE == _LARGE - 1:
        filling = digest * (_LARGE_SIZE // len(digest))
    return {
        "source": source,
        "number": number,
        "level": _LEVELS[number % len(_LEVELS)],
        "msg": f"request {digest[:12]} answered",
        "took": number / 8,
        "request": {"path": f"/items/{number % 1000}", "trace": digest[32:64]},
        "filling": filling,
    }


def metadata(source: str) -> dict[str, Any]:
    """Return the metadata of all entries of a source."""
    return {"source": source}


def moment(number: int) -> datetime:
    """Return the timestamp of an entry: a millisecond apart, as of a program that logs a thousand a second."""
    return _FIRST + timedelta(milliseconds=number)


def is_faithful(document: Mapping[str, Any], expected: bytes | None = None) -> bool:
    """Tell whether a stored document is the entry that it says it is.

    `expected` is the fingerprint of data that does not follow from the number.
    """
    source, number = document["source"], document["number"]
    if document.get("timestamp") != moment(number) or document.get("metadata") != metadata(source):
        return False
    stored = {name: value for name, value in document.items() if name not in _ENVELOPE}
    return stored == data(source, number) if expected is None else fingerprint(stored) == expected


def fingerprint(content: Mapping[str, Any] | bytes) -> bytes:
    """Return what equal contents have in common, whatever the order of their fields, and different ones do not."""
    raw = content if isinstance(content, bytes) else msgspec.msgpack.encode(content, order="sorted")
    return blake2b(raw, digest_size=16).digest()
