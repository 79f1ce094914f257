"""Readers of blocks: a file in, its rows out, some hundreds at a time, so that no block is ever in memory as a whole.

A block that cannot be read to its end raises BlockDamaged. Rows that were read before it are right as far as they go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_NAMES = {"sequence": "_seq", "position": "_pos", "time": "_time", "subject": "_subject", "id": "_id"}


class Archived(msgspec.Struct, gc=False, kw_only=True, rename=_NAMES):
    """A row of an entry, whatever format it was written in; its names are those of NDJSON."""

    sequence: int
    position: int
    time: str
    """When the stream stored its message: RFC 3339."""
    subject: str
    id: str | None
    timestamp: str | None
    metadata: msgspec.Raw
    data: msgspec.Raw
    """JSON, `null` where there is none; declared columns are back in it."""


class Captured(msgspec.Struct, gc=False, kw_only=True):
    """A row of the format raw: a message with everything that came with it."""

    stream: str
    subject: str
    sequence: int = msgspec.field(name="stream_sequence")
    time: str
    headers: list[tuple[str, str]]
    data: str | None = None
    data_base64: bytes | None = None
    headers_base64: bytes | None = None
    position: int = msgspec.field(name="_no_position", default=0)


class Letter(msgspec.Struct, gc=False, kw_only=True):
    """A row of a block of dead letters; only its place is read."""

    sequence: int
    entry: int | None
    reason: str
    error: str
    body: bytes

    @property
    def position(self) -> int:
        """The position of its entry in a bundle."""
        return self.entry or 0


Found: TypeAlias = Archived | Captured | Letter
Places: TypeAlias = "tuple[list[int], list[int]]"
"""The sequences of some rows, and their positions."""


class Reader(Protocol):
    """Reads one block, once. Both methods raise BlockDamaged."""

    def rows(self) -> Iterator[Sequence[Any]]:
        """Yield all rows, in the order of the file."""

    def places(self) -> Iterator[Places]:
        """Read the whole block, and yield only where its rows came from."""


def places_of(rows: Sequence[Found]) -> Places:
    """Return sequences and positions of rows."""
    return [row.sequence for row in rows], [row.position for row in rows]
