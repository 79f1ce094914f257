"""Metrics, status and log: what each event does to them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collector import events, readings
from collector.events import POSSIBLE_FAILURES, Failure, LoggerState, OwnershipChange, Stage, State, Suspicion
from collector.model import Reason, Trigger
from collector.readings import Limit
from collector.telemetry.metrics import Metrics

NOW = 1_800_000_000.0

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
    "nats_connected",
    "mongodb_connected",
    "ready",
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


class Scene:
    """The metrics of a replica with one running logger."""

    def __init__(self, *loggers: str, logger_histograms: bool = True) -> None:
        self.metrics = Metrics("beta", "1.2.3", 64 * 1024 * 1024, logger_histograms=logger_histograms)
        for logger in loggers:
            self.metrics.observe(LoggerState(logger, State.RUNNING))

    def samples(self, now: float = NOW) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name.removeprefix("collector_"), frozenset(sample.labels.items() - {("log_namespace", "beta")})): (
                sample.value
            )
            for family in text_string_to_metric_families(self.metrics.text(now).decode())
            for sample in family.samples
        }

    def value(self, name: str, now: float = NOW, /, **labels: str) -> float | None:
        return self.samples(now).get((name, frozenset(labels.items())))


def settled(**changes: Any) -> events.BatchSettled:
    values: dict[str, Any] = {
        "logger": "a",
        "batch": 1,
        "trigger": Trigger.BYTES,
        "messages": 10,
        "entries": 30,
        "bytes": 4096,
        "written": 20,
        "duplicates": 7,
        "dead_letters": Counter({Reason.RULE: 2, Reason.MALFORMED: 1}),
        "write_seconds": 0.25,
        "latency_seconds": 1.5,
        "unanswered": 0,
    }
    return events.BatchSettled(**values | changes)


def sampled(logger: str = "a", at: float = NOW, **changes: Any) -> readings.Sampled:
    values: dict[str, Any] = {
        "messages": 100,
        "bytes": 5000,
        "oldest_age_seconds": 12.5,
        "pending": 60,
        "ack_pending": 30,
        "ack_pending_limit": 1000,
        "redelivered": 4,
        "waiting_pulls": 2,
    }
    return readings.Sampled(logger, at=at, **values | changes)


def test_every_metric_of_the_list_is_there_under_its_name() -> None:
    scene = Scene("a")
    scene.metrics.observe(sampled())
    text = scene.metrics.text(NOW).decode()
    declared = set(re.findall(r"^# TYPE collector_(\S+)", text, re.MULTILINE))
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
    assert scene.value("failures_total", logger="", stage="control", reason="unavailable") == 0
    for actor in ("owners", "registry", "sampler", "storage", "pipelines"):
        assert scene.value("actor_restarts_total", logger="", actor=actor, reason="crashed") == 0
    for state in State:
        assert scene.value("loggers", state=state) == 0
    assert scene.value("build_info", version="1.2.3") == 1
    assert scene.value("buffer_limit_bytes") == 64 * 1024 * 1024
    for name in ("nats_connected", "mongodb_connected", "ready", "nats_reconnects_total", "event_loop_lag_seconds"):
        assert scene.value(name) == 0


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
        (events.ConnectionChanged("nats", connected=True), "nats_connected", {}, 1),
        (events.ConnectionChanged("nats", connected=True, again=True), "nats_reconnects_total", {}, 1),
        (events.ConnectionChanged("mongodb", connected=True, again=True), "mongodb_connected", {}, 1),
        (events.ConnectionChanged("mongodb", connected=True, again=True), "nats_reconnects_total", {}, 0),
        (events.Ready(ready=True), "ready", {}, 1),
        (events.LoopLag(0.5), "event_loop_lag_seconds", {}, 0.5),
        (events.Listening("127.0.0.1", 1), "ready", {}, 0),
        (events.Stopping("SIGTERM"), "ready", {}, 0),
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


# lag


def test_the_lag_is_what_waits_and_what_is_unanswered() -> None:
    scene = Scene("a", "b")
    scene.metrics.observe(sampled())
    scene.metrics.observe(sampled("b", pending=1, ack_pending=0, messages=1))
    expected = {
        "lag_messages": 90,
        "lag_oldest_message_age_seconds": 12.5,
        "consumer_pending_messages": 60,
        "consumer_ack_pending_messages": 30,
        "consumer_ack_pending_limit_messages": 1000,
        "consumer_redelivered_messages": 4,
        "consumer_waiting_pulls": 2,
        "stream_bytes": 5000,
        "stream_stuck_messages": 10,
        "lag_refresh_timestamp_seconds": NOW,
    }
    assert {name: scene.value(name, logger="a") for name in expected} == expected
    assert scene.value("stream_stuck_messages", logger="b") == 0
    assert scene.value("backlog_messages") == 91


def test_a_reading_that_is_too_old_is_withdrawn_and_the_backlog_with_it_whatever_is_known_of_others() -> None:
    """A scaler that reads 5 while 1,000,000 wait takes replicas away in the middle of an outage."""
    scene = Scene("a", "b")
    scene.metrics.observe(sampled(at=NOW - 61, pending=1_000_000))
    scene.metrics.observe(sampled("b", at=NOW - 59))
    assert scene.value("lag_messages", logger="a") is None
    assert scene.value("lag_refresh_timestamp_seconds", logger="a") is None
    assert scene.value("lag_messages", logger="b") == 90
    assert scene.value("backlog_messages") is None
    assert scene.value("lag_messages", NOW + 60, logger="b") is None
    assert scene.value("backlog_messages", NOW + 60) is None
    scene.metrics.observe(sampled(at=NOW + 60))
    assert scene.value("backlog_messages", NOW + 60) is None
    scene.metrics.observe(sampled("b", at=NOW + 60))
    assert scene.value("backlog_messages", NOW + 60) == 180


@pytest.mark.parametrize("known", [0, 1, 199, 200])
def test_the_backlog_of_two_hundred_loggers_is_there_when_that_of_each_is(known: int) -> None:
    scene = Scene(*(f"l{number}" for number in range(200)))
    for number in range(200):
        scene.metrics.observe(sampled(f"l{number}", at=NOW if number < known else NOW - 61))
    assert scene.value("backlog_messages") == (200 * 90 if known == 200 else None)


@pytest.mark.parametrize("state", State)
def test_of_a_logger_that_is_not_moved_by_any_replica_nothing_need_be_known(state: State) -> None:
    scene = Scene("b")
    scene.metrics.observe(LoggerState("a", state))
    scene.metrics.observe(sampled("b"))
    assert scene.value("backlog_messages") == (90 if state in {State.PARKED, State.MISCONFIGURED} else None)


def test_what_waits_for_a_logger_whose_durable_cannot_be_read_is_in_its_stream() -> None:
    scene = Scene("a", "b")
    scene.metrics.observe(sampled("b"))
    scene.metrics.observe(sampled("a", at=NOW - 61))
    scene.metrics.observe(readings.Waiting("a", 1_000_000, NOW))
    assert scene.value("lag_messages", logger="a") is None
    assert scene.value("backlog_messages") == 1_000_090
    assert scene.value("backlog_messages", NOW + 61) is None
    scene.metrics.observe(sampled("b", at=NOW + 61))
    assert scene.value("backlog_messages", NOW + 61) is None
    scene.metrics.observe(readings.Waiting("a", 0, NOW + 61))
    assert scene.value("backlog_messages", NOW + 61) == 90
    scene.metrics.observe(sampled("a", at=NOW + 61))
    assert scene.value("backlog_messages", NOW + 61) == 180


def test_the_backlog_is_the_sum_of_the_last_readings() -> None:
    scene = Scene("a", "b", "c")
    for logger, pending in [("a", 5), ("b", 7), ("a", 2), ("c", 1)]:
        scene.metrics.observe(sampled(logger, pending=pending, ack_pending=0))
    assert scene.value("backlog_messages") == 10
    scene.metrics.observe(LoggerState("b", None))
    assert scene.value("backlog_messages") == 3


def test_the_backlog_is_0_without_loggers_and_absent_before_the_first_reading_of_one() -> None:
    scene = Scene()
    assert scene.value("backlog_messages") == 0
    scene.metrics.observe(LoggerState("a", State.RUNNING))
    assert scene.value("backlog_messages") is None
    scene.metrics.observe(LoggerState("a", None))
    assert scene.value("backlog_messages") == 0


def storage(at: float = NOW, **filled: dict[Limit, float]) -> readings.Storage:
    stores = [readings.Store("file", "R3", 700, 1000), readings.Store("memory", "R3", 5, None)]
    return readings.Storage(stores, filled, {"a": 3, "gone": 5, "lost": 7}, at)


def test_what_waits_in_streams_without_a_declaration_is_counted() -> None:
    scene = Scene("a")
    scene.metrics.observe(storage())
    assert scene.value("undeclared_stream_messages") is None, "the bucket was not read yet"
    scene.metrics.observe(readings.Declared())
    scene.metrics.observe(storage())
    assert scene.value("undeclared_stream_messages") == 12
    scene.metrics.observe(LoggerState("gone", State.PARKED))
    scene.metrics.observe(storage())
    assert scene.value("undeclared_stream_messages") == 7
    assert scene.value("undeclared_stream_messages", NOW + 61) is None


def test_how_full_jetstream_is_goes_when_it_is_old_or_the_logger_is_gone() -> None:
    scene = Scene("a")
    scene.metrics.observe(storage(a={Limit.BYTES: 0.25, Limit.AGE: 0.5}, unknown={Limit.AGE: 1.0}))
    assert scene.value("jetstream_storage_bytes", storage="file", tier="R3") == 700
    assert scene.value("jetstream_storage_limit_bytes", storage="file", tier="R3") == 1000
    assert scene.value("jetstream_storage_bytes", storage="memory", tier="R3") == 5
    assert scene.value("jetstream_storage_limit_bytes", storage="memory", tier="R3") is None
    assert scene.value("stream_filled_ratio", logger="a", limit="bytes") == 0.25
    assert scene.value("stream_filled_ratio", logger="a", limit="messages") is None
    assert scene.value("stream_filled_ratio", logger="unknown", limit="age") is None
    scene.metrics.observe(storage(a={Limit.AGE: 0.5}))
    assert scene.value("stream_filled_ratio", logger="a", limit="bytes") is None
    assert scene.value("jetstream_storage_bytes", NOW + 61, storage="file", tier="R3") is None
    assert scene.value("stream_filled_ratio", NOW + 61, logger="a", limit="age") is None
    scene.metrics.observe(storage(a={Limit.AGE: 0.5}))
    scene.metrics.observe(LoggerState("a", None))
    assert scene.value("stream_filled_ratio", logger="a", limit="age") is None


def test_a_reading_of_a_logger_that_is_gone_is_passed_over() -> None:
    scene = Scene()
    scene.metrics.observe(sampled("gone"))
    scene.metrics.observe(readings.Waiting("gone", 3, NOW))
    assert scene.value("backlog_messages") == 0
    assert scene.value("lag_messages", logger="gone") is None


def test_it_may_be_read_while_readings_come_and_go() -> None:
    """The HTTP thread withdraws old readings of the very tables that the event loop fills."""
    scene = Scene(*(f"l{number}" for number in range(20)))
    failures: list[Exception] = []

    def read() -> None:
        try:
            for _ in range(25):
                scene.metrics.text(NOW)
        except Exception as exc:  # noqa: BLE001 - whatever a thread raises is lost otherwise
            failures.append(exc)

    thread = Thread(target=read)
    thread.start()
    number = 0
    while thread.is_alive():
        number += 1
        scene.metrics.observe(sampled(f"l{number % 20}", at=NOW - 61 * (number % 2)))
        if number % 10 == 0:
            scene.metrics.observe(LoggerState(f"l{number % 20}", None if number % 40 else State.RUNNING))
    thread.join()
    assert failures == []
