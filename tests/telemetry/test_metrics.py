"""The metrics that there are, and what each event does to them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collector import events
from collector.events import (
    POSSIBLE_FAILURES,
    Failure,
    LoggerState,
    OwnershipChange,
    Stage,
    State,
    Suspicion,
    lifecycle,
    readings,
)
from collector.model import Reason, Trigger
from tests.support.metrics import NOW, Scene, sampled, settled

# The names of docs/metrics.md: the queries of users rely on them.
NAMES = {
    "lag_messages",
    "backlog_messages",
    "lag_oldest_message_age_seconds",
    "consumer_pending_messages",
    "consumer_ack_pending_messages",
    "consumer_ack_pending_limit_messages",
    "consumer_redelivered_messages",
    "consumer_waiting_pulls",
    "stream_bytes",
    "stream_stuck_messages",
    "lag_refresh_timestamp_seconds",
    "received_messages_total",
    "received_entries_total",
    "received_bytes_total",
    "redelivered_messages_total",
    "written_entries_total",
    "duplicate_entries_total",
    "acknowledged_messages_total",
    "dead_lettered_entries_total",
    "dropped_entries_total",
    "failures_total",
    "retries_total",
    "batches_total",
    "batch_entries",
    "batch_bytes",
    "write_duration_seconds",
    "delivery_latency_seconds",
    "buffer_messages",
    "buffer_bytes",
    "buffer_limit_bytes",
    "writes_in_progress",
    "loggers",
    "ownership_changes_total",
    "suspect_entries_total",
    "actor_restarts_total",
    "event_loop_lag_seconds",
    "batch_age_seconds",
    "nats_connected",
    "mongodb_connected",
    "ready",
    "homes",
    "replicas",
    "nats_reconnects_total",
    "build_info",
    "log_lost_lines_total",
    "observer_failures_total",
    "jetstream_storage_bytes",
    "jetstream_storage_limit_bytes",
    "stream_filled_ratio",
    "undeclared_stream_messages",
    "returned_messages_total",
    "brought_back_messages_total",
    "bucket_missing",
    "unreadable_declarations",
}
OF_A_LOGGER_FROM_THE_START = [
    *("received_messages_total", "received_entries_total", "received_bytes_total", "redelivered_messages_total"),
    *("written_entries_total", "duplicate_entries_total", "acknowledged_messages_total", "returned_messages_total"),
    *("buffer_messages", "buffer_bytes", "writes_in_progress"),
    *("batch_entries_count", "batch_bytes_count", "write_duration_seconds_count", "delivery_latency_seconds_count"),
]


def test_every_metric_of_the_list_is_there_under_its_name() -> None:
    scene = Scene("a")
    scene.metrics.observe(sampled())
    text = scene.metrics.text(NOW).decode()
    declared = set(re.findall(r"^# TYPE collector_(?!archive_)(\S+)", text, re.MULTILINE))
    assert declared == NAMES


def test_the_text_is_as_clean_as_promtool_wants_it() -> None:
    scene = Scene("a")
    for family in text_string_to_metric_families(scene.metrics.text(NOW).decode()):
        assert family.documentation
        assert family.name.startswith("collector_")
        assert not family.name.endswith(("_created", "_total_total"))
        for sample in family.samples:
            assert not sample.name.endswith("_created")
            assert family.type != "counter" or sample.name.endswith("_total")
            assert family.type == "counter" or not sample.name.endswith("_total")
            assert sample.labels["log_namespace"] == "beta"
            assert not {"namespace", "job", "instance", "pod", "service"} & set(sample.labels)


def test_300_junk_keys_of_the_bucket_have_no_series_and_one_number() -> None:
    scene = Scene("a")
    before = len(scene.metrics.text(NOW).splitlines())
    for number in range(300):
        scene.metrics.observe(LoggerState(f"junk{number}", State.PARKED, "no logger spec"))
    scene.metrics.observe(readings.Declared(unreadable=300))
    text = scene.metrics.text(NOW).decode()
    assert len(text.splitlines()) == before
    assert "junk" not in text
    assert scene.value("loggers", state="parked") == 300
    assert scene.value("unreadable_declarations") == 300
    scene.metrics.observe(LoggerState("junk1", State.RUNNING))
    assert scene.value("received_messages_total", logger="junk1") == 0
    scene.metrics.observe(LoggerState("junk1", State.PARKED, "no logger spec"))
    assert scene.value("received_messages_total", logger="junk1") == 0, "what it did before is not forgotten"
    scene.metrics.observe(LoggerState("junk1", None))
    assert "junk" not in scene.metrics.text(NOW).decode()


def test_every_child_of_a_logger_is_0_from_its_start() -> None:
    scene = Scene("a")
    for name in OF_A_LOGGER_FROM_THE_START:
        assert scene.value(name, logger="a") == 0, name
    for reason in Reason:
        assert scene.value("dead_lettered_entries_total", logger="a", reason=reason) == 0
    for trigger in Trigger:
        assert scene.value("batches_total", logger="a", trigger=trigger) == 0
    for stage, failure in POSSIBLE_FAILURES:
        assert scene.value("failures_total", logger="a", stage=stage, reason=failure) == 0
    for stage in (Stage.WRITE, Stage.DEAD_LETTER):
        assert scene.value("retries_total", logger="a", stage=stage) == 0
    for change in OwnershipChange:
        assert scene.value("ownership_changes_total", logger="a", reason=change) == 0
    for suspicion in Suspicion:
        assert scene.value("suspect_entries_total", logger="a", reason=suspicion) == 0
    assert scene.value("actor_restarts_total", logger="a", actor="pipeline", reason="crashed") == 0


def test_what_belongs_to_no_logger_is_0_from_the_start_too() -> None:
    scene = Scene()
    for reason in ("unavailable", "refused"):
        assert scene.value("failures_total", logger="", stage="control", reason=reason) == 0
    for actor in ("owners", "upkeep", "registry", "sampler", "storage", "presence", "pipelines"):
        assert scene.value("actor_restarts_total", logger="", actor=actor, reason="crashed") == 0
    for state in State:
        assert scene.value("loggers", state=state) == 0
    assert scene.value("build_info", version="1.2.3") == 1
    assert scene.value("buffer_limit_bytes") == 64 * 1024 * 1024
    for name in ("nats_connected", "mongodb_connected", "ready", "nats_reconnects_total", "event_loop_lag_seconds"):
        assert scene.value(name) == 0
    assert scene.value("homes") == scene.value("replicas") == 0


def test_a_logger_that_is_gone_is_at_home_nowhere() -> None:
    scene = Scene()
    for logger in "ab":
        scene.metrics.observe(LoggerState(logger, State.RUNNING))
        scene.metrics.observe(events.HomeChanged(logger, here=True))
    scene.metrics.observe(LoggerState("a", None))
    assert scene.value("homes") == 1


def test_a_logger_that_is_gone_takes_all_its_children_along_and_only_those() -> None:
    scene = Scene("a", "b")
    for logger in ("a", "b"):
        scene.metrics.observe(settled(logger=logger))
        scene.metrics.observe(sampled(logger))
        scene.metrics.observe(events.Crashed("pipeline", logger, 1, 0.1, ("boom",)))
    scene.metrics.observe(LoggerState("a", None))
    left = {dict(labels).get("logger") for _, labels in scene.samples()} - {None, ""}
    assert left == {"b"}
    assert scene.value("backlog_messages") == 90
    assert scene.value("loggers", state="running") == 1


def test_loggers_are_counted_by_state() -> None:
    scene = Scene("a", "b")
    scene.metrics.observe(LoggerState("a", State.BACKING_OFF))
    scene.metrics.observe(LoggerState("a", State.BACKING_OFF))
    assert scene.value("loggers", state="running") == 1
    assert scene.value("loggers", state="backing_off") == 1


def test_a_crash_moves_its_logger_and_counts_for_one_that_had_no_state_yet() -> None:
    scene = Scene()
    scene.metrics.observe(events.Crashed("pipeline", "a", 1, 0.1, ("boom",), State.BACKING_OFF))
    assert scene.value("loggers", state="backing_off") == 1
    assert scene.value("actor_restarts_total", logger="a", actor="pipeline", reason="crashed") == 1


def test_the_counts_of_states_are_right_whatever_loggers_went_through() -> None:
    scene = Scene("a", "b", "c")
    for logger, state in [("a", State.DRAINING), ("b", None), ("a", None), ("b", State.PARKED), ("d", None)]:
        scene.metrics.observe(LoggerState(logger, state))
    counts = {state: scene.value("loggers", state=state) for state in State}
    assert {state: count for state, count in counts.items() if count} == {State.RUNNING: 1, State.PARKED: 1}


def test_without_histograms_of_loggers_those_of_the_service_count_all_batches() -> None:
    scene = Scene("a", "b", logger_histograms=False)
    names = ("batch_entries", "batch_bytes", "write_duration_seconds", "delivery_latency_seconds")
    assert {scene.value(f"{name}_count") for name in names} == {0}
    for logger in ("a", "b"):
        scene.metrics.observe(settled(logger=logger))
    assert {scene.value(f"{name}_count") for name in names} == {2}
    assert scene.value("batch_entries_sum") == 60
    assert {scene.value(f"{name}_count", logger="a") for name in names} == {None}
    scene.metrics.observe(LoggerState("a", None))
    assert scene.value("batch_entries_count") == 2
    assert scene.value("written_entries_total", logger="b") == 20, "counters are of loggers all the same"


def test_a_settled_batch_is_counted_by_what_became_of_its_entries() -> None:
    scene = Scene("a")
    scene.metrics.observe(settled(unanswered=1, owed=3))
    assert scene.value("acknowledged_messages_total", logger="a") == 6
    scene.metrics.observe(events.Answered("a", 1))
    expected = {
        "written_entries_total": 20,
        "duplicate_entries_total": 7,
        "acknowledged_messages_total": 7,
        "batch_entries_sum": 30,
        "batch_bytes_sum": 4096,
        "write_duration_seconds_sum": 0.25,
        "delivery_latency_seconds_sum": 1.5,
        "delivery_latency_seconds_count": 1,
    }
    assert {name: scene.value(name, logger="a") for name in expected} == expected
    assert scene.value("dead_lettered_entries_total", logger="a", reason="rule") == 2
    assert scene.value("dead_lettered_entries_total", logger="a", reason="malformed") == 1
    assert scene.value("batches_total", logger="a", trigger="bytes") == 1
    assert scene.value("failures_total", logger="a", stage="settle", reason="unavailable") == 1


@pytest.mark.parametrize(
    ("event", "name", "labels", "value"),
    [
        (events.Received("a", 3, 40, 500, 1), "received_messages_total", {"logger": "a"}, 3),
        (events.Received("a", 3, 40, 500, 1), "received_entries_total", {"logger": "a"}, 40),
        (events.Received("a", 3, 40, 500, 1), "received_bytes_total", {"logger": "a"}, 500),
        (events.Received("a", 3, 40, 500, 1), "redelivered_messages_total", {"logger": "a"}, 1),
        (events.Held("a", 5, 600), "buffer_messages", {"logger": "a"}, 5),
        (events.Held("a", 5, 600), "buffer_bytes", {"logger": "a"}, 600),
        (events.Unsettled("a", 3, 2, Counter()), "written_entries_total", {"logger": "a"}, 3),
        (events.Unsettled("a", 3, 2, Counter()), "duplicate_entries_total", {"logger": "a"}, 2),
        (events.WritesInProgress("a", 2), "writes_in_progress", {"logger": "a"}, 2),
        (events.Returned("a", 9), "returned_messages_total", {"logger": "a"}, 9),
        (events.Mended("a", 3, "why"), "brought_back_messages_total", {"logger": "a"}, 3),
        (
            events.OwnershipChanged("a", OwnershipChange.TAKEN, 7),
            "ownership_changes_total",
            {"logger": "a", "reason": "taken"},
            1,
        ),
        (
            events.OwnershipChanged("a", OwnershipChange.GIVEN_BACK, 7),
            "ownership_changes_total",
            {"logger": "a", "reason": "given_back"},
            1,
        ),
        (
            events.OwnershipChanged("a", OwnershipChange.LOST, 7),
            "ownership_changes_total",
            {"logger": "a", "reason": "lost"},
            1,
        ),
        (
            events.Suspected("a", Counter({Suspicion.BELOW_HORIZON: 3, Suspicion.REPUBLISHED: 2})),
            "suspect_entries_total",
            {"logger": "a", "reason": "below_horizon"},
            3,
        ),
        (
            events.Suspected("a", Counter({Suspicion.REPUBLISHED: 2})),
            "suspect_entries_total",
            {"logger": "a", "reason": "republished"},
            2,
        ),
        (LoggerState("a", State.STANDBY), "loggers", {"state": "standby"}, 1),
        (
            events.Failed("a", Stage.PULL, Failure.SILENT, "e", "a"),
            "failures_total",
            {"logger": "a", "stage": "pull", "reason": "silent"},
            1,
        ),
        (
            events.Retried("a", Stage.WRITE, Failure.AMBIGUOUS, 1, 0.1, "e"),
            "failures_total",
            {"logger": "a", "stage": "write", "reason": "ambiguous"},
            1,
        ),
        (
            events.Retried("a", Stage.WRITE, Failure.AMBIGUOUS, 1, 0.1, "e"),
            "retries_total",
            {"logger": "a", "stage": "write"},
            1,
        ),
        (
            events.Crashed("pipeline", "a", 1, 0.1, ("e",)),
            "actor_restarts_total",
            {"logger": "a", "actor": "pipeline", "reason": "crashed"},
            1,
        ),
        (
            events.Crashed("registry", None, 1, 0.1, ("e",)),
            "actor_restarts_total",
            {"logger": "", "actor": "registry", "reason": "crashed"},
            1,
        ),
        (lifecycle.ConnectionChanged("nats", connected=True), "nats_connected", {}, 1),
        (lifecycle.ConnectionChanged("nats", connected=True, again=True), "nats_reconnects_total", {}, 1),
        (lifecycle.ConnectionChanged("mongodb", connected=True, again=True), "mongodb_connected", {}, 1),
        (lifecycle.ConnectionChanged("mongodb", connected=True, again=True), "nats_reconnects_total", {}, 0),
        (lifecycle.Ready(ready=True), "ready", {}, 1),
        (lifecycle.ReplicasChanged(("a", "b")), "replicas", {}, 2),
        (lifecycle.ReplicasChanged(()), "replicas", {}, 0),
        (events.HomeChanged("a", here=True), "homes", {}, 1),
        (events.HomeChanged("a", here=False), "homes", {}, 0),
        (lifecycle.LoopLag(0.5), "event_loop_lag_seconds", {}, 0.5),
        (lifecycle.BatchAgeChanged(0.5), "batch_age_seconds", {}, 0.5),
        (lifecycle.Listening("127.0.0.1", 1), "ready", {}, 0),
        (lifecycle.Stopping("SIGTERM"), "ready", {}, 0),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, (str, dict, float, int)) else str(value),
)
def test_every_event_moves_its_metric(event: events.Event, name: str, labels: dict[str, str], value: float) -> None:
    scene = Scene("a")
    scene.metrics.observe(event)
    assert scene.value(name, **labels) == value


def test_what_can_fail_is_in_the_closed_list() -> None:
    """A child that is made when it first fails shows no increase from 0."""
    source = "".join(path.read_text() for path in Path("collector").rglob("*.py"))
    used = set(re.findall(r"Stage\.([A-Z_]+), Failure\.([A-Z_]+)", source))
    assert used
    assert used <= {(stage.name, failure.name) for stage, failure in POSSIBLE_FAILURES}
