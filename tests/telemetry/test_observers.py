"""An observer that fails at an event: the others hear the event, everybody hears of the failure, nothing is raised."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, get_args

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from collector import events
from collector.events import lifecycle
from collector.events.lifecycle import Observer
from collector.telemetry.log import EventLog
from collector.telemetry.metrics import Metrics
from collector.telemetry.observers import Observers
from collector.telemetry.status import Status
from collector.telemetry.table import table

if TYPE_CHECKING:
    from collector.events import Report

TICK = lifecycle.LoopLag(0.0)


def fail(event: events.Event) -> None:
    raise ValueError(f"SECRET of {event}")


class Scene:
    """All observers of a replica, the given ones of which fail at events of one kind."""

    def __init__(self, kind: type, *failing: Observer) -> None:
        self.metrics, self.status = Metrics("beta", "1", 0), Status("beta", "1")
        self.heard: dict[Observer, list[events.Event]] = {observer: [] for observer in Observer}
        reports = {
            Observer.METRICS: self.metrics.observe,
            Observer.STATUS: self.status.observe,
            Observer.LOG: EventLog().observe,
        }
        self.report = Observers({one: self._failing(one, reports[one], kind, failing) for one in Observer})

    def _failing(self, observer: Observer, report: Report, kind: type, failing: tuple[Observer, ...]) -> Report:
        def observe(event: events.Event) -> None:
            self.heard[observer].append(event)
            (fail if observer in failing and isinstance(event, kind) else report)(event)

        return observe

    def counted(self) -> dict[str, float]:
        families = text_string_to_metric_families(self.metrics.text(0).decode())
        return {
            sample.labels["observer"]: sample.value
            for family in families
            for sample in family.samples
            if sample.name == "collector_observer_failures_total"
        }


@pytest.mark.parametrize("failing", Observer)
def test_a_failure_is_counted_said_in_status_and_log_and_keeps_no_other_from_hearing(failing: Observer) -> None:
    scene = Scene(lifecycle.LoopLag, failing)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            scene.report(TICK)
    assert [heard.count(TICK) for heard in scene.heard.values()] == [3, 3, 3]
    counts = {observer.value: 3 if observer is failing else 0 for observer in Observer}
    assert scene.counted() == counts
    snapshot = scene.status.snapshot()
    assert snapshot["observer_failures"] == counts
    assert snapshot["last_error"].startswith(f"expected {failing} to take every event, got ValueError at ")
    assert "last error: expected" in table(snapshot, 200)
    (line,) = [line for line in lines if line["event"] == "observer failed"]
    assert line["observer"] == failing.value
    assert line["error"].startswith("ValueError at ")
    assert "SECRET" not in f"{json.dumps(snapshot)} {lines}"


@pytest.mark.parametrize("kind", get_args(events.Event), ids=lambda kind: kind.__name__)
def test_nothing_is_raised_whatever_fails_and_every_kind_of_event_is_passed_on(kind: type) -> None:
    event: events.Event = kind(**dict.fromkeys(kind.__annotations__))
    for failing in Observer:
        scene = Scene(kind, failing)
        scene.report(event)
        assert all(any(one is event for one in heard) for heard in scene.heard.values())


def test_a_failure_of_all_observers_at_everything_raises_nothing() -> None:
    scene = Scene(object, *Observer)
    for _ in range(3):
        scene.report(TICK)
    assert set(scene.counted().values()) == {0}


def test_a_failure_is_said_once_a_minute_and_the_counts_are_there_before_the_first_one() -> None:
    scene = Scene(events.Returned, Observer.STATUS)
    assert scene.counted() == {observer.value: 0 for observer in Observer}
    with structlog.testing.capture_logs() as lines:
        for _ in range(1000):
            scene.report(events.Returned("a", 1))
    assert sum(line["event"] == "observer failed" for line in lines) == 1
    assert scene.counted()["status"] == 1000
