"""The findings of a proof: one sentence for each thing that is not as it has to be. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.archive.record import Block, Record

_BACK = "bring it back from a copy, or from an older version of the object"


class Kind(StrEnum):
    """The kind of a finding."""

    RECORD_MISSING = "record_missing"
    RECORD_DAMAGED = "record_damaged"
    INTERVAL = "interval"
    BLOCK_MISSING = "block_missing"
    CUT_OPEN = "cut_open"
    BLOCK_DAMAGED = "block_damaged"
    ENTRIES = "entries"
    BYTES = "bytes"
    NAMED_TWICE = "named_twice"
    NOT_NAMED = "not_named"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in an archive that is not as it has to be."""

    kind: Kind
    path: str
    """The record, the block or the other file."""
    problem: str
    """The sentence, with the path."""


@dataclass(slots=True)
class Tally:
    """How much was looked at."""

    captures: int = 0
    records: int = 0
    blocks: int = 0
    rows: int = 0
    bytes: int = 0
    findings: int = 0


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a block, as far as it was read."""

    size: int
    checksum: bytes
    rows: int
    damage: str
    """Why it cannot be read to its end, or nothing."""
    fault: str
    """How its rows differ from its record, or nothing."""


def judge(path: str, block: Block, content: Content) -> Finding | None:
    """Return the finding about a block that is there; the one that says most."""
    if content.damage:
        return Finding(Kind.BLOCK_DAMAGED, path, f"expected block {path} to be readable, but {content.damage}: {_BACK}")
    if content.fault:
        problem = f"expected block {path} to have exactly its {block.rows} entries, but {content.fault}: {_BACK}"
        return Finding(Kind.ENTRIES, path, problem)
    if block.size is not None and block.size != content.size:
        problem = f"expected block {path} to have {block.size} bytes by its record, got {content.size}"
        return Finding(Kind.BYTES, path, f"{problem}; each entry is there, but its content may be another: {_BACK}")
    if block.checksum is not None and block.checksum != content.checksum:
        shown = f"{block.checksum.hex()[:16]}… by its record, got {content.checksum.hex()[:16]}…"
        problem = f"expected block {path} to have the SHA-256 {shown}"
        return Finding(Kind.BYTES, path, f"{problem}; each entry is there, but its content may be another: {_BACK}")
    return None


def block_missing(path: str, record: str, *, is_open: bool) -> Finding:
    """Return the finding about a block that is not there."""
    if is_open:
        problem = f"expected block {path} of {record}, but it is not there: the cut is open; its capture completes it"
        return Finding(Kind.CUT_OPEN, path, problem)
    return Finding(Kind.BLOCK_MISSING, path, f"expected block {path} of {record}, but it is not there: {_BACK}")


def record_missing(path: str, number: int, until: int) -> Finding:
    """Return the finding about records that are not there, from a number to before another one."""
    many = f"records {number} to {until - 1} are" if until - number > 1 else "it is"
    problem = f"expected record {path}, but {many} not there: {_BACK}; nothing in their cuts can be proven without"
    return Finding(Kind.RECORD_MISSING, path, problem)


def gap(path: str, record: Record, end: int) -> Finding:
    """Return the finding about a record that does not begin where its predecessor ends."""
    problem = f"expected record {path} to begin behind sequence {end}, where its predecessor ends, got {record.after}"
    return Finding(Kind.INTERVAL, path, f"{problem}: one of the two is of another log; {_BACK}")


def named_twice(path: str, record: str) -> Finding:
    """Return the finding about a block that an earlier record has named."""
    problem = f"expected block {path} to belong to one cut, but {record} names it too: bring that record back"
    return Finding(Kind.NAMED_TWICE, path, problem)


def not_named(path: str) -> Finding:
    """Return the finding about a file that no record names."""
    problem = f"expected a record to name {path}, but none does: a query that reads all files has its rows too; move it"
    return Finding(Kind.NOT_NAMED, path, f"{problem} out of the root")
