"""The log: a line for what changed, the same trouble once in a while, nothing for an entry."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from collector import events
from collector.events import Failure, LoggerState, Stage, State, Suspicion, lifecycle
from collector.model import Reason
from collector.telemetry.log import EventLog
from collector.telemetry.suppression import Repeats
from tests.support.batches import settled

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED = events.Failed("a", Stage.PULL, Failure.SILENT, "no heartbeat", "asking again")
SETTLED = settled(batch=7, entries=3, written=1, dead_letters=Counter({Reason.RULE: 1}))


class Scene:
    """A log with a clock that the test moves, and what was written."""

    def __init__(self, written: list[Any]) -> None:
        self.now, self.written = 5.0, written
        self.log = EventLog(lambda: self.now)

    def lines(self, *several: events.Event) -> list[Any]:
        self.written.clear()
        for event in several:
            self.log.observe(event)
        return list(self.written)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with structlog.testing.capture_logs() as written:
        yield Scene(written)


TICK = lifecycle.LoopLag(0.0)
WARNINGS = [
    FAILED,
    events.Retried("a", Stage.WRITE, Failure.UNAVAILABLE, 1, 0.1, "no primary"),
    events.Crashed("pipeline", "a", 1, 0.1, ("boom",)),
    events.GivenUp("registry", "registry crashed 10 times"),
    lifecycle.ConnectionChanged("nats", connected=False, why="lost"),
    events.Mended("a", 3, "the durable gave up after 5 deliveries"),
    LoggerState("a", State.BACKING_OFF, "no stream"),
    LoggerState("a", State.MISCONFIGURED, "a paused durable"),
    LoggerState("a", State.FAILING, "no primary"),
]


def test_the_same_trouble_is_said_once_in_a_minute_and_then_how_often(scene: Scene) -> None:
    assert [line["event"] for line in scene.lines(*[FAILED] * 5)] == ["failed"]
    scene.now += 59.9
    assert scene.lines(FAILED, TICK) == []
    scene.now += 0.2
    (line,) = scene.lines(TICK)
    assert (line["event"], line["again"], line["repeated"]) == ("repeated", "5 more like it in 60 s", 5)
    facts = {"what": "failed", "logger": "a", "error": "no heartbeat", "action": "asking again"}
    assert facts.items() <= line.items()


def test_what_is_said_afterwards_has_the_time_when_it_last_happened(scene: Scene) -> None:
    """A line of trouble that bears the present time, when all is well again, is not true."""
    scene.lines(FAILED)
    scene.now += 10
    happened = time.time()
    scene.lines(FAILED)
    scene.now += 51
    (line,) = scene.lines(TICK)
    assert abs(datetime.fromisoformat(line["last_at"]).timestamp() - (happened - 51)) < 30


def test_trouble_that_goes_on_is_said_once_a_minute_and_none_of_it_is_lost(scene: Scene) -> None:
    lines = []
    for _ in range(300):
        lines += scene.lines(FAILED, TICK)
        scene.now += 1
    assert [line.get("repeated", 0) for line in lines] == [0, 59, 60, 60, 60]
    assert [line["repeated"] for line in scene.lines(lifecycle.Stopping("SIGTERM"))[:-1]] == [60]


def test_trouble_that_has_stopped_is_said_at_once_when_it_comes_again(scene: Scene) -> None:
    assert len(scene.lines(FAILED)) == 1
    scene.now += 61
    assert scene.lines(TICK) == []
    (line,) = scene.lines(FAILED)
    assert "repeated" not in line


def test_what_was_kept_quiet_is_said_before_the_end(scene: Scene) -> None:
    scene.lines(FAILED, FAILED, FAILED)
    kept, stopping = scene.lines(lifecycle.Stopping("SIGTERM"))
    assert (kept["repeated"], stopping["event"]) == (2, "stopping")


@pytest.mark.parametrize("event", WARNINGS, ids=lambda event: type(event).__name__)
def test_every_warning_says_whose_it_is_what_happened_and_what_is_done(scene: Scene, event: events.Event) -> None:
    (line,) = scene.lines(event)
    assert line.keys() & {"logger", "actor", "server"}
    assert line.keys() & {"error", "errors", "why", "what"}
    assert line["action"]


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 2))))
def test_all_that_is_kept_quiet_is_counted(happened: list[tuple[float, int]]) -> None:
    repeats, now, said = Repeats[str](60.0), 0.0, 0
    for waited, key in happened:
        now += waited
        said += sum(repeated.more for repeated in repeats.ended(now))
        said += repeats.is_first(key, "what", now)
    assert said + sum(repeated.more for repeated in repeats.all()) == len(happened)
    assert repeats.all() == []


def test_other_trouble_is_said_at_once(scene: Scene) -> None:
    other = events.Failed("b", Stage.PULL, Failure.SILENT, "no heartbeat", "asking again")
    assert [line["logger"] for line in scene.lines(FAILED, other, FAILED)] == ["a", "b"]


def test_errors_that_differ_in_numbers_only_are_alike(scene: Scene) -> None:
    errors = ("no answer in 5 s", "no answer in 17 s", "no leader")
    tries = [events.Retried("a", Stage.WRITE, Failure.UNAVAILABLE, 1, 0.1, error) for error in errors]
    assert [line["error"] for line in scene.lines(*tries)] == ["no answer in 5 s", "no leader"]


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (LoggerState("a", State.RUNNING), "info"),
        (LoggerState("a", None), "info"),
        (FAILED, "warning"),
        (events.Retried("a", Stage.WRITE, Failure.UNAVAILABLE, 1, 0.1, "no primary"), "warning"),
        (events.Crashed("registry", None, 1, 0.1, ("boom",)), "error"),
        (lifecycle.ConnectionChanged("nats", connected=True), "info"),
        (lifecycle.ConnectionChanged("nats", connected=False, why="lost"), "warning"),
        (events.Returned("a", 1), "info"),
        (events.OwnershipChanged("a", events.OwnershipChange.LOST, 7), "info"),
        (lifecycle.Listening("127.0.0.1", 8080), "info"),
        (lifecycle.Ready(ready=True), "info"),
        (lifecycle.Stopping("SIGTERM"), "info"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_changes_are_said_at_info_and_trouble_above(scene: Scene, event: events.Event, level: str) -> None:
    assert [line["log_level"] for line in scene.lines(event)] == [level]


def test_a_batch_is_said_at_debug_and_its_dead_letters_at_warning(scene: Scene) -> None:
    batch, dead = scene.lines(SETTLED)
    assert (batch["log_level"], batch["batch"], batch["entries"], batch["written"]) == ("debug", 7, 3, 1)
    assert (dead["log_level"], dead["rule"]) == ("warning", 1)
    assert dead["action"] == "see collector dead-letters list a"


def test_a_change_of_ownership_says_whose_and_since_when(scene: Scene) -> None:
    (line,) = scene.lines(events.OwnershipChanged("a", events.OwnershipChange.TAKEN, 7))
    assert (line["event"], line["logger"], line["change"], line["epoch"]) == ("ownership", "a", "taken", 7)


def test_what_is_only_a_number_is_not_said(scene: Scene) -> None:
    suspected = events.Suspected("a", Counter({Suspicion.REPUBLISHED: 1}))
    numbers = (events.Received("a", 1, 1, 1, 0), events.Held("a", 1, 1), lifecycle.LoopLag(0.1), suspected)
    assert scene.lines(*numbers) == []


def test_the_same_of_many_loggers_is_a_few_lines(scene: Scene) -> None:
    """An outage with 1,000 loggers is not 1,000 lines a minute."""

    def outage() -> list[events.Event]:
        said = {
            key: f"its user may not insert on beta.{key}_logs" for key in (f"web{number}" for number in range(1000))
        }
        failure = Stage.WRITE, Failure.UNAVAILABLE, 1, 0.1
        tries = [events.Retried(key, *failure, error) for key, error in said.items()]
        failing = [LoggerState(key, State.FAILING, error) for key, error in said.items()]
        return [*tries, *failing]

    first = scene.lines(*outage(), TICK)
    assert [line["event"] for line in first] == ["failed"] * 3 + ["logger"] * 10
    scene.now += 3
    (states,) = scene.lines(TICK)
    assert (states["what"], states["state"], states["loggers"], len(states["among_them"])) == (
        "logger",
        "failing",
        990,
        10,
    )
    scene.now += 58
    (again,) = scene.lines(TICK)
    assert (again["what"], again["loggers"], again["repeated"]) == ("failed", 997, 997)
    for _ in range(300):
        scene.now += 1
        lines = scene.lines(*outage()[:1000], TICK)
        assert len(lines) <= 1


@pytest.mark.parametrize("state", [State.BACKING_OFF, State.MISCONFIGURED, State.FAILING, State.RUNNING])
def test_a_state_that_goes_on_is_a_line_again_only_for_another_reason_or_after_another_state(
    scene: Scene, state: State
) -> None:
    def told(*changes: LoggerState) -> list[str]:
        scene.now += 60
        scene.lines(TICK)
        return [line.get("why", line["state"]) for line in scene.lines(*changes)]

    wait, other = LoggerState("a", state, "no stream since 5 s"), LoggerState("a", state, "no durable")
    assert told(wait) == ["no stream since 5 s"]
    assert told(LoggerState("a", state, "no stream since 17 s")) == []
    assert told(other) == ["no durable"]
    assert told(wait) == ["no stream since 5 s"]
    assert told(LoggerState("a", State.DRAINING)) == ["draining"]
    assert told(wait) == ["no stream since 5 s"]
    assert told(LoggerState("a", None)) == ["gone"]
    assert told(wait) == ["no stream since 5 s"]


def test_a_crash_is_one_line_and_the_wait_before_it_is_a_line_again_after_it(scene: Scene) -> None:
    wait = LoggerState("a", State.BACKING_OFF, "no stream")
    crash = events.Crashed("pipeline", "a", 1, 0.1, ("boom",), State.BACKING_OFF)
    assert [line["event"] for line in scene.lines(wait, crash)] == ["logger", "crashed"]
    scene.now += 60
    scene.lines(TICK)
    (line,) = scene.lines(wait)
    assert (line["event"], line["state"]) == ("logger", "backing_off")


def test_a_restart_of_many_loggers_is_said_in_few_lines_too(scene: Scene) -> None:
    lines = scene.lines(*(LoggerState(f"l{number}", State.RUNNING) for number in range(500)), TICK)
    scene.now += 3
    lines += scene.lines(TICK)
    assert [line["event"] for line in lines] == [*["logger"] * 10, "repeated"]
    assert (lines[-1]["loggers"], lines[-1]["log_level"]) == (490, "info")
