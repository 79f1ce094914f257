"""The age of a batch, in virtual time: it follows the load at once, never swings, and comes back soon after its end."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.flow.batch_age import BATCHES_PER_SECOND, BatchAge, LoggerAge

LEAST, MOST = 0.1, 1.0
Rates = Callable[[float], list[float]]
"""The rate of each logger, in messages a second, at a time."""


class Replica:
    """Loggers whose messages come evenly, each at its rate, in virtual time."""

    def __init__(self, loggers: int, least: float = LEAST, most: float = MOST) -> None:
        self.age = BatchAge(least, most)
        self.loggers = [LoggerAge(self.age, lambda: 0.0) for _ in range(loggers)]
        self.batches: list[float] = []
        """When a batch began."""
        self._ends = [0.0] * loggers
        self._next = [number / max(1, loggers) for number in range(loggers)]

    def run(self, seconds: float, rates: Rates, start: float = 0.0) -> list[float]:
        """Return the age at each hundredth of a second."""
        ages = []
        for step in range(round(seconds * 100)):
            now = start + step / 100
            for number, rate in enumerate(rates(now)):
                if rate and self._next[number] <= now:
                    self._next[number] = max(self._next[number] + 1 / rate, now)
                    self._come(number, now)
            ages.append(self.age.at(now))
        return ages

    def _come(self, number: int, now: float) -> None:
        self.loggers[number].came(now)
        if now >= self._ends[number]:
            self._ends[number] = now + self.loggers[number].at(now)
            self.batches.append(now)

    def batches_per_second(self, start: float, end: float) -> float:
        return sum(start <= begun < end for begun in self.batches) / (end - start)


def steady(loggers: int, rate: float) -> Rates:
    return lambda _: [rate] * loggers


@pytest.mark.parametrize(
    ("loggers", "rate", "age"),
    [(1, 10.0, 0.1), (1, 1000.0, 0.1), (10, 10.0, 0.1), (30, 10.0, 0.3), (100, 10.0, 1.0), (300, 2.0, 1.0)],
)
def test_under_a_steady_load_the_age_follows_the_number_of_busy_loggers_and_stays(
    loggers: int, rate: float, age: float
) -> None:
    replica = Replica(loggers)
    ages = replica.run(10, steady(loggers, rate))
    assert set(ages[300:]) == {age}, "no oscillation"
    if age < MOST:
        assert replica.batches_per_second(3, 10) <= BATCHES_PER_SECOND


def test_messages_that_never_meet_in_one_batch_do_not_make_it_older() -> None:
    ages = Replica(1000).run(25, steady(1000, 0.1))
    assert set(ages) == {LEAST}, "an entry in ten seconds for each of 1,000 loggers: a longer age saves no batch"


def test_after_a_step_up_and_down_the_age_moves_once_each_way_and_is_the_least_within_two_seconds() -> None:
    ages = Replica(100).run(20, lambda now: [10.0 if 5 <= now < 10 else 0.0] * 100)
    assert set(ages[:500]) == {LEAST}
    up, down = ages[500:1000], ages[1000:]
    assert up == sorted(up), "monotone"
    assert up[100] == MOST, "within a second"
    assert down == sorted(down, reverse=True)
    assert set(down[200:]) == {LEAST}


def test_on_a_ramp_the_age_rises_and_falls_with_it() -> None:
    def rates(now: float) -> list[float]:
        busy = 10 * (now if now < 10 else 20 - now)
        return [10.0 if number < busy else 0.0 for number in range(100)]

    ages = Replica(100).run(24, rates)
    turn = ages.index(max(ages))
    assert max(ages) >= 0.9
    assert all(after >= before for before, after in pairwise(ages[:turn]))
    assert all(after <= before for before, after in pairwise(ages[1100:]))
    assert set(ages[2200:]) == {LEAST}


def test_a_burst_that_comes_at_once_makes_nothing_older() -> None:
    replica = Replica(0)
    loggers = [LoggerAge(replica.age, lambda: 0.0) for _ in range(500)]
    for logger in loggers:
        logger.came(5.0)
    assert replica.age.at(5.0) == replica.age.at(5.5) == LEAST


@settings(max_examples=20)
@given(st.lists(st.sampled_from([0.0, 0.1, 1.0, 5.0, 50.0]), min_size=1, max_size=80))
def test_whatever_the_loggers_do_the_age_keeps_its_bounds_and_does_not_swing(rates: list[float]) -> None:
    ages = Replica(len(rates)).run(6, lambda _: rates)
    assert min(ages) >= LEAST
    assert max(ages) <= MOST
    slow = sum(0 < rate <= 1 for rate in rates)
    assert max(ages[300:]) - min(ages[300:]) <= slow / BATCHES_PER_SECOND + 1e-9, "only slow loggers come and go"
    after = Replica(1)
    after.run(3, steady(1, 50.0))
    assert after.age.at(5.01) == LEAST


@pytest.mark.parametrize(("least", "most", "age"), [(0.0, 1.0, 0.0), (600.0, 1.0, 600.0), (0.1, 0.0, 0.1)])
def test_an_age_of_0_and_one_above_the_bound_are_kept_at_any_load(least: float, most: float, age: float) -> None:
    assert set(Replica(100, least, most).run(3, steady(100, 10.0))) == {age}


def test_loggers_that_become_busy_together_soon_write_at_different_times() -> None:
    replica, chance = Replica(0), Random(7)  # noqa: S311 - the same chance every time
    replica.loggers = [LoggerAge(replica.age, chance.random) for _ in range(100)]
    ends = []
    for now in (5.0, 5.2, 5.4):
        for logger in replica.loggers:
            logger.came(now)
        ends.append(sorted(now + logger.at(now) for logger in replica.loggers))
    in_step, spread, steady = ends
    assert in_step[0] == in_step[-1] == 5.1, "a quiet logger waits no longer than it has to"
    assert [any(5.3 + part <= end < 5.4 + part for end in spread) for part in (0.0, 0.2, 0.4, 0.6, 0.8)] == [True] * 5
    assert 6.3 <= steady[0] < steady[-1] <= 6.4


@pytest.mark.parametrize(("replicas", "at_home", "age"), [(1, 80, 0.8), (4, 20, 0.8), (0, 20, 0.2)])
def test_replicas_that_share_the_loggers_write_together_as_many_batches_as_one(
    replicas: int, at_home: int, age: float
) -> None:
    of_one = BatchAge(0.1, 1.0)
    of_one.share(replicas)
    for _ in range(at_home):
        of_one.count(0)
    assert of_one.at(0.5) == age


def test_the_next_message_is_expected_where_messages_come_steadily_and_batches_wait() -> None:
    age = BatchAge(0.1, 1.5)
    age.share(100)  # one busy logger counts as a hundred
    logger = LoggerAge(age, lambda: 0.0)
    for now in (10.0, 11.0, 12.0):
        logger.came(now)
        logger.at(now)
    assert logger.next_by == 15.0
    for now in (12.5, 13.0, 13.5, 14.0):
        logger.came(now)
    assert 15.5 < logger.next_by < 15.7, "it follows the gaps between messages"
    logger.came(20.0)
    assert logger.next_by < 20.0, "after a long gap nobody knows"


def test_a_replica_with_little_to_do_expects_nothing() -> None:
    replica = Replica(1)
    replica.run(5, steady(1, 10.0))
    assert replica.loggers[0].next_by < 0
    assert LoggerAge(replica.age).next_by < 0
