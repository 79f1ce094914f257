"""A stored document -> the line that shows it to people. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from transfer.ndjson import as_json

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST = ("level", "logger", "msg")
_HIDDEN = frozenset({"_id", "timestamp", *_FIRST})
_DIM, _RESET = "\x1b[2m", "\x1b[0m"
_COLOURS = {
    "TRACE": _DIM,
    "DEBUG": _DIM,
    "INFO": "\x1b[32m",
    "NOTICE": "\x1b[36m",
    "WARN": "\x1b[33m",
    "WARNING": "\x1b[33m",
    "ERROR": "\x1b[31m",
    "CRITICAL": "\x1b[1;31m",
    "FATAL": "\x1b[1;31m",
    "PANIC": "\x1b[1;31m",
}
_LEVEL_WIDTH = 8


def readable_line(document: Mapping[str, object], *, coloured: bool) -> str:
    """Return time, level, logger, msg, then the other fields as key=value, on one line whatever is in them."""
    paint = _paint if coloured else _plain
    words = [paint(_text(document.get("timestamp", "-")), _DIM)]
    if "level" in document:
        level = _text(document["level"])
        words.append(paint(f"{level:{_LEVEL_WIDTH}}", _COLOURS.get(level.upper(), "")))
    words += [_text(document[name]) for name in _FIRST[1:] if name in document]
    for name, value in document.items():
        if name not in _HIDDEN and not (name == "metadata" and value is None):
            words.append(paint(f"{_printable(name)}=", _DIM) + _value(value))
    return " ".join(words)


def _paint(text: str, colour: str) -> str:
    return f"{colour}{text}{_RESET}" if colour else text


def _plain(text: str, _: str) -> str:
    return text


def _text(value: object) -> str:
    plain = as_json(value)
    return _printable(plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False))


def _value(value: object) -> str:
    """Return text as it is when that can be told from what stands around it, else as JSON."""
    plain = as_json(value)
    if isinstance(plain, str) and plain and not any(one in ' "=' or not one.isprintable() for one in plain):
        return plain
    return _printable(json.dumps(plain, ensure_ascii=False, separators=(",", ":")))


def _printable(text: str) -> str:
    """Escape what would move the cursor, or do worse to a terminal."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
