"""The snapshot of a replica: its loggers, what is over, rates and restarts."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from collector import events
from collector.events import Failure, LoggerState, Stage, State, lifecycle, readings
from collector.telemetry.logger_status import Loggers
from tests.support.batches import settled
from tests.support.status import UP, Scene, crashed

READING = readings.Sampled(
    "a",
    messages=10,
    bytes=1,
    oldest_age_seconds=1.5,
    pending=6,
    ack_pending=3,
    ack_pending_limit=9,
    redelivered=0,
    waiting_pulls=1,
    at=1.0,
)
BUSY = (
    *UP,
    LoggerState("a", State.RUNNING),
    LoggerState("b", State.BACKING_OFF, "no stream"),
    events.Received("a", 5, 9, 100, 0),
    events.Held("a", 3, 60),
    events.WritesInProgress("a", 2),
    settled(),
    events.Returned("a", 4),
    events.Retried("a", Stage.WRITE, Failure.UNAVAILABLE, 1, 0.1, "no primary"),
    events.Crashed("pipeline", "b", 1, 0.1, ("ValueError('boom')",)),
    events.Failed("", Stage.CONTROL, Failure.UNAVAILABLE, "no bucket", "trying again"),
    lifecycle.LoopLag(0.25),
    lifecycle.BatchAgeChanged(0.3),
    READING,
)
"""A replica with two loggers, one of which works."""
ENTRIES = {"received": 9, "written": 6, "duplicates": 1, "dead_lettered": 2, "dropped": 0}


def test_the_snapshot_says_what_the_replica_knows_of_itself(scene: Scene) -> None:
    scene.observe(*BUSY)
    found: dict[str, Any] = json.loads(scene.get("/status")[1])
    assert (found["namespace"], found["version"], found["ready"], found["not_ready"]) == ("beta", "1.2.3", True, [])
    assert found["connected"] == {"nats": True, "mongodb": True}
    assert found["connections"]["nats"]["why"] == "connected"
    assert found["entries"] == {**ENTRIES, "returned": 4}
    assert found["buffer"] == {"messages": 3, "bytes": 60, "limit_bytes": 1024}
    assert (found["last_error"], found["event_loop_lag_seconds"]) == ("no bucket", 0.25)
    assert found["batch_age_seconds"] == 0.3


def test_the_snapshot_says_of_a_logger_what_this_replica_knows(scene: Scene) -> None:
    scene.observe(*BUSY)
    a = scene.status.snapshot()["loggers"]["a"]
    assert a["last_error_at"] >= a["since"]
    assert {**a, "since": "", "last_error_at": ""} == {
        "state": "running",
        "since": "",
        "why": "",
        "lag_messages": 9,
        "oldest_message_age_seconds": 1.5,
        "home": False,
        "archive": None,
        "in_hand_messages": 3,
        "in_hand_bytes": 60,
        "writes_in_progress": 2,
        **ENTRIES,
        "restarts": 0,
        "last_error": "no primary",
        "last_error_at": "",
        "last_error_past": False,
        "received_per_second": 0.0,
        "written_per_second": 0.0,
        "backoff": None,
    }


def test_the_snapshot_says_why_a_logger_waits(scene: Scene) -> None:
    scene.observe(*BUSY)
    b = scene.status.snapshot()["loggers"]["b"]
    assert b["backoff"] == {"attempt": 1, "restart_in_seconds": 0.1}
    said = b["state"], b["why"], b["restarts"], b["last_error"]
    assert said == ("backing_off", "no stream", 1, "ValueError('boom')")


def test_a_logger_that_is_gone_is_not_in_the_snapshot_and_still_in_the_tally(scene: Scene) -> None:
    scene.observe(LoggerState("a", State.RUNNING), settled(), LoggerState("a", None), settled())
    assert scene.status.snapshot()["loggers"] == {}
    assert scene.status.tally.written == 6


def test_since_is_when_the_state_began(scene: Scene) -> None:
    scene.observe(LoggerState("a", State.RUNNING))
    since = scene.status.snapshot()["loggers"]["a"]["since"]
    scene.observe(LoggerState("a", State.RUNNING, "again"))
    assert scene.status.snapshot()["loggers"]["a"]["since"] == since


def test_a_logger_that_another_replica_owns_stands_by_and_the_replica_is_ready(scene: Scene) -> None:
    scene.observe(
        *UP,
        LoggerState("a", State.STANDBY, "another replica may own it"),
        events.OwnershipChanged("a", events.OwnershipChange.LOST, 7),
        events.Suspected("a", Counter()),
    )
    found = json.loads(scene.get("/status")[1])
    assert (found["loggers"]["a"]["state"], found["loggers"]["a"]["why"]) == ("standby", "another replica may own it")
    assert found["ready"]
    assert found["loggers"]["a"]["last_error_at"] is None
    assert found["loggers"]["a"]["last_error"] == "", "to lose an ownership is no error"


# what is over, and what nobody knows


def lag(logger: str = "a") -> readings.Sampled:
    return readings.Sampled(
        logger,
        messages=10,
        bytes=1,
        oldest_age_seconds=1.5,
        pending=6,
        ack_pending=3,
        ack_pending_limit=9,
        redelivered=0,
        waiting_pulls=1,
        at=1.0,
    )


def test_a_lag_that_was_read_more_than_a_minute_ago_is_not_known(scene: Scene) -> None:
    def of(key: str) -> tuple[int | None, float | None]:
        found = scene.status.snapshot()["loggers"][key]
        return found["lag_messages"], found["oldest_message_age_seconds"]

    scene.observe(LoggerState("a", State.RUNNING), LoggerState("b", State.RUNNING), lag("a"), lag("b"))
    scene.now += 60
    scene.observe(lag("b"))
    assert (of("a"), of("b")) == ((9, 1.5), (9, 1.5))
    scene.now += 0.1
    assert (of("a"), of("b")) == ((None, None), (9, 1.5))
    scene.now += 3600
    assert of("b") == (None, None)
    scene.observe(lag("b"))
    assert of("b") == (9, 1.5)


RETRIED = events.Retried("a", Stage.WRITE, Failure.UNAVAILABLE, 1, 0.1, "no primary")
PULL = events.Failed("a", Stage.PULL, Failure.SILENT, "no heartbeat", "asking again")
CONTROL = events.Failed("", Stage.CONTROL, Failure.UNAVAILABLE, "no bucket", "listing it again")
CRASHED = events.Crashed("registry", None, 1, 0.1, ("boom",))


def part(said: dict[str, Any], error: events.Event) -> dict[str, Any]:
    """Return what is said of whom the error befell."""
    found: dict[str, Any] = said if error in (CONTROL, CRASHED) else said["loggers"]["a"]
    return found


@pytest.mark.parametrize(
    ("trouble", "recovery"),
    [
        ([RETRIED], [settled()]),
        ([RETRIED, LoggerState("a", State.FAILING, "no primary")], [LoggerState("a", State.RUNNING)]),
        ([PULL], [events.Received("a", 1, 1, 1, 0)]),
        ([PULL], [settled()]),
        ([LoggerState("a", State.BACKING_OFF, "no stream"), RETRIED], [LoggerState("a", State.RUNNING)]),
        ([CONTROL], [lifecycle.ConnectionChanged("nats", connected=True)]),
    ],
)
def test_an_error_is_past_with_what_shows_that_it_works_again(
    scene: Scene, trouble: list[events.Event], recovery: list[events.Event]
) -> None:
    scene.observe(*UP, LoggerState("a", State.RUNNING), *trouble)
    at_first = scene.status.snapshot()
    before = part(at_first, trouble[-1])
    assert before["last_error"]
    assert not before["last_error_past"]
    scene.observe(*recovery)
    now = part(scene.status.snapshot(), trouble[-1])
    assert (now["last_error_past"], now["last_error_at"]) == (True, before["last_error_at"])


@pytest.mark.parametrize("error", [RETRIED, PULL, CONTROL, CRASHED], ids=lambda error: type(error).__name__)
def test_an_error_that_has_not_come_again_for_a_minute_is_past_and_one_that_goes_on_is_not(
    scene: Scene, error: events.Event
) -> None:
    scene.observe(*UP, LoggerState("a", State.RUNNING), error)
    for _ in range(5):
        scene.now += 59
        assert not part(scene.status.snapshot(), error)["last_error_past"]
        scene.observe(error)
    scene.now += 61
    assert part(scene.status.snapshot(), error)["last_error_past"]


@pytest.mark.parametrize("state", sorted(set(State) - {State.RUNNING, State.STANDBY}))
def test_an_error_of_a_logger_that_is_still_in_trouble_is_not_past(scene: Scene, state: State) -> None:
    scene.observe(LoggerState("a", State.RUNNING), PULL, LoggerState("a", state, "no stream"))
    scene.now += 3600
    assert not scene.status.snapshot()["loggers"]["a"]["last_error_past"]


def test_an_event_that_it_knows_nothing_of_is_passed_over(scene: Scene) -> None:
    class Unheard:
        """What somebody reports one day."""

    before = scene.status.snapshot()
    scene.status.observe(Unheard())  # type: ignore[arg-type]
    assert scene.status.snapshot() == before


# rates and restarts


def test_rates_are_those_of_the_last_seconds(scene: Scene) -> None:
    def tick(seconds: int, entries: int) -> tuple[float, float]:
        for _ in range(seconds):
            scene.now += 1
            scene.observe(events.Received("a", entries, entries, 0, 0), lifecycle.LoopLag(0.0))
        a = scene.status.snapshot()["loggers"]["a"]
        return a["received_per_second"], a["written_per_second"]

    scene.observe(LoggerState("a", State.RUNNING), lifecycle.LoopLag(0.0))
    assert tick(2, 100) == (100.0, 0.0)
    assert tick(20, 100) == (100.0, 0.0)
    received, _ = tick(2, 1000)
    assert 100.0 < received < 1000.0
    assert tick(10, 1000)[0] == 1000.0
    assert tick(11, 0)[0] == 0.0


def test_a_turn_of_the_loop_looks_only_at_loggers_that_counted_something_or_fail(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 loggers at rest would cost a few percent of a core else."""
    looked: list[str] = []
    counts, parked = Loggers._counts, Loggers._is_parked

    def look(loggers: Loggers, key: str) -> Any:
        looked.append(key)
        return counts(loggers, key)

    def look_at_parked(loggers: Loggers, key: str) -> bool:
        looked.append(key)
        return parked(loggers, key)

    monkeypatch.setattr(Loggers, "_counts", look)
    monkeypatch.setattr(Loggers, "_is_parked", look_at_parked)
    scene.observe(*UP, *(LoggerState(f"logger{number}", State.RUNNING) for number in range(100)))
    scene.observe(lifecycle.LoopLag(0.0), events.Received("logger7", 1, 1, 0, 0), crashed(1, 1.0, "logger8"))
    for _ in range(3):
        scene.observe(lifecycle.LoopLag(0.0))
        assert scene.status.not_ready == []
    assert set(looked) == {"logger7", "logger8"}
    for _ in range(20):
        scene.now += 1
        scene.observe(lifecycle.LoopLag(0.0))
    looked.clear()
    scene.observe(lifecycle.LoopLag(0.0))
    assert looked == [], "logger7 is at rest again"


def test_a_rate_falls_while_the_loop_is_blocked(scene: Scene) -> None:
    scene.observe(LoggerState("a", State.RUNNING), lifecycle.LoopLag(0.0), events.Received("a", 100, 100, 0, 0))
    scene.now += 10
    assert scene.status.snapshot()["loggers"]["a"]["received_per_second"] == 10.0
    scene.now += 90
    assert scene.status.snapshot()["loggers"]["a"]["received_per_second"] == 1.0


def test_the_actors_of_the_root_say_what_they_wait_for(scene: Scene) -> None:
    calm = {"state": "running", "restarts": 0, "backoff": None}
    assert scene.status.snapshot()["actors"] == dict.fromkeys(
        ("owners", "upkeep", "registry", "sampler", "storage", "presence", "pipelines"), calm
    )
    scene.observe(crashed(2, 4.0, logger=None))
    scene.now += 1
    backoff = {"attempt": 2, "restart_in_seconds": 3.0}
    waiting = {"state": "backing_off", "restarts": 1, "backoff": backoff}
    assert scene.status.snapshot()["actors"]["registry"] == waiting
    scene.now += 3
    assert scene.status.snapshot()["actors"]["registry"] == {"state": "running", "restarts": 1, "backoff": None}


def test_a_logger_says_when_it_is_started_again_until_it_works(scene: Scene) -> None:
    def backoff() -> dict[str, Any] | None:
        found: dict[str, Any] | None = scene.status.snapshot()["loggers"]["a"]["backoff"]
        return found

    scene.observe(LoggerState("a", State.RUNNING), crashed(3, 2.0), LoggerState("a", State.BACKING_OFF, "boom"))
    scene.now += 0.5
    assert backoff() == {"attempt": 3, "restart_in_seconds": 1.5}
    scene.now += 5
    assert backoff() == {"attempt": 3, "restart_in_seconds": 0.0}
    scene.observe(LoggerState("a", State.STANDBY))
    assert backoff() is None


@pytest.mark.parametrize("state", [State.BACKING_OFF, State.MISCONFIGURED])
def test_a_reason_to_wait_is_the_last_error_until_the_logger_works(scene: Scene, state: State) -> None:
    def error() -> tuple[str, bool]:
        logger = scene.status.snapshot()["loggers"]["a"]
        return logger["last_error"], logger["last_error_past"]

    scene.observe(LoggerState("a", state, "no stream"))
    assert error() == ("no stream", False)
    scene.now += 3600
    assert error() == ("no stream", False)
    scene.observe(LoggerState("a", State.RUNNING))
    assert error() == ("no stream", True)


def test_a_crash_is_the_state_of_its_logger_too_also_of_one_that_had_none_yet(scene: Scene) -> None:
    crash = crashed(1, 0.1)
    scene.observe(crash)
    a = scene.status.snapshot()["loggers"]["a"]
    assert (a["state"], a["why"], a["last_error"], a["restarts"]) == ("backing_off", *crash.errors, *crash.errors, 1)
    assert a["backoff"] == {"attempt": 1, "restart_in_seconds": 0.1}


def test_the_crashes_of_a_logger_are_counted_once_and_forgotten_with_it(scene: Scene) -> None:
    def restarts() -> int:
        found: int = scene.status.snapshot()["loggers"]["a"]["restarts"]
        return found

    for attempt in range(1, 4):
        scene.observe(LoggerState("a", State.BACKING_OFF, "boom"), crashed(attempt, 0.1))
        scene.observe(LoggerState("a", State.RUNNING))
        assert restarts() == attempt
    assert scene.status.snapshot()["actors"]["pipelines"]["restarts"] == 0
    scene.observe(LoggerState("a", None), LoggerState("a", State.RUNNING))
    assert restarts() == 0
