"""An entry of whatever was logged -> its bytes. Nothing is raised: what cannot be stored is stored as its `repr`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

from transfer.entry import encode_entry, nanoseconds, plain_value
from transfer.errors import InvalidEntry

_DEEPEST = 32
"""Levels of maps and lists that are kept; MongoDB takes 100, and what is in itself has no end."""
_LONGEST = 10_000
"""Characters of a `repr` that are kept."""


def encode_anything(data: object, timestamp: object, metadata: object, entry_id: bytes) -> bytes:
    """Return the body of the message that carries one entry: of what `encode_entry` takes, the same bytes.

    Data that is no mapping becomes its field `msg`; a timestamp that is none becomes now.
    """
    with suppress(Exception):  # `items`, `__getattr__` and `repr` of the application's own classes are called here
        return encode_entry(data, timestamp, metadata, entry_id)  # type: ignore[arg-type]
    document = _plain(data, 0)
    if not isinstance(document, dict):
        document = {"msg": document}
    extra = _plain(metadata, 0)
    if extra is not None and not isinstance(extra, dict):
        extra = {"metadata": extra}
    return encode_entry(document, _moment(timestamp), extra, entry_id)


def _moment(timestamp: object) -> int:
    try:
        return nanoseconds(timestamp)
    except InvalidEntry:
        return time.time_ns()


def _plain(value: object, depth: int) -> object:
    """Return a value that `encode_entry` takes."""
    try:
        if depth < _DEEPEST and isinstance(value, Mapping):
            return {_name(key): _plain(item, depth + 1) for key, item in list(value.items())}
        if depth < _DEEPEST and isinstance(value, (list, tuple)):
            return [_plain(item, depth + 1) for item in list(value)]
        return plain_value(value) if depth < _DEEPEST else safe_repr(value)
    except Exception:  # noqa: BLE001 - as above
        return safe_repr(value)


def _name(key: object) -> str:
    return safe_text(key) if isinstance(key, str) else safe_repr(key)


def safe_repr(value: object) -> str:
    """Return what `repr` says, cut; when it fails, what kind of thing it is."""
    try:
        return safe_text(value if isinstance(value, str) else repr(value))
    except Exception as error:  # noqa: BLE001 - as above
        return f"<{type(value).__name__} whose repr failed: {type(error).__name__}>"


def safe_text(text: str) -> str:
    """Return text that UTF-8 can encode, cut."""
    cut = str.__str__(text)
    if len(cut) > _LONGEST:
        cut = f"{cut[:_LONGEST]}… ({len(cut):,} characters)"
    return cut if cut.isascii() else cut.encode(errors="backslashreplace").decode()
