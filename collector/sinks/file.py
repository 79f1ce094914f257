"""Writing into a file: the lines of a batch are appended at once and synced, and a message is written once."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock as ThreadLock
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, Lock, fail_after, move_on_after, sleep, to_thread

from collector.errors import SinkUnavailable
from collector.sinks import Written
from collector.sinks.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collector.model import Entry
    from collector.sinks.log_file import LogFile

FILES_AT_ONCE = 16
"""Threads that write files, of all loggers. A folder that hangs has one more for each logger that was given up."""
_PERIOD = 30.0
"""Seconds between two checks of the age of an idle file."""


class FileSink:
    """Writes the entries of one logger to its file, one batch after the other, in threads. See `Sink`.

    No entry is written twice: the file knows which messages it has, over restarts too. A thread that the file system
    does not let go is waited for until the patience ends, and nobody else touches the file until it comes back.
    """

    def __init__(self, file: LogFile, limiter: CapacityLimiter, patience: float) -> None:
        """Write to a file; each wait for a thread ends after so many seconds."""
        self._file = file
        self._limiter = limiter
        self._patience = patience
        self._turn = Lock()
        self._at_work = ThreadLock()
        """Held by the thread that works with the file."""
        self._closed = False

    async def open(self) -> None:
        """Open the file. Raises SinkUnavailable."""
        await self._in_thread(type(self._file).open)

    async def close(self) -> None:
        """Close the file, or leave that to a thread that waits longer for the file system."""
        with move_on_after(self._patience, shield=True):
            await to_thread.run_sync(self._close, limiter=self._limiter, abandon_on_cancel=True)

    def begin(self, entries: Sequence[Entry]) -> FileWriting:
        """See `Sink`."""
        return FileWriting(self, entries)

    async def append(self, writing: FileWriting) -> None:
        """Write a batch when it is its turn. A write that has begun is not cut. Raises SinkUnavailable."""
        async with self._turn:
            await self._in_thread(writing.write)

    async def look_at_age(self) -> None:
        """Begin a new file when the present one is old enough, until cancelled."""
        while True:
            await sleep(_PERIOD)
            async with self._turn:
                with suppress(SinkUnavailable):  # the next write reports it
                    await self._in_thread(type(self._file).look_at_age)

    async def _in_thread(self, work: Callable[[LogFile], None]) -> None:
        """Have a thread work with the file. After SinkUnavailable the work may go on."""
        if self._at_work.locked():
            raise self._hangs()
        try:
            with fail_after(self._patience, shield=True):
                await to_thread.run_sync(self._work, work, limiter=self._limiter, abandon_on_cancel=True)
        except TimeoutError as exc:
            raise self._hangs() from exc

    def _work(self, work: Callable[[LogFile], None]) -> None:
        if not self._at_work.acquire(blocking=False):
            raise self._hangs()
        try:
            if not self._closed:
                work(self._file)
        finally:
            self._at_work.release()

    def _close(self) -> None:
        with self._at_work:
            self._closed = True
            self._file.close()

    def _hangs(self) -> SinkUnavailable:
        return SinkUnavailable(
            f"expected the file system of {self._file.path} to answer within {self._patience:g} s, got no answer:"
            " waiting for it (look at the disk, or at the server of the folder)",
            ambiguous=True,
        )


class FileWriting:
    """The writing of one batch into a file. See `Writing`."""

    def __init__(self, sink: FileSink, entries: Sequence[Entry]) -> None:
        self.written = Written()
        self._sink = sink
        self._entries = entries
        self._lines: Lines | None = None
        self._done = False

    async def attempt(self) -> None:
        """See `Writing`. All of a batch is stored, or nothing of it."""
        await self._sink.append(self)

    def write(self, file: LogFile) -> None:
        """Write the entries that are not refused; blocks. An attempt that was given up may have done it meanwhile."""
        if self._done:
            return
        if self._lines is None:
            self._lines = Lines(self._entries)
        there = file.append(self._lines.entries, self._lines.lines)
        self.written = Written(len(self._lines.lines) - there, there, self._lines.refused)
        self._done = True
