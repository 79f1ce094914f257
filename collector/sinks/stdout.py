"""Writing to standard output: lines of NDJSON of all loggers, each with its logger's key.

A message is answered when the reader's pipe has taken its lines; where standard output is a file, when they are synced.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, Lock, to_thread

from collector.errors import ReaderGone, SinkUnavailable
from collector.runtime.durably import describe_failure
from collector.sinks import Written
from collector.sinks.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collector.model import Entry

_OF_A_PIPE = 4096
"""Bytes that a ready pipe takes at once and whole, so that a kill does not tear a line."""
_OF_A_FILE = 1024 * 1024
_TOGETHER = 256
"""Lines that are joined for one write."""


def take_stdout() -> int:
    """Return a descriptor of standard output that is nobody else's. Raises OSError when it is closed.

    Prints of the process go to standard error from now on, so that none stands among the entries.
    """
    descriptor = os.dup(1)
    sys.stdout.flush()
    with suppress(OSError):  # there is no standard error
        os.dup2(2, 1)
    return descriptor


class Stdout:
    """Standard output, which all loggers of a replica share: one batch is written at a time, by a thread."""

    def __init__(self, descriptor: int, write_timeout: float, on_gone: Callable[[], None]) -> None:
        """Write to a descriptor; `on_gone` is called when its reader has closed it."""
        self._descriptor = descriptor
        self._write_timeout = write_timeout
        self._on_gone = on_gone
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._turn = Lock()
        self._limiter = CapacityLimiter(1)
        self._rest = b"\n" if self._is_file and _ends_torn(descriptor) else b""
        """The rest of a line whose beginning is written; it is written before all other lines."""
        self.failed_syncs = 0
        """After a failed sync all lines that were sent before may be lost, and a later sync says nothing of them."""

    async def write(self, writing: StdoutWriting) -> None:
        """Write the rest of a batch, one batch at a time. Raises SinkUnavailable."""
        async with self._turn:
            try:
                await to_thread.run_sync(writing.write, self, limiter=self._limiter)
            except BrokenPipeError as exc:
                self._on_gone()
                raise SinkUnavailable(str(ReaderGone())) from exc
            except OSError as exc:
                raise SinkUnavailable(f"expected standard output to take entries, got {describe_failure(exc)}") from exc

    def send(self, lines: Sequence[bytes], on_sent: Callable[[int], None]) -> None:
        """Send lines until the write timeout, and report their number to `on_sent`; blocks. Raises OSError.

        A line that was begun counts as sent, because the next call sends its rest first. So lines are surely sent only
        when a call returns.
        """
        deadline = time.monotonic() + self._write_timeout
        self._send_rest(deadline)
        for start in range(0, len(lines), _TOGETHER):
            block = lines[start : start + _TOGETHER]
            self._rest = b"".join(block)
            try:
                self._send_rest(deadline)
            except OSError:
                on_sent(self._keep_begun(block))
                raise
            on_sent(len(block))
        if self._is_file:
            self._sync()

    def _sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError:
            self.failed_syncs += 1
            raise

    def _send_rest(self, deadline: float) -> None:
        most = _OF_A_FILE if self._is_file else _OF_A_PIPE
        rest, view, sent = self._rest, memoryview(self._rest), 0
        try:
            while sent < len(rest):
                left = deadline - time.monotonic()
                if left <= 0 or not self._poll.poll(left * 1000):
                    why = f"its reader did not take them within {self._write_timeout:g} s"
                    raise TimeoutError(errno.ETIMEDOUT, why)
                whole = rest.rfind(b"\n", sent, sent + most) + 1
                sent += os.write(self._descriptor, view[sent : whole or sent + most])
        finally:
            self._rest = rest[sent:]

    def _keep_begun(self, block: Sequence[bytes]) -> int:
        """Keep only the rest of the line that was begun; return how many lines of the block were sent or begun."""
        sent = sum(map(len, block)) - len(self._rest)
        for count, line in enumerate(block):
            if sent <= 0:
                self._rest = self._rest[:-sent] if sent else b""
                return count
            sent -= len(line)
        self._rest = self._rest[:-sent] if sent else b""
        return len(block)


def _ends_torn(descriptor: int) -> bool:
    """Tell whether a file ends within a line, because an earlier process was killed."""
    try:
        with open(f"/dev/fd/{descriptor}", "rb") as file:  # noqa: PTH123 - it has no other name
            return bool(file.seek(0, os.SEEK_END)) and file.seek(-1, os.SEEK_END) >= 0 and file.read() != b"\n"
    except OSError:
        return False  # it is write-only, or there are no such names here


class StdoutSink:
    """Writes the entries of one logger to standard output. See `Sink`. An entry may be written more than once."""

    def __init__(self, key: str, stdout: Stdout) -> None:
        self._key = key
        self._stdout = stdout

    def begin(self, entries: Sequence[Entry]) -> StdoutWriting:
        """See `Sink`."""
        return StdoutWriting(self._key, self._stdout, entries)


class StdoutWriting:
    """The writing of one batch to standard output. See `Writing`."""

    def __init__(self, key: str, stdout: Stdout, entries: Sequence[Entry]) -> None:
        self.written = Written()
        self._key = key
        self._stdout = stdout
        self._entries = entries
        self._lines: Lines | None = None
        self._sent = 0
        self._failed_syncs = stdout.failed_syncs

    async def attempt(self) -> None:
        """See `Writing`. An attempt continues where the last one ended, and after a failed sync it begins anew."""
        await self._stdout.write(self)

    def write(self, stdout: Stdout) -> None:
        """Write the lines that are left; blocks. Raises OSError."""
        if self._lines is None:
            self._lines = Lines(self._entries, self._key)
        if self._failed_syncs != stdout.failed_syncs:
            self._sent, self._failed_syncs = 0, stdout.failed_syncs
        stdout.send(self._lines.lines[self._sent :], self._note_sent)
        self.written = Written(self._sent, 0, self._lines.refused)

    def _note_sent(self, lines: int) -> None:
        self._sent += lines
