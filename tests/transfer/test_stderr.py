"""Standard error that takes nothing, or is anything but a file: it holds up neither the application nor the sending."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from transfer import TransferHandler
from transfer.system import aside, stderr
from transfer.system.aside import Aside

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(120)
ADDRESS = {"url": "nats://127.0.0.1:1", "namespace": "beta"}
FULL = """
import fcntl, os, threading, time
from transfer.options import read_options
from transfer.background.sender import Sender
flags = fcntl.fcntl(2, fcntl.F_GETFL)
fcntl.fcntl(2, fcntl.F_SETFL, flags | os.O_NONBLOCK)
try:
    while True: os.write(2, bytes(65536))
except BlockingIOError: pass
fcntl.fcntl(2, fcntl.F_SETFL, flags)
sender = Sender(*read_options("nats://127.0.0.1:1", "beta", max_entries=10))
sender.send("no key!", {})
for _ in range(100): sender.send("a", {})
sender.close(0.1)
os.write(1, b"closed\\n")
"""


class Redirected:
    """Stands for standard error, as Celery's `LoggingProxy` does."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write


@pytest.mark.skipif(sys.platform == "win32", reason="there is no way to fill a pipe without waiting")
@pytest.mark.parametrize("threads", [True, False], ids=["", "without a thread for it"])
def test_a_full_pipe_holds_up_neither_send_nor_the_end(threads: bool) -> None:
    no_threads = "import transfer.system.aside as a\ndef none(*_): raise RuntimeError\na.start_thread = none\n"
    program = FULL if threads else no_threads + FULL
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read() == b"closed\n"
            assert process.wait(60) == 0
        finally:
            process.kill()


def _blocks(_: str) -> None:
    threading.Event().wait()


def _raises(_: str) -> None:
    raise ValueError("I/O operation on closed file")


def _logs(text: str) -> None:
    logging.getLogger("redirected").error("%s", text)


@pytest.mark.parametrize("write", [_blocks, _raises, _logs, None], ids=["blocks", "raises", "logs", "none"])
def test_whatever_stands_for_standard_error_nobody_waits_for_it_and_nothing_is_said_of_saying(
    write: Callable[[str], object] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stderr, "_aside", Aside("test stderr"))
    monkeypatch.setattr(sys, "stderr", Redirected(write) if write else None)
    handler = TransferHandler("app", max_entries=5, **ADDRESS)  # type: ignore[arg-type]
    logger = logging.getLogger("redirected")
    logger.addHandler(handler)
    try:
        began = time.monotonic()
        for _ in range(2000):
            logger.error("entry")
        took = time.monotonic() - began
        handler._sender.close(0)
    finally:
        logger.removeHandler(handler)
    stats = handler.stats()
    assert stats.dropped["overflow"] + stats.dropped["closed"] == 2000
    assert took < 30, "a wait for each entry"


def test_a_thread_that_sends_goes_on_while_standard_error_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    written, goes_on = list[str](), threading.Event()

    def write(text: str) -> None:
        goes_on.wait(60)
        written.append(text)

    monkeypatch.setattr(stderr, "_aside", Aside("test stderr"))
    monkeypatch.setattr(sys, "stderr", Redirected(write))
    for number in range(300):  # the first one waits for a moment, the others do not wait behind it
        stderr.say(str(number))
    stderr.settle()
    assert written == []
    goes_on.set()
    while len(written) < aside._MOST:
        time.sleep(0.001)
    assert written[:3] == ["0\n", "1\n", "2\n"]


def test_lines_are_written_in_order_and_before_whoever_says_them_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(50):
        stderr.say(f"line {number}")
        assert capfd.readouterr().err == f"line {number}\n"


def test_without_a_thread_lines_go_to_the_file_that_was_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(aside, "start_thread", none)
    monkeypatch.setattr(sys, "stderr", Redirected(_blocks))
    reading, writing = os.pipe()
    with open(reading, "rb") as read, open(writing, "w") as there:  # noqa: PTH123 - descriptors
        monkeypatch.setattr(sys, "__stderr__", there)
        stderr.say("the end")
        assert os.read(read.fileno(), 100) == b"the end\n"
        for broken in (None, io.StringIO()):
            monkeypatch.setattr(sys, "__stderr__", broken)
            stderr.say("nowhere")


def test_jobs_of_a_parent_are_none_of_its_child_s() -> None:
    done: list[Any] = []
    one = Aside("test")
    hanging = threading.Event()
    one.do(lambda: done.append(hanging.wait(60)))
    one.begin_anew()
    assert one.do(lambda: done.append("mine"), 20)
    assert done == ["mine"]
    hanging.set()
