"""The state of a logger with two sides is that of the worse one, with the reasons of both."""

from __future__ import annotations

from collector.actors.sides import Sides
from collector.events import Answered, LoggerState, State
from tests.support.fakes import KEY, Reports


def test_the_worse_state_is_the_loggers_with_the_reasons_of_both() -> None:
    reports = Reports()
    sides = Sides(reports)
    archive, mongodb = sides.of("archive"), sides.of("mongodb")
    archive(LoggerState(KEY, State.RUNNING))
    mongodb(LoggerState(KEY, State.FAILING, "no primary"))
    archive(LoggerState(KEY, State.MISCONFIGURED, "no folder"))
    mongodb(LoggerState(KEY, State.RUNNING, "it has one copy"))
    mongodb(LoggerState(KEY, None))
    archive(LoggerState(KEY, State.STANDBY, "another one is the owner"))
    assert reports.all == [
        LoggerState(KEY, State.RUNNING),
        LoggerState(KEY, State.FAILING, "mongodb: no primary"),
        LoggerState(KEY, State.MISCONFIGURED, "archive: no folder; mongodb: no primary"),
        LoggerState(KEY, State.MISCONFIGURED, "archive: no folder; mongodb: it has one copy"),
        LoggerState(KEY, State.MISCONFIGURED, "archive: no folder"),
        LoggerState(KEY, State.STANDBY, "archive: another one is the owner"),
    ]


def test_other_events_are_handed_on() -> None:
    reports = Reports()
    Sides(reports).of("archive")(Answered(KEY, 3))
    assert reports.all == [Answered(KEY, 3)]
