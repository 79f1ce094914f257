"""An entry of whatever was logged -> its bytes. Nothing is raised: what cannot be stored is stored as its `repr`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

from transfer.entry import encode_entry, nanoseconds, plain_value
from transfer.errors import InvalidEntry

_FIRST, _END = -62_135_596_800 * 10**9, 253_402_300_800 * 10**9
"""The years 1 to 9999, in nanoseconds since 1970: what the collector takes for a moment."""
_DEEPEST = 32
"""Levels of maps and lists that are kept; MongoDB takes 100, and what is in itself has no end."""
_LONGEST = 10_000
"""Characters of a `repr` that are kept."""


def encode_anything(data: object, timestamp: object, metadata: object, entry_id: bytes) -> bytes:
    """Return the body of the message that carries one entry: of what `encode_entry` takes, the same bytes.

    Data that is no mapping becomes its field `msg`; a timestamp that is none becomes now.
    """
    moment = _moment(timestamp)
    with suppress(Exception):  # `items`, `__getattr__` and `repr` of the application's own classes are called here
        return encode_entry(data, moment, metadata, entry_id)  # type: ignore[arg-type]
    document = _plain(data, ())
    if not isinstance(document, dict):
        document = {"msg": document}
    extra = _plain(metadata, ())
    if extra is not None and not isinstance(extra, dict):
        extra = {"metadata": extra}
    return encode_entry(document, moment, extra, entry_id)


def _moment(timestamp: object) -> int:
    with suppress(InvalidEntry):
        moment = nanoseconds(timestamp)
        if _FIRST <= moment < _END:
            return moment
    return time.time_ns()


def _plain(value: object, path: tuple[int, ...]) -> object:
    """Return a value that `encode_entry` takes; `path` are the identities of what it is in."""
    try:
        if id(value) in path:
            return f"<the {type(value).__name__} that this is in>"
        if len(path) >= _DEEPEST:
            return safe_repr(value)
        inside = (*path, id(value))
        if isinstance(value, Mapping):
            return {_name(key): _plain(item, inside) for key, item in list(value.items())}
        if isinstance(value, (list, tuple)):
            return [_plain(item, inside) for item in list(value)]
        return plain_value(value)
    except Exception:  # noqa: BLE001 - as above
        return safe_repr(value)


def _name(key: object) -> str:
    return (safe_text(key) if isinstance(key, str) else safe_repr(key)).replace("\0", "\\0")


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
