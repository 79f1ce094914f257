"""How far a long command is, on one line of a terminal; nothing anywhere else."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import time

_EVERY = 0.1
_WIDTH = 24


class Progress:
    """Drawn on standard error ten times a second at most; with a bar and the time left when the size is known."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._start = time.monotonic()
        self._shown = 0.0
        self._on_terminal = sys.stderr.isatty()

    def show(self, read: int, confirmed: int, bad: int) -> None:
        """Draw how far it is, unless that was done just now."""
        now = time.monotonic()
        if not self._on_terminal or now - self._shown < _EVERY:
            return
        self._shown = now
        rate = confirmed / max(now - self._start, _EVERY)
        said = f"{confirmed:,} confirmed, {bad:,} not, {rate:,.0f}/s"
        if self._total:
            said = f"{_bar(read / self._total)} {said}, {self._left(read, now)} left"
        columns = shutil.get_terminal_size().columns
        sys.stderr.write(f"\r\x1b[K{said[: columns - 1]}")
        sys.stderr.flush()

    def _left(self, read: int, now: float) -> str:
        if not read or not self._total:
            return "-"
        seconds = round((now - self._start) * max(0, self._total - read) / read)
        return f"{seconds // 60}:{seconds % 60:02}"

    def say(self, text: str) -> None:
        """Write a line of its own."""
        self.clear()
        sys.stderr.write(f"transfer: {text}\n")

    def clear(self) -> None:
        """Leave the terminal's line empty."""
        if self._on_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _bar(part: float) -> str:
    part = min(part, 1.0)
    full = int(part * _WIDTH)
    return f"[{'#' * full}{'.' * (_WIDTH - full)}] {part:4.0%}"


def bytes_left(descriptor: int) -> int | None:
    """Return how much there is to read in a regular file, None of anything else."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return None
    return max(0, status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR))
