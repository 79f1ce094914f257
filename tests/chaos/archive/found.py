"""The messages in a block of an archive, as a reader without the log finds them. Pure."""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.chaos.archive.content import who, who_has
from tests.chaos.content import fingerprint
from tests.chaos.verdict import Sighting
from tests.support.archiving import INFLATE, parquet_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


LOG = "_archive/"
DEAD = "_dead/"
csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True, slots=True)
class Found:
    """A row or a dead letter."""

    sequence: int
    source: str
    """Empty when it cannot be told."""
    number: int
    faithful: bool
    fingerprint: bytes | None = None
    """Of a dead letter's body; None for a row."""
    reason: str | None = None
    """Of a dead letter; None for a row."""


def capture_of(path: str) -> str:
    """Return the name of the capture that a block belongs to: each template here begins with it."""
    return path.removeprefix(DEAD).split("/", 1)[0]


def found_in(path: str, content: bytes) -> list[Found]:
    """Return what is in a block. Raises ValueError when it cannot be read as its name says."""
    try:
        return [_letter(each) for each in _lines(content)] if path.startswith(DEAD) else [*_rows(path, content)]
    except Exception as exc:
        raise ValueError(f"expected a whole block, got {len(content)} bytes: {type(exc).__name__}: {exc}") from exc


def _rows(path: str, content: bytes) -> Iterator[Found]:
    suffixes = path.rpartition("/")[2].split(".")[1:]
    content = INFLATE.get(suffixes[-1], bytes)(content)
    if "parquet" in suffixes:
        return (_row(row["_seq"], json.loads(row["data"])) for row in parquet_in(content))
    if "csv" in suffixes:
        return (_row(int(row["_seq"]), json.loads(row["data"])) for row in _table(content))
    return (_raw(row) if "stream_sequence" in row else _row(row["_seq"], row["data"]) for row in _lines(content))


def _table(content: bytes) -> Iterable[dict[str, str]]:
    return csv.DictReader(io.StringIO(content.decode(), newline=""))


def _lines(content: bytes) -> Iterator[dict[str, Any]]:
    if content and not content.endswith(b"\n"):
        raise EOFError("the last line has no end")
    return map(json.loads, content.splitlines())


def _row(sequence: int, data: Any) -> Found:
    source, number, faithful = who_has(data)
    return Found(sequence, source, number, faithful)


def _raw(record: Mapping[str, Any]) -> Found:
    source, number, faithful = who(base64.b64decode(record["data"]))
    return Found(record["stream_sequence"], source, number, faithful)


def _letter(letter: Mapping[str, Any]) -> Found:
    body = base64.b64decode(letter["body"])
    source, number, faithful = who(body)
    return Found(letter["sequence"], source, number, faithful, fingerprint(body), letter["reason"])


def sighting(found: Found, path: str, sequences: Mapping[str, Mapping[int, int]]) -> Sighting:
    """Return what the verdict needs of a row. Its sequence has to be the one that its publisher was told."""
    told = sequences.get(found.source, {}).get(found.number, found.sequence)
    return Sighting(
        capture_of(path),
        found.source,
        found.number,
        found.fingerprint,
        faithful=found.faithful and told == found.sequence,
        reason=found.reason,
        where=f"sequence {found.sequence} in {path}",
    )
