"""Rule 10: the blocks of the last record that are missing, made from the stream by the members in the record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from collector.archive.blocks import Blocks, by_position
from collector.archive.formats import About
from collector.archive.log import missing
from collector.archive.members import Shares
from collector.archive.record import BlockKind
from collector.archive.rows import Reading, Row, raw_row
from collector.archive.spool import Spool
from collector.decoding.identity import Incarnation
from collector.model import Delivery, Reason, Rejected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from collector.archive.blocks import Entry
    from collector.archive.making import Making
    from collector.archive.record import Record
    from collector.archive.uploads import Uploads

_READ_ANOTHER_WAY = "expected the entry that the cut was planned with, but the decoder reads its message in another way"


class Messages(Protocol):
    """The messages of a stream by their sequences."""

    stream: str

    def get(self, sequences: Sequence[int]) -> AsyncIterator[Delivery]:
        """Yield the messages that the stream still has, in the order of the sequences. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The blocks that were made for a record."""

    blocks: int = 0
    rows: int = 0
    bytes: int = 0
    expired: int = 0
    """Messages of these blocks that had left the stream."""


async def complete(
    record: Record, messages: Messages, making: Making, uploads: Uploads, spool: Spool | None = None
) -> Completed:
    """Create each block of a record that is not there. Any process may do this, at any time, and more than once.

    The record says how its blocks are made; a format or decoder of the user's own is the one of `making`. Raises the
    errors of the store, and Unavailable when the stream does not answer. Then the same call is made again.
    """
    absent = sorted(await missing(uploads.patient, record))
    if not absent:
        return Completed()
    making, spool = making.of(record.making), Spool() if spool is None else spool
    blocks = Blocks(making.opened(spool), spool)
    remade = _Remade(record, set(absent), making, messages.stream)
    wanted = remade.wanted()
    rows = found = 0
    try:
        async for message in messages.get(wanted):
            found += 1
            for number, entries in remade.entries_of(message).items():
                blocks.write(number, entries, record.blocks[number].kind)
                rows += len(entries)
        for number in absent:
            blocks.finish(number, about(record), record.blocks[number].kind)
        size = await uploads.create_all(record, absent, blocks)
    finally:
        blocks.drop()
    return Completed(len(absent), rows, size, len(wanted) - found)


def about(record: Record) -> About:
    """Return the facts of a cut that are in its blocks."""
    return About(record.capture, record.number, record.after + 1, record.to)


class _Remade:
    """Finds the entries of missing blocks in messages."""

    def __init__(self, record: Record, absent: set[int], making: Making, stream: str) -> None:
        incarnation = Incarnation(stream, record.incarnation)
        self._blocks = record.blocks
        self._members = record.members
        self._absent = absent
        self._shares = Shares(record.members)
        self._incarnation = incarnation
        self._reading = Reading(making.decoding(incarnation), incarnation)

    def wanted(self) -> list[int]:
        """Return the sequences of all messages with an entry in a missing block."""
        if len(self._absent) == len(self._blocks):
            return list(self._members.sequences())
        return [sequence for sequence, shares in self._members.shares() if not self._absent.isdisjoint(shares)]

    def entries_of(self, message: Delivery) -> dict[int, list[Entry]]:
        """Return the entries of a message that belong to missing blocks: by position, as they were planned."""
        read = self._reading.read([message])
        now = by_position([*read.rows, *read.rejects])
        parts: dict[int, list[Entry]] = {}
        for position, number in enumerate(self._shares.of(message.sequence) or ()):
            if number in self._absent:
                found = now[position] if position < len(now) else None
                dead = self._blocks[number].kind is BlockKind.DEAD
                entry = self._letter(message, position, found) if dead else _row(message, position, found)
                parts.setdefault(number, []).append(entry)
        return parts

    def _letter(self, message: Delivery, position: int, found: Entry | None) -> Rejected:
        if isinstance(found, Rejected):
            return found
        identity = self._incarnation.identity(message.sequence, position)
        return Rejected(message, position, identity, Reason.OTHER, _READ_ANOTHER_WAY, message.body)


def _row(message: Delivery, position: int, found: Entry | None) -> Row:
    if isinstance(found, Row):
        return found
    error = _READ_ANOTHER_WAY if found is None else found.error
    return replace(raw_row(message, error), position=position)
