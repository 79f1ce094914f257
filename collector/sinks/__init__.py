"""Where batches are written: the protocol of a sink and what it says about each entry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.model import Entry, Refusal


@dataclass(slots=True)
class Written:
    """What became of entries: every one of them is in exactly one place of these four."""

    stored: int = 0
    duplicates: int = 0
    """Were stored already, by an earlier delivery of the same entry."""
    refused: list[Refusal] = field(default_factory=list)
    again: list[Entry] = field(default_factory=list)
    """Could not be stored now, for the reason in `error`."""
    error: str = ""

    def add(self, other: Written) -> None:
        """Add what became of other entries."""
        self.stored += other.stored
        self.duplicates += other.duplicates
        self.refused += other.refused
        self.again += other.again
        self.error = other.error or self.error


class Sink(Protocol):
    """What the writer needs of a place to write to."""

    async def write(self, entries: Sequence[Entry]) -> Written:
        """Store entries durably, in no order. Writing the same entries again stores nothing twice.

        Raises SinkUnavailable when nothing is known about any of them. It is never cut by a cancellation: it ends
        within its write timeout.
        """
