"""The sink that counts entries as stored and drops them: for measurements, and for entries that nobody needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.sinks import Written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.model import Entry


class Blackhole:
    """Takes every entry and keeps none. See `Sink`."""

    __slots__ = ()

    def begin(self, entries: Sequence[Entry]) -> BlackholeWriting:
        """See `Sink`."""
        return BlackholeWriting(len(entries))


class BlackholeWriting:
    """The writing of one batch to nowhere. See `Writing`."""

    def __init__(self, entries: int) -> None:
        self.written = Written()
        self._entries = entries

    async def attempt(self) -> None:
        """See `Writing`; it never fails."""
        self.written.stored = self._entries
