"""The messages that are published into a captured stream, and which message a row of a block is. Pure."""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Any

_POISON = b"\xc1 no entry: %b %d"
_POISONED = re.compile(rb"\xc1 no entry: (\S+) (\d+)")
_LARGE, _LARGE_SIZE = 97, 5_000


def body(source: str, number: int) -> bytes:
    """Return an entry in JSON: 200 bytes, now and then 5 kB."""
    return json.dumps({"data": data(source, number), "metadata": {"source": source}}).encode()


def data(source: str, number: int) -> dict[str, Any]:
    """Return the data of an entry, which follows from its source and its number."""
    digest = blake2b(f"{source} {number}".encode()).hexdigest()
    filling = digest * (_LARGE_SIZE // len(digest)) if number % _LARGE == _LARGE - 1 else digest[: number % 100]
    return {"source": source, "number": number, "took": number / 8, "filling": filling}


def poison(source: str, number: int) -> bytes:
    """Return a body that no decoder of entries reads."""
    return _POISON % (source.encode(), number)


def who(content: bytes) -> tuple[str, int, bool]:
    """Tell from a whole body which message it is, and whether it is unchanged."""
    if match := _POISONED.fullmatch(content):
        return match[1].decode(), int(match[2]), True
    try:
        source, number, _ = who_has(json.loads(content))
    except ValueError:
        return "", -1, False
    return source, number, content == body(source, number)


def who_has(value: Any) -> tuple[str, int, bool]:
    """Tell from the value in the column `data` which message a row is, and whether it is unchanged."""
    inner = value.get("data", value) if isinstance(value, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("number"), int):
        return "", -1, False
    source, number = str(inner.get("source")), inner["number"]
    return source, number, inner == data(source, number)
