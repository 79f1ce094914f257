"""Standard error as the log needs it: no line raises or waits, and lines that could not be written are counted."""

from __future__ import annotations

import os
import select
from collections import deque
from threading import Condition, Thread
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST = 10_000
"""Lines that wait to be written at most. Further lines are lost: nobody reads the log."""
_FULL = 5.0
"""Seconds after which a line that a non-blocking file does not take is lost."""


class Lines:
    """A text file whose lines a thread of its own writes; the thread starts with the first line.

    A pipe whose reader hangs must not stop the event loop. A closed pipe or a full disk must not end an actor.
    """

    def __init__(self, file: Callable[[], TextIO | None], on_again: Callable[[int], None] = lambda _: None) -> None:
        """Write to the file that `file` returns; call `on_again` with the lost lines when a line is written again."""
        self._file = file
        self._on_again = on_again
        self._waiting: deque[str] = deque()
        self._changed = Condition()
        self._writing = False
        self._thread: Thread | None = None
        self._lost = 0
        self._lost_in_a_row = 0

    def write(self, text: str) -> None:
        """Have a line written."""
        with self._changed:
            if len(self._waiting) >= _MOST:
                self._note_lost()
                return
            self._waiting.append(text)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = Thread(target=self._run, name="log", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Do nothing: each line is written as soon as the file takes it."""

    def finish(self, timeout: float = 2.0) -> None:
        """Wait until all lines are written, for `timeout` seconds at most: nobody may be reading."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._writing, timeout)

    def take_lost(self) -> int:
        """Return how many lines were lost since the last call."""
        with self._changed:
            lost, self._lost = self._lost, 0
        return lost

    def _note_lost(self) -> None:
        self._lost += 1
        self._lost_in_a_row += 1

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                text, self._writing = self._waiting.popleft(), True
            written = _written(self._file(), text)
            with self._changed:
                lost = 0
                if not written:
                    self._note_lost()
                elif self._lost_in_a_row:
                    lost, self._lost_in_a_row = self._lost_in_a_row, 0
            if lost:
                self._on_again(lost)


def _written(file: TextIO | None, text: str) -> bool:
    """Write past all buffers, which would keep a line that fails; return whether all of it was taken."""
    if file is None:
        return False
    try:
        descriptor = file.fileno()
    except (OSError, ValueError):  # closed, or no file of the system
        return _printed(file, text)
    left = text.encode(errors="backslashreplace")
    try:
        while left:
            left = left[_taken(descriptor, left) :]
    except OSError:
        return False
    return True


def _taken(descriptor: int, data: bytes) -> int:
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        if select.select([], [descriptor], [], _FULL)[1]:
            return 0
        raise


def _printed(file: TextIO, text: str) -> bool:
    try:
        file.write(text)
        file.flush()
    except (OSError, ValueError):
        return False
    return True
