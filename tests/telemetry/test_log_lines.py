"""Standard error that breaks, fills or hangs: nobody who logs notices, and what is lost is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from collector.telemetry.log_lines import Lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

_SERVICE = """
import sys
import anyio
from anyio import Event
from collector.actors.supervisor import Supervisor
from collector.telemetry.log import LINES, EventLog, set_up
set_up(release=True)
class Child:
    name = "registry"
    def __init__(self):
        self.left = 5
    async def run(self, stopping):
        self.left -= 1
        if self.left:
            raise RuntimeError("a crash that nobody foresaw")
        stopping.set()
anyio.run(Supervisor([Child()], EventLog().observe).run, Event())
LINES.finish(0.2)
print("went on, lost", LINES.take_lost(), flush=True)
"""


def broken() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full() -> int:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    return os.open("/dev/full", os.O_WRONLY)


def hanging() -> int:
    """Return a pipe that is full, and whose reader never reads: it is left open in this process."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(65536))
    os.set_blocking(writer, True)
    READERS.append(reader)
    return writer


def hanging_without_blocking() -> int:
    writer = hanging()
    os.set_blocking(writer, False)
    return writer


READERS: list[int] = []


@pytest.mark.parametrize("make", [broken, full, hanging, hanging_without_blocking])
def test_actors_and_their_supervisor_go_on_whatever_becomes_of_standard_error(make: Callable[[], int]) -> None:
    descriptor = make()
    try:
        ran = subprocess.run(
            [sys.executable, "-c", _SERVICE],
            stdout=subprocess.PIPE,
            stderr=descriptor,
            text=True,
            timeout=60,
            check=True,
        )
    finally:
        os.close(descriptor)
        for reader in READERS:
            os.close(reader)
        READERS.clear()
    assert ran.stdout.startswith("went on, lost ")
    if make in (broken, full):
        assert ran.stdout == "went on, lost 4\n"


def test_a_closed_standard_error_is_survived_too() -> None:
    words = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, _SERVICE]
    ran = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert ran.stdout == "went on, lost 4\n"


def test_lines_come_whole_in_order_and_are_there_when_it_is_finished() -> None:
    file = StringIO()
    lines = Lines(lambda: file)
    for number in range(5000):
        lines.write(f"{number}\n")
    lines.finish()
    assert file.getvalue().split() == [str(number) for number in range(5000)]
    assert lines.take_lost() == 0


def test_what_was_lost_is_told_once_when_a_line_is_written_again() -> None:
    files: list[TextIO | None] = [None, None, None, StringIO(), StringIO()]
    told: list[int] = []
    lines = Lines(lambda: files.pop(0), told.append)
    for number in range(5):
        lines.write(f"{number}\n")
    lines.finish()
    assert told == [3]
    assert (lines.take_lost(), lines.take_lost()) == (3, 0)


def test_nobody_waits_for_a_reader_that_hangs_and_memory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.telemetry.log_lines._MOST", 100)
    writer = hanging()
    file = os.fdopen(writer, "w")
    lines = Lines(lambda: file)
    for number in range(1000):
        lines.write(f"{number}\n")
    began = time.monotonic()
    lines.finish(0.05)
    assert time.monotonic() - began < 30
    assert 1000 - 101 <= lines.take_lost() <= 1000 - 100
    for reader in READERS:  # what waits is written when it reads again: the end of the pipe is a broken one here
        os.close(reader)
    READERS.clear()
    lines.finish()
    file.close()


if hasattr(signal, "SIGPIPE"):  # Python ignores it, so that a broken pipe is an error and not the end

    def test_python_ignores_broken_pipes() -> None:
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
