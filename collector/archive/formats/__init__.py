"""Formats: rows in, the bytes of a block out. Each format is a file; here is their common face. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.archive.compression import Out
    from collector.archive.rows import Row


@dataclass(frozen=True, slots=True)
class About:
    """The cut that a block belongs to."""

    capture: str
    number: int
    first: int
    last: int


class Writer(Protocol):
    """Writes one block. The same rows in the same order always make the same bytes."""

    def write(self, rows: Sequence[Row], /) -> None:
        """Add rows, in the order of the stream; some hundreds at once are the cheapest."""

    def finish(self, about: About, /) -> None:
        """Write everything that is left. The block is complete then."""

    def drop(self) -> None:
        """Give back what is held. The block is not written."""


class Format(Protocol):
    """Opens the blocks of a capture."""

    @property
    def suffix(self) -> str:
        """The end of the name of a file, without its first dot, like `ndjson.zst`."""

    def open(self, out: Out, /) -> Writer:
        """Begin a block whose bytes go to `out`."""
