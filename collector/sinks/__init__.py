"""Where batches are written: the protocol of a sink and what it says about each entry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.model import Entry, Refusal


@dataclass(slots=True)
class Written:
    """What became of entries."""

    stored: int = 0
    duplicates: int = 0
    """Were stored already, by an earlier delivery of the same entry. What a command had stored whose result was unknown
    counts as stored, and once."""
    refused: list[Refusal] = field(default_factory=list)


class Writing(Protocol):
    """The writing of one batch, over as many attempts as it takes."""

    written: Written
    """What is known so far; of every entry when an attempt has returned."""

    async def attempt(self) -> None:
        """Write what is not known to be written, durably, in no order. Trying again stores nothing twice.

        Raises SinkUnavailable when something is left: then attempt again, later. It is never cut by a cancellation: it
        ends within the sink's write timeout, for each command that it takes.
        """


class Sink(Protocol):
    """What the writer needs of a place to write to."""

    def begin(self, entries: Sequence[Entry]) -> Writing:
        """Return the writing of these entries; nothing is sent before its first attempt."""
