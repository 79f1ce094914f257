"""A line of a log -> the parts of an entry: its fields, its time, its metadata. Pure.

Nothing of a line is lost: what would be is said once, in a note, or the line is no entry and the error says why.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from transfer.entries.entry import beside, pack
from transfer.entries.log_time import field_at, find_time, read_time
from transfer.entries.misfit import Misfit
from transfer.entries.plain import Walk
from transfer.errors import InvalidEntry

_SHOWN = 60
"""Characters of a line that an error shows."""
_SURE = 15
"""Digits that every number of 64 bits keeps."""
_BOM = b"\xef\xbb\xbf"
_OWN_ID = frozenset({"_id"})
_LEVELS = ("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")
_PACKED = {
    b"\x1f\x8b": ("gzip", "zcat"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstdcat"),
    b"BZh": ("bzip2", "bzcat"),
    b"\xfd7zXZ\0": ("xz", "xzcat"),
    b"PK\3\4": ("zip", "unzip -p"),
}


class Form(StrEnum):
    """The kinds of lines."""

    JSON = "json"
    """A JSON object, whose fields are the entry's."""
    TEXT = "text"
    """A message."""
    JOURNALD = "journald"
    """Lines of `journalctl -o json`."""


class NotALine(InvalidEntry):
    """The line is no entry; `hint` says what to do, and `is_all` whether it is true of all that is read."""

    def __init__(self, expected: str, got: str, hint: str = "", *, is_all: bool = False) -> None:
        super().__init__("entry", expected, got)
        self.hint = hint
        self.is_all = is_all

    def __str__(self) -> str:
        return f"expected {self.expected}, got {self.got}"


@dataclass(slots=True)
class Parts:
    """The parts of an entry."""

    data: dict[str, object]
    moment: int | None = None
    """Nanoseconds since 1970; None when the line has no time."""
    metadata: dict[str, object] | None = None
    notes: dict[str, str] = field(default_factory=dict)
    """Notes about a line by their subject; each subject is reported once."""

    def body(self, now: int, entry_id: bytes) -> bytes:
        """Return the body of the entry's message."""
        return pack(self.data, now if self.moment is None else self.moment, self.metadata, entry_id)


@dataclass(frozen=True, slots=True)
class LineReader:
    """Reads lines of one form; the fields that hold time and metadata may be named."""

    form: Form = Form.JSON
    timestamp_field: str | None = None
    metadata_field: str | None = None

    def read(self, line: bytes) -> Parts:
        """Return the parts of the entry that a line is. Raises `InvalidEntry`, mostly a `NotALine`."""
        line = line.removeprefix(_BOM)
        if self.form is Form.TEXT:
            _refuse_binary(line)
            return Parts({"msg": line.removesuffix(b"\r").decode(errors="backslashreplace")})
        walk = _LineWalk()
        fields = _json_object(line, walk.notes)
        if self.form is Form.JOURNALD:
            fields = _from_journald(fields)
        parts = Parts({}, notes=walk.notes)
        parts.moment = self._take_time(fields, parts.notes)
        metadata = self._take_metadata(fields)
        if "_id" in fields:
            fields = beside(fields, _OWN_ID)
            parts.notes["_id"] = "field '_id' is stored as '_id_': an entry has an _id of its own"
        parts.data = _plain(walk, "entry", fields)
        parts.metadata = metadata if metadata is None else _plain(walk, self.metadata_field or "", metadata)
        return parts

    def _take_time(self, fields: dict[str, object], notes: dict[str, str]) -> int | None:
        name = self.timestamp_field
        if name is not None:
            moment = read_time(found := field_at(fields, name))
            if moment is None:
                expected = "a time, as --timestamp-field says: RFC 3339 text or a number since 1970"
                raise InvalidEntry(f"field {name!r}", expected, "nothing" if found is None else shown(repr(found)))
        elif (known := find_time(fields)) is not None:
            name, moment = known
            notes[f"time {name}"] = f"the time of an entry is its field {name!r}; --timestamp-field names another"
        else:
            if "timestamp" in fields:
                notes["timestamp"] = "field 'timestamp' holds no time that is known: it is stored as 'timestamp_'"
            return None
        if name == "timestamp":
            del fields["timestamp"]
        return moment

    def _take_metadata(self, fields: dict[str, object]) -> dict[str, object] | None:
        if self.metadata_field is None:
            return None
        found: Any = fields.pop(self.metadata_field, None)
        if found is not None and not isinstance(found, dict):
            raise InvalidEntry(
                f"field {self.metadata_field!r}", "an object, as --metadata-field says", shown(repr(found))
            )
        return found


class _LineWalk(Walk):
    """A walk that keeps numbers which MongoDB has no room for as text."""

    __slots__ = ("notes",)

    def __init__(self) -> None:
        super().__init__()
        self.notes: dict[str, str] = {}

    def integer(self, value: int) -> object:
        self.notes["number"] = _as_text(str(value))
        return str(value)


def _plain(walk: Walk, name: str, fields: dict[str, object]) -> dict[str, object]:
    try:
        return walk.mapping(fields)
    except Misfit as misfit:
        raise InvalidEntry(name + misfit.path, misfit.expected, misfit.got) from misfit.__cause__
    except RecursionError as error:
        raise InvalidEntry(name, "values nested less deeply", "too many levels") from error


def _as_text(number: str) -> str:
    return f"number {shown(number)} is stored as text: a number of 64 bits would be another one"


def _json_object(line: bytes, notes: dict[str, str]) -> dict[str, object]:
    def number(text: str) -> object:
        value = float(text)
        if len(text) <= _SURE and "e" not in text and "E" not in text:
            return value
        with suppress(ArithmeticError):  # an exponent that Decimal has no room for either
            if math.isfinite(value) and Decimal(repr(value)) == Decimal(text):
                return value
        notes["number"] = _as_text(text)
        return text

    def mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
        fields = dict(pairs)
        return fields if len(fields) == len(pairs) else _with_both(pairs, notes)

    try:
        found = json.JSONDecoder(object_pairs_hook=mapping, parse_float=number).decode(line.decode())
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise _not_json(line, error) from error
    if isinstance(found, dict):
        return found
    hint = "jq -c '.[]' makes a line of each item of an array" if isinstance(found, list) else ""
    raise NotALine("a JSON object", f"{_kind(found)}: {_start(line)}", hint, is_all=isinstance(found, list))


def _with_both(pairs: list[tuple[str, object]], notes: dict[str, str]) -> dict[str, object]:
    fields: dict[str, object] = {}
    names = {name for name, _ in pairs}
    for name, value in pairs:
        new = name
        while new in fields or (new is not name and new in names):
            new += "_"
        if new is not name:
            notes["twice"] = f"field {shown(repr(name))} is there twice: the later one is stored as {shown(repr(new))}"
        fields[new] = value
    return fields


def _kind(value: object) -> str:
    match value:
        case list():
            return "an array"
        case str():
            return "a text"
        case bool() | None:
            return "a constant"
    return "a number"


def _not_json(line: bytes, error: Exception) -> NotALine:
    _refuse_binary(line)
    text = line.strip()
    if text in {b"{", b"[", b"[{"}:
        got = f"the first line of JSON that goes over several: {_start(text)}"
        return NotALine("a JSON object in one line", got, "jq -c . makes a line of each object", is_all=True)
    if text[:1] in {b"{", b"["}:
        said = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        at = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        return NotALine("a JSON object", f"{_start(text)} ({said}{at})")
    return NotALine("a JSON object", f"text: {_start(text)}", "--from text takes each line as a message")


def _refuse_binary(line: bytes) -> None:
    for magic, (name, command) in _PACKED.items():
        if line.startswith(magic):
            hint = f"{command} FILE | transfer publish KEY"
            raise NotALine("lines of text", f"what {name} has packed", hint, is_all=True)
    if line[:2] in {b"\xff\xfe", b"\xfe\xff"} or (len(line) > 3 and line[1:40:2].count(0) * 2 >= len(line[1:40:2])):
        hint = "iconv -f UTF-16 -t UTF-8 FILE | transfer publish KEY"
        raise NotALine("text in UTF-8", f"text in UTF-16: {_start(line)}", hint, is_all=True)


def too_long(line_start: bytes, size: int, longest: int) -> NotALine:
    """Return the error for a line that is longer than can be an entry."""
    expected = f"a line of at most {longest:,} bytes, for this server takes no larger entry"
    return NotALine(expected, f"{size:,} bytes: {_start(line_start)}")


def _start(line: bytes) -> str:
    return shown(line[: 4 * _SHOWN].decode(errors="backslashreplace"))


def shown(text: str) -> str:
    """Return the beginning of a text as a terminal may have it."""
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in cut)[: _SHOWN + 20]


def _from_journald(fields: dict[str, object]) -> dict[str, object]:
    """Return the fields of a line of the journal, with `msg`, `level` and `logger` before them."""
    message, priority = fields.pop("MESSAGE", None), fields.get("PRIORITY")
    ours: dict[str, object] = {"msg": _journal_text(message)}
    if isinstance(priority, str) and priority.isdigit() and int(priority) < len(_LEVELS):
        ours["level"] = _LEVELS[int(priority)]
    logger = fields.get("SYSLOG_IDENTIFIER", fields.get("_SYSTEMD_UNIT", fields.get("_COMM")))
    if logger is not None:
        ours["logger"] = _journal_text(logger)
    return ours | beside(fields, frozenset(ours))


def _journal_text(value: object) -> object:
    """Return the text of a field: bytes that are no text stand in the journal's JSON as a list of numbers."""
    if isinstance(value, list) and value and all(isinstance(one, int) and 0 <= one < 256 for one in value):
        return bytes(value).decode(errors="backslashreplace")
    return value
