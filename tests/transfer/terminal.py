"""A command on a terminal: what it wrote there, escape sequences included."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def on_terminal(command: Sequence[str], environ: Mapping[str, str], timeout: float = 30) -> tuple[int, str]:
    """Run a command with standard output and error on a terminal; return its status and what it wrote."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            written = _read(ours)
            return process.wait(timeout), written
        finally:
            process.kill()
            os.close(ours)


def _read(descriptor: int) -> str:
    written = b""
    while True:
        try:
            chunk = os.read(descriptor, 1 << 16)
        except OSError:  # EIO is how Linux says that nobody has the other end any more
            chunk = b""
        if not chunk:
            return written.decode()
        written += chunk
