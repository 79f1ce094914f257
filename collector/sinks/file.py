"""Writing into a file: the lines of a batch are appended at once and synced, and a message is written once."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, Lock, sleep, to_thread

from collector.errors import SinkUnavailable
from collector.sinks import Written
from collector.sinks.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.model import Entry
    from collector.sinks.log_file import LogFile

FILES_AT_ONCE = 16
"""Threads that write files, of all loggers: a folder that hangs must not take the threads of others."""
_PERIOD = 30.0
"""Seconds between two checks of the age of an idle file."""


class FileSink:
    """Writes the entries of one logger to its file, one batch after the other, in threads. See `Sink`.

    No entry is written twice: the file knows which messages it has, over restarts too.
    """

    def __init__(self, file: LogFile, limiter: CapacityLimiter) -> None:
        """Write to a file that is open."""
        self._file = file
        self._limiter = limiter
        self._turn = Lock()

    def begin(self, entries: Sequence[Entry]) -> FileWriting:
        """See `Sink`."""
        return FileWriting(self, entries)

    async def append(self, writing: FileWriting) -> None:
        """Write a batch when it is its turn. A write that has begun is not cut."""
        async with self._turn:
            await to_thread.run_sync(writing.write, self._file, limiter=self._limiter)

    async def look_at_age(self) -> None:
        """Begin a new file when the present one is old enough, until cancelled."""
        while True:
            await sleep(_PERIOD)
            async with self._turn:
                with suppress(SinkUnavailable):  # the next write reports it
                    await to_thread.run_sync(self._file.look_at_age, limiter=self._limiter)


class FileWriting:
    """The writing of one batch into a file. See `Writing`."""

    def __init__(self, sink: FileSink, entries: Sequence[Entry]) -> None:
        self.written = Written()
        self._sink = sink
        self._entries = entries
        self._lines: Lines | None = None

    async def attempt(self) -> None:
        """See `Writing`. All of a batch is stored, or nothing of it."""
        await self._sink.append(self)

    def write(self, file: LogFile) -> None:
        """Write the entries that are not refused; blocks."""
        if self._lines is None:
            self._lines = Lines(self._entries)
        there = file.append(self._lines.entries, self._lines.lines)
        self.written = Written(len(self._lines.lines) - there, there, self._lines.refused)
