"""When a logger is failing, and when its replica is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.telemetry.failing import FAILING_AFTER, Failing, no_write_succeeds
from collector.telemetry.sentences import alike


def test_a_hiccup_is_not_said_and_what_goes_on_is_said_once() -> None:
    failing = Failing()
    tries = [failing.failed(began, began + 0.1, "no primary") for began in (0.0, 1.0, 3.0, 4.8, 4.9, 6.0, 90.0)]
    assert tries == [False, False, False, False, True, False, False]
    assert failing.succeeded()
    assert not failing.succeeded()
    assert not failing.failed(91.0, 91.1, "no primary")


def test_one_try_that_hung_for_longer_is_enough() -> None:
    assert Failing().failed(0.0, 10.0, "no answer in 10 s")


def test_a_new_reason_is_said_and_the_same_with_other_numbers_is_not() -> None:
    failing, whys = Failing(), ("refused after 5 s", "refused after 6 s", "no majority", "refused after 5 s")
    assert [failing.failed(0.0, 10.0, why) for why in whys] == [True, False, True, True]


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3), st.booleans())))
def test_it_is_said_if_and_only_if_nothing_succeeded_for_that_long(steps: list[tuple[float, float, bool]]) -> None:
    failing, now, since, said = Failing(), 0.0, None, False
    for waited, took, works in steps:
        began, now = now + waited, now + waited + took
        if works:
            assert failing.succeeded() == said
            since, said = None, False
            continue
        since = began if since is None else since
        due = now - since >= FAILING_AFTER and not said
        assert failing.failed(began, now, "why") == due
        said = said or due


@pytest.mark.parametrize(
    ("failing", "loggers", "last_success", "at_fault"),
    [
        ({}, 0, None, False),
        ({}, 3, None, False),
        ({}, 3, 9.0, False),
        ({"a": 5.0}, 3, None, True),  # it never wrote anything: a rollout whose role lacks `insert`
        ({"a": 5.0}, 1, 4.0, True),  # all that it has: no majority
        ({"a": 5.0}, 3, 4.0, False),  # one among many that are idle
        ({"a": 5.0}, 3, 9.0, False),  # one among many that work
        ({"a": 5.0, "b": 6.0}, 300, 4.0, True),  # an outage in which few loggers have something to write
        ({"a": 5.0, "b": 6.0}, 300, 5.5, False),  # the others go on
        ({"a": 5.0, "b": 6.0}, 300, 9.0, False),
        ({"a": 5.0, "b": 6.0}, 2, 9.0, True),
    ],
)
def test_a_replica_is_at_fault_when_none_of_its_writes_succeeds(
    failing: dict[str, float], loggers: int, last_success: float | None, at_fault: bool
) -> None:
    assert no_write_succeeds(failing, loggers, last_success) == at_fault


@pytest.mark.parametrize(
    ("logger", "sentence", "same"),
    [
        ("a", "stream 'beta:logs:a' is not there", "stream 'beta:logs:*' is not there"),
        ("web-1", "its user may not insert on beta.web-1_logs", "its user may not insert on beta.*_logs"),
        ("a", "a letter for beta.a_fail: code 13 in a_logs", "a letter for beta.*_fail: code # in *_logs"),
        ("logs", "expected beta:logs:logs to be a stream, got logs", "expected beta:*:* to be a stream, got logs"),
        ("web", "subject beta.logs.web-2 is another's", "subject beta.logs.web-# is another's"),
        ("a.b+", "expected 'a.b+' in 'aXbb'", "expected '*' in 'aXbb'"),
        ("", "no answer in 17 s", "no answer in # s"),
    ],
)
def test_sentences_about_the_things_of_two_loggers_are_alike(logger: str, sentence: str, same: str) -> None:
    assert alike(sentence, logger) == same
