"""Lines on standard error that hold up nobody, whatever the application or a daemon has made of it."""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from functools import partial

from transfer.system.aside import Aside
from transfer.system.inside import Making
from transfer.system.native import is_patched, original

PATIENCE = 0.05
"""Seconds that a thread waits for its line to be written, so that lines stand where they belong."""
_PIPE_BUF = 4096
"""Bytes for which a pipe has room when `poll` says that it takes more."""
_aside = Aside("transfer stderr")


def say(text: str) -> None:
    """Write a line. It may be written later, or be left out when standard error takes nothing."""
    with suppress(Exception):  # it is closed
        if _is_file(sys.stderr):
            _write_to_file(sys.stderr.fileno(), text)
        elif not _aside.do(partial(_write_to_object, text), PATIENCE) and sys.__stderr__ is not None:
            _write_to_file(sys.__stderr__.fileno(), text)


def settle() -> None:
    """Wait a moment for lines that are being written."""
    _aside.settle(PATIENCE)


def _is_file(stream: object) -> bool:
    """Return whether it is as Python has made it, and nothing of the application's is called when it is written to."""
    if not isinstance(stream, io.TextIOWrapper):
        return False
    return isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO)  # with PYTHONUNBUFFERED it has no `raw`


def _write_to_file(number: int, text: str) -> None:
    """Write unless that would take a while. No lock is taken: the end of the process waits for those of files."""
    if sys.platform == "win32" or _takes_more(number):
        os.write(number, f"{text}\n".encode(errors="backslashreplace")[:_PIPE_BUF])


def _takes_more(number: int) -> bool:
    poll = (original("select", "poll") if is_patched("select") else select.poll)()
    poll.register(number, select.POLLOUT)
    return any(bits & select.POLLOUT for _, bits in poll.poll(0))


def _write_to_object(text: str) -> None:
    with Making(), suppress(Exception):  # it may be anything, such as one of our own handlers, or None
        sys.stderr.write(f"{text}\n")
