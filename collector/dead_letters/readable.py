"""A body as a person can read it: inflated, decoded, and with nothing in it that a terminal would obey. Pure."""

from __future__ import annotations

from pprint import pformat
from typing import Any

import msgspec

from collector.decoding.bundle import split
from collector.decoding.inflate import inflate
from collector.errors import Poison
from transfer.printable import printable
from transfer.wire import BUNDLE, CONTENT_ENCODING, CONTENT_TYPE, MAX_INFLATED

_MOST = 64 * 1024
"""Characters that are shown."""
_HEX = 256
_WIDTH = 100


def readable(body: bytes, headers: dict[str, str]) -> tuple[str, str]:
    """Return what the body is (`msgpack`, `JSON`, `text`, …) and its content, cut where it is very long.

    `headers` are those that say how to read it, by their names in lower case.
    """
    try:
        plain = bytes(inflate(body, headers.get(CONTENT_ENCODING.lower(), "").lower(), MAX_INFLATED))
    except Poison:
        plain = body
    media_type = headers.get(CONTENT_TYPE.lower(), "").partition(";")[0].strip().lower()
    what, content = _content(plain, media_type)
    kind = what if plain is body else f"{what}, {len(plain)} bytes inflated"
    return kind, content if len(content) <= _MOST else f"{content[:_MOST]} …"


def _content(plain: bytes, media_type: str) -> tuple[str, str]:
    for what, decode in (("JSON", _json), ("bundle", _bundle), ("msgpack", _msgpack)):
        if (what == "bundle") == (media_type == BUNDLE) and (what == "JSON") == plain.startswith((b"{", b"[")):
            try:
                return what, pformat(decode(plain), width=_WIDTH, sort_dicts=False)
            except (ValueError, RecursionError, Poison):
                break
    try:
        text = plain.decode()
    except UnicodeDecodeError:
        text = ""
    if text and sum(map(str.isprintable, text)) >= len(text) * 0.9:
        return "text", printable(text)
    return "bytes", plain[:_HEX].hex(" ") + (" …" if len(plain) > _HEX else "")


_json = msgspec.json.decode


def _msgpack(plain: bytes) -> Any:
    return msgspec.msgpack.decode(plain)


def _bundle(plain: bytes) -> list[Any]:
    return [msgspec.msgpack.decode(source) for source in split(plain)]
