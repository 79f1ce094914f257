"""The log in release mode: every line is JSON of one form, also the lines of Python and of libraries."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import threading
import warnings
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import structlog

from collector.events import LoggerState, State
from collector.model import Reason
from collector.telemetry.log import LINES, EventLog, log_last_line, set_up
from tests.support.batches import settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETTLED = settled(batch=7, entries=3, written=1, dead_letters=Counter({Reason.RULE: 1}))


@contextmanager
def released() -> Iterator[None]:
    """Have the log of release mode, as the service has it, and all as before afterwards."""
    before, level, handlers = structlog.get_config(), logging.getLogger("nats").level, logging.getLogger().handlers[:]
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    logging.getLogger().handlers[:] = []  # pytest's own cannot report a lone surrogate from one process to another
    try:
        set_up(release=True)
        yield
        LINES.finish()
    finally:
        structlog.configure(**before)
        logging.getLogger("nats").setLevel(level)
        logging.getLogger().handlers[:] = handlers
        logging.captureWarnings(capture=False)
        sys.excepthook, sys.unraisablehook, threading.excepthook = hooks


def raise_in_a_thread() -> None:
    thread = threading.Thread(target=fail, name="probe")
    thread.start()
    thread.join()


def raise_where_nobody_listens() -> None:
    class Bad:
        def __del__(self) -> None:
            raise ValueError("SECRET")

    Bad()
    gc.collect()


def fail() -> None:
    raise ValueError("SECRET\nof two lines")


def raise_uncaught() -> None:
    try:
        fail()
    except ValueError as exc:
        sys.excepthook(type(exc), exc, exc.__traceback__)


def fail_in_asyncio() -> None:
    async def never_looked_at() -> None:
        lost = asyncio.get_running_loop().create_future()
        lost.set_exception(ValueError("SECRET"))
        del lost
        gc.collect()

    asyncio.run(never_looked_at())


def log_with_traceback() -> None:
    try:
        fail()
    except ValueError:
        logging.getLogger("pymongo.topology").exception("a library failed\nwith a second line")


OTHERS: list[Callable[[], None]] = [
    raise_in_a_thread,
    raise_where_nobody_listens,
    raise_uncaught,
    fail_in_asyncio,
    log_with_traceback,
    lambda: warnings.warn("a name\nis going away", DeprecationWarning, stacklevel=1),
    lambda: logging.getLogger("asyncio").error("%s of %s", "one", "two"),
    lambda: logging.getLogger("urllib3").warning('with "quotes", \\ and \u2028 and \ud800'),
    lambda: log_last_line("stopped", received=1),
    lambda: log_last_line("wrong settings", error="NAMESPACE: expected\ntwo lines", action="exit status 2"),
]


@pytest.mark.parametrize("say", OTHERS)
def test_whatever_writes_in_release_mode_its_lines_are_json_of_one_form_and_without_values(
    say: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    with released(), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        say()
    written = capfd.readouterr().err
    assert "SECRET" not in written
    (line,) = [json.loads(line) for line in written.splitlines()]
    assert {"event", "level", "timestamp"} <= line.keys()
    assert isinstance(line["event"], str)


def test_in_release_mode_a_line_is_json_without_debug(capsys: pytest.CaptureFixture[str]) -> None:
    with released():
        log = EventLog()
        log.observe(SETTLED)
        log.observe(LoggerState("a", State.RUNNING, "why"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["kept as dead letters", "logger"]
    assert {"logger": "a", "state": "running", "why": "why", "level": "info"}.items() <= lines[1].items()
    assert lines[1]["timestamp"].endswith("Z")
