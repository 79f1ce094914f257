"""What is being measured now: one line that moves on a terminal, nothing in a pipe."""

from __future__ import annotations

import time
from typing import TextIO

_CLEAR = "\r\x1b[K"
_WIDTH = 79


class Progress:
    """Writes to a terminal; quiet everywhere else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._started = time.monotonic()
        self._group = self._round = ""

    def group(self, name: str) -> None:
        """Say which group begins."""
        self._group, self._round = name, ""
        self.doing("starting nats-server and mongod")

    def round(self, number: int, of: int) -> None:
        """Say which round of the group begins."""
        self._round = f" {number}/{of}"

    def doing(self, what: str) -> None:
        """Say what is being measured."""
        if self._live:
            seconds = int(time.monotonic() - self._started)
            line = f"{seconds // 60:02}:{seconds % 60:02} {self._group}{self._round}: {what} ..."
            self._stream.write(_CLEAR + line[:_WIDTH])
            self._stream.flush()

    def clear(self) -> None:
        """Take the line away: something else is written now."""
        if self._live:
            self._stream.write(_CLEAR)
            self._stream.flush()
