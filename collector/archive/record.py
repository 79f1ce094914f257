"""A record of the archive's log: the plan of one cut, and its form as bytes. Pure.

The bytes are a line `transfer cut 1`, the CRC-32 of the rest in 4 bytes, and a deflated msgpack map.
"""

from __future__ import annotations

import zlib
from collections import Counter
from enum import Enum, StrEnum
from typing import Annotated, Any

import msgspec

from collector.archive.members import Members
from collector.errors import RecordDamaged

_HEAD = b"transfer cut "
_VERSION = b"1\n"
_START = len(_HEAD) + len(_VERSION)
_CRC = 4

Natural = Annotated[int, msgspec.Meta(ge=0)]


class CutTrigger(StrEnum):
    """Why a cut was closed."""

    BYTES = "bytes"
    MESSAGES = "messages"
    BLOCKS = "blocks"
    AGE = "age"
    WINDOW = "window"
    SHUTDOWN = "shutdown"


class BlockKind(Enum):
    """The contents of a block."""

    ROWS = "rows"
    DEAD = "dead"
    """Dead letters: messages or entries that could not be made rows."""
    OTHER = "other"
    """Rows of all keys that were too many for the cut."""


class Block(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of a cut. Its members are the entries that the record assigns to its number."""

    path: str
    key: str
    """The key that all of its entries share; empty in a block of another kind than rows."""
    window_ns: int
    """The start of the window that all of its entries share, in nanoseconds since 1970."""
    rows: Natural
    """How many entries it has."""
    kind: BlockKind = BlockKind.ROWS
    size: int | None = None
    """Its bytes, when they were known before the record was made."""
    checksum: bytes | None = None
    """The SHA-256 of its bytes, when they were known. A block that somebody else had to make may have other bytes."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of cut `number`: the interval `(after, to]`, and the block of every entry in it."""

    number: Annotated[int, msgspec.Meta(ge=1)]
    id: str
    """Unlike that of any other record, also of one with the same number that another replica wanted to create."""
    owner: str
    """The replica that made it: for people."""
    capture: str
    incarnation: str
    """The creation time of the stream, exactly as the server gives it."""
    after: Natural
    to: Natural
    to_time_ns: int
    """When the stream stored message `to`, in nanoseconds since 1970."""
    trigger: CutTrigger
    making: dict[str, str]
    """How the blocks are made (format, compression, columns, release), so that any replica can make them alike."""
    overflow: Natural = 0
    """How many entries are in blocks of `__other__`, because the cut had too many keys."""
    blocks: tuple[Block, ...]
    members: Members

    def follows(self, last: Record | None) -> bool:
        """Tell whether this record may come after that one, or be the first."""
        number, cursor = (last.number, last.to) if last is not None else (0, 0)
        return (self.number, self.after) == (number + 1, cursor)


def encode(record: Record) -> bytes:
    """Return the record as bytes; see `decode`."""
    fault = fault_of(record)
    if fault:
        raise ValueError(f"expected a record that is right in itself, got {fault}")
    body = zlib.compress(msgspec.msgpack.encode(record, enc_hook=_encode_members))
    return _HEAD + _VERSION + zlib.crc32(body).to_bytes(_CRC) + body


def decode(encoded: bytes, path: str) -> Record:
    """Return the record that was encoded so. Raises RecordDamaged for any other bytes, with the path."""
    if not encoded.startswith(_HEAD):
        raise RecordDamaged(path, f"it begins with {encoded[:_START]!r}, not with {_HEAD + _VERSION!r}")
    if encoded[len(_HEAD) : _START] != _VERSION:
        version = encoded[len(_HEAD) : _START]
        raise RecordDamaged(path, f"it is of version {version!r}, and this release reads {_VERSION!r}")
    body = encoded[_START + _CRC :]
    told, found = int.from_bytes(encoded[_START : _START + _CRC]), zlib.crc32(body)
    if len(encoded) < _START + _CRC or told != found:
        raise RecordDamaged(path, f"the checksum of its {len(encoded)} bytes is {found:08x} and not {told:08x}")
    try:
        record = msgspec.msgpack.decode(zlib.decompress(body), type=Record, dec_hook=_decode_members)
    except (zlib.error, msgspec.MsgspecError, ValueError) as exc:
        raise RecordDamaged(path, str(exc)) from exc
    fault = fault_of(record)
    if fault:
        raise RecordDamaged(path, f"it has {fault}")
    return record


def fault_of(record: Record) -> str:
    """Return how a record contradicts itself, or nothing."""
    members, blocks = record.members, record.blocks
    if fault := members.fault(len(blocks)):
        return fault
    if not members.firsts:
        return "no members"
    if members.firsts[0] <= record.after or members.firsts[-1] + members.lengths[-1] - 1 > record.to:
        return f"members outside of its interval ({record.after}, {record.to}]"
    if len({block.path for block in blocks}) < len(blocks):
        return "two blocks of the same path"
    rows = Counter(members.blocks)
    for number, block in enumerate(blocks):
        if rows[number] != block.rows:
            return f"{block.rows} rows in block {number}, and {rows[number]} entries that belong to it"
    return ""


def _encode_members(value: Any) -> Any:
    if isinstance(value, Members):
        return value.encode()
    raise NotImplementedError(type(value))


def _decode_members(kind: type, value: Any) -> Any:
    if kind is Members and isinstance(value, bytes):
        return Members.decode(value)
    raise ValueError(f"{type(value).__name__} in place of {kind.__name__}")
