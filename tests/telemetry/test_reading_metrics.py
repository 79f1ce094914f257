"""Readings of NATS as metrics: lag, backlog and storage, and when they are withdrawn."""

from __future__ import annotations

from threading import Thread

import pytest

from collector.events import LoggerState, State, readings
from collector.events.readings import Limit
from tests.support.metrics import NOW, Scene, sampled


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


def test_counts_of_a_durable_that_was_not_asked_are_absent_and_all_of_its_stream_is_the_lag() -> None:
    """A stuck logger is alerted on by the least value of all replicas, so a guessed 0 would hide it."""
    scene = Scene("a")
    scene.metrics.observe(sampled(pending=None, ack_pending=None, redelivered=None))
    for name in ("pending", "ack_pending", "redelivered"):
        assert scene.value(f"consumer_{name}_messages", logger="a") is None
    assert scene.value("stream_stuck_messages", logger="a") is None
    assert scene.value("lag_messages", logger="a") == scene.value("backlog_messages") == 100


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
