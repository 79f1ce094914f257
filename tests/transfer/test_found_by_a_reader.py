"""What a stranger found by reading the client: each fault has its test."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

import transfer.background.thread
import transfer.system.native
from transfer import TransferHandler
from transfer.background.sender import Sender
from transfer.options import read_options

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD = logging.makeLogRecord({"name": "shop", "msg": "x %s", "args": (1,), "mapping_error": "bad column", "row": 7})


class Kept:
    """Takes what a handler sends."""

    def __init__(self) -> None:
        self.data: list[Any] = []

    def send(self, _: str, data: object, **__: object) -> None:
        self.data.append(data)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Callable[[TransferHandler], list[Any]]:
    def of(handler: TransferHandler) -> list[Any]:
        taker = Kept()
        monkeypatch.setattr(handler, "_sender", taker)
        return taker.data

    return of


def test_a_field_of_the_users_named_mapping_error_is_a_field_as_others_are(
    kept: Callable[[TransferHandler], list[Any]],
) -> None:
    handler = TransferHandler("app", url="nats://127.0.0.1:1", namespace="beta")
    data = kept(handler)
    handler.handle(RECORD)
    assert (data[0]["msg"], data[0]["row"], data[0]["mapping_error"]) == ("x 1", 7, "bad column")


@pytest.mark.parametrize("returned", [None, [], "text", 7])
def test_a_mapping_of_the_users_that_returns_no_fields_raises_nothing(
    returned: object, kept: Callable[[TransferHandler], list[Any]]
) -> None:
    class Own(TransferHandler):
        def map(self, _: logging.LogRecord) -> dict[str, object]:
            return returned  # type: ignore[return-value]

    handler = Own("app", url="nats://127.0.0.1:1", namespace="beta")
    data = kept(handler)
    handler.handle(RECORD)
    assert "expected the mapping to return a dict" in data[0]["mapping_error"]


def test_without_an_event_loop_few_threads_are_made_and_nothing_is_raised(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process that has no file descriptor left gets none; a log of dying threads would start the next ones."""
    started: list[transfer.background.thread.SendingThread] = []
    start = transfer.background.thread.SendingThread.start

    def counted(thread: transfer.background.thread.SendingThread) -> None:
        started.append(thread)
        start(thread)

    def no_loop() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(transfer.system.native, "new_loop", no_loop)
    monkeypatch.setattr(transfer.background.thread.SendingThread, "start", counted)
    sender = Sender(*read_options("nats://127.0.0.1:1", "beta"))
    monkeypatch.setattr(threading, "excepthook", lambda _: sender.send("app", {"died": True}))
    for number in range(200):
        sender.send("app", {"n": number})
    for one in started:
        one.join(30)
    assert len(started) < 5
    assert sender.stats().queued == 200
    assert "Too many open files" in sender.stats().last_error
    sender.close(0.1)
    assert capfd.readouterr().err.count("Traceback") == 0


def test_what_is_closed_stays_closed_in_a_child_of_a_fork() -> None:
    sender = Sender(*read_options("nats://127.0.0.1:1", "beta"))
    sender.close(0.1)
    sender.begin_anew()
    sender.send("app", {"n": 1})
    assert (sender.stats().queued, sender.stats().dropped) == (0, {"closed": 1})
