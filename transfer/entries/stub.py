"""The stub of an entry that is too large to be sent: its logger, its beginning, and its size. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from transfer.entries.lenient import LONGEST, safe_repr, safe_text

_SHORT = 256
"""Characters of level and logger."""


class _Parts(msgspec.Struct):
    metadata: msgspec.Raw
    data: dict[str, Any]
    timestamp: msgspec.Raw
    id: msgspec.Raw


_decoder = msgspec.msgpack.Decoder(_Parts)


def stub_of(body: bytes) -> bytes | None:
    """Return the body of the entry that stands for another one: `msg`, cut, `level`, `logger`, and `size` in bytes.

    It has the time and the identity of the entry, and its metadata unless that is large too. None when no memory is
    left for it, or the body is none of ours.
    """
    try:
        return _stub(body)
    except (MemoryError, RecursionError, ValueError):  # msgspec.DecodeError is a ValueError
        return None


def _stub(body: bytes) -> bytes:
    parts = _decoder.decode(body)
    data = parts.data
    said: object = data.get("msg", data)
    stub: dict[str, object] = {"msg": safe_text(said) if isinstance(said, str) else safe_repr(said)}
    stub |= {name: safe_text(str(data[name]))[:_SHORT] for name in ("level", "logger") if name in data}
    metadata = None if len(bytes(parts.metadata)) > LONGEST else parts.metadata
    whole = {"metadata": metadata, "data": stub | {"size": len(body)}, "timestamp": parts.timestamp, "id": parts.id}
    return msgspec.msgpack.encode(whole)
