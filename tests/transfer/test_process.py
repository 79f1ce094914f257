"""The end of a process with many senders, and what is told to the libraries that end processes in their own way."""

from __future__ import annotations

import _socket
import asyncio
import os
import subprocess
import sys
import time
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from transfer.background import process
from transfer.background.process import close_all, ending
from transfer.background.sender import Sender
from transfer.options import read_options
from transfer.system import native

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)
SENDERS = 40


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """Let the process go on after its end."""
    yield
    ending.begin_anew()


@pytest.mark.parametrize("threads", [True, False], ids=["with threads", "without threads"])
def test_the_end_is_bounded_for_all_senders_together(threads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No NATS is there, so each of them would wait for as long as it may."""
    senders = [Sender(*read_options("nats://127.0.0.1:1", "beta")) for _ in range(SENDERS)]
    if not threads:
        monkeypatch.setattr(Sender, "_start", lambda _: None)
    for sender in senders:
        sender.send("app", {})
    began = time.monotonic()
    close_all()
    took = time.monotonic() - began
    assert took < SENDERS * process.EXIT_TIMEOUT / 4
    assert all(sender.stats().dropped == {"closed": 1} for sender in senders)


@pytest.mark.parametrize("step", ["hurry", "flush", "end_thread", "join_thread", "give_up"])
def test_one_failure_ends_no_other_sender(
    step: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "EXIT_TIMEOUT", 0.1)
    ending.begin_anew()
    senders = [Sender(*read_options("nats://127.0.0.1:1", "beta")) for _ in range(5)]
    for sender in senders:
        sender.send("app", {})

    def fail(*_: object) -> None:
        raise MemoryError("a fault of ours")

    for sender in senders[:2]:
        monkeypatch.setattr(sender, step, fail)
    close_all()
    assert all(sender.stats().queued == 0 for sender in senders[2:])
    assert capfd.readouterr().err.count("at the end of the process: MemoryError: a fault of ours") == 2
    monkeypatch.undo()
    for sender in senders:
        sender.close(0)


def test_a_library_that_ends_processes_is_told_once_in_each_and_again_when_it_forgets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: dict[object, Any] = {}

    class Finalize:
        """Stands for that of `multiprocessing.util`."""

        def __init__(self, _: object, function: object, exitpriority: int) -> None:
            assert (function, exitpriority) == (close_all, 100)
            told[self] = function

        def still_active(self) -> bool:
            return self in told

    monkeypatch.setattr(process, "_finalizers", {})
    monkeypatch.setattr(process, "is_child", lambda: True)
    for package in ("multiprocessing", "billiard"):
        monkeypatch.setitem(sys.modules, f"{package}.util", SimpleNamespace(Finalize=Finalize))
    for _ in range(100):
        process.flush_at_end_of_child()
    assert len(told) == 2
    told.clear()
    process.flush_at_end_of_child()
    assert len(told) == 2


def test_the_loop_of_the_sender_runs_where_the_system_has_no_socketpair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_socket, "socketpair")
    monkeypatch.setattr(native, "is_patched", lambda module: module != "_thread")
    monkeypatch.setattr(native, "original", lambda module, name: getattr(sys.modules[module], name))

    async def main() -> str:
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(woken.set)

        native.start_thread(wake, "test")
        await woken.wait()
        return type(loop).__name__

    with asyncio.Runner(loop_factory=native.new_loop) as runner:
        assert runner.run(main()) == "_NativeLoop"


def test_the_loop_of_the_sender_has_all_that_a_loop_of_asyncio_has() -> None:
    with closing(native._NativeLoop()) as ours, closing(asyncio.SelectorEventLoop()) as theirs:
        assert vars(ours).keys() >= vars(theirs).keys()


TAKEN_APART = """
import logging, os, sys
from transfer import TransferHandler
handler = TransferHandler("app", url="nats://127.0.0.1:1", namespace="beta")
logger = logging.getLogger("shop")
logger.propagate = False
logger.addHandler(handler)
def log():
    logger.warning("late")
class Late:
    def __del__(self, write=os.write, every=Exception):
        try:
            log()
            write(1, str(handler.stats().dropped).encode())
        except every as error:
            write(1, repr(error).encode())
late = Late()
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_is_logged_while_the_interpreter_is_taken_apart_is_counted_and_said(unbuffered: str) -> None:
    environ = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        [sys.executable, "-c", TAKEN_APART], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "{'closed': 1}")
    assert done.stderr.startswith("transfer: entries are dropped, closed: an entry of logger 'app' came after the end")
