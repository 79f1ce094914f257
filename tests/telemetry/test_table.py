"""The table of `collector status`, from what `/status` says."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from collector import events
from collector.events import Failure, HomeChanged, LoggerState, Stage, State, lifecycle
from collector.events.readings import Declared
from collector.model import Reason
from collector.telemetry.status import Status
from collector.telemetry.table import duration, size, table
from tests.support.batches import settled


def said(*several: events.Event) -> dict[str, Any]:
    now = 1000.0
    status = Status("beta", "1.2.3", clock=lambda: now, buffer_limit=64 << 20)
    for event in several:
        status.observe(event)
    return status.snapshot()


BUSY = (
    lifecycle.ConnectionChanged("nats", connected=True),
    Declared(),
    LoggerState("system", State.RUNNING),
    LoggerState("a-very-long-name", State.RUNNING),
    events.Crashed("pipeline", "a-very-long-name", 3, 4.2, ("ValueError at codec.py:7",)),
    LoggerState("a-very-long-name", State.BACKING_OFF, "ValueError at codec.py:7"),
    events.Received("system", 1234, 1234, 9, 0),
    events.Held("system", 10, 3 << 20),
    settled("system", written=1200, duplicates=4, dead_letters=Counter({Reason.RULE: 3})),
)


def test_it_says_how_many_replicas_live_and_what_is_at_home_here() -> None:
    lines = table(said(*BUSY, lifecycle.ReplicasChanged(("a", "b")), HomeChanged("system", here=True)), 200)
    assert lines.splitlines()[2] == "replicas: 2 live; 1 of 2 loggers are at home here"


def test_it_says_how_the_replica_is_and_has_a_line_for_each_logger() -> None:
    lines = table(said(*BUSY), 200).splitlines()
    assert lines[0].startswith("beta: not ready: not connected to mongodb (nats connected, mongodb away)")
    assert lines[1] == "entries: 1,234 received, 1,200 written, 4 there already, 3 dead-lettered"
    assert lines[2] == "replicas: unknown, so no logger is at home here"
    assert lines[3].startswith("buffer: 3.0 MiB of 64.0 MiB; actors: owners running")
    headings, long, system = lines[-3:]
    assert headings.split() == ["LOGGER", "STATE", "LAG", "OLDEST", "RECEIVED/S", "WRITTEN/S", "DEAD", "HELD", "NOTE"]
    assert long.startswith("a-very-long-name  backing_off (try 3 in 4 s)")
    assert long.endswith("ValueError at codec.py:7")
    assert system.split()[:4] == ["system", "running", "?", "?"]


def test_an_error_is_told_from_one_that_is_past() -> None:
    error = events.Retried("a", Stage.WRITE, Failure.UNAVAILABLE, 1, 0.1, "no primary")
    *_, a = table(said(LoggerState("a", State.RUNNING), error), 200).splitlines()
    assert a.endswith("error: no primary")
    *_, a = table(said(LoggerState("a", State.RUNNING), error, settled()), 200).splitlines()
    assert re.search(r"  error of \S+Z, past: no primary$", a)


def test_no_line_is_longer_than_the_terminal_and_none_moves_its_cursor() -> None:
    errors = "\x1b[2J\nrm" * 50
    lines = table(said(LoggerState("a", State.BACKING_OFF, errors)), 80).splitlines()
    assert max(map(len, lines)) == 80
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0s"), (59.94, "59.9s"), (61, "1m01s"), (3599, "59m59s"), (7320, "2h02m")]
)
def test_seconds_are_written_as_people_read_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (2048, "2.0 KiB"), (3 << 20, "3.0 MiB"), (5 << 30, "5.0 GiB")])
def test_bytes_are_written_as_people_read_them(count: int, text: str) -> None:
    assert size(count) == text
