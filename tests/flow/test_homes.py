"""The home of a logger: it moves little, and its requests come first while it is not full."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.flow.homes import (
    AT_HOME,
    ELSEWHERE,
    SILENCE,
    START,
    STARTING,
    TAKE_OVER,
    TAKING_OVER,
    Home,
    Homes,
    Living,
    home_of,
)

LOGGERS = [f"logger-{number}" for number in range(1000)]
NAMES = st.sets(st.text(min_size=1, max_size=20), min_size=1, max_size=8)


@given(NAMES, st.text())
def test_every_replica_finds_the_same_home_in_any_order(replicas: set[str], logger: str) -> None:
    assert home_of(logger, sorted(replicas)) == home_of(logger, sorted(replicas, reverse=True)) in replicas


@given(NAMES, st.text(min_size=1, max_size=20), st.text())
def test_a_replica_that_comes_or_goes_moves_only_what_is_at_home_there(others: set[str], one: str, logger: str) -> None:
    without, having = (
        home_of(logger, others - {one} or {"other"}),
        home_of(logger, (others - {one} or {"other"}) | {one}),
    )
    assert having in {without, one}


def test_the_loggers_are_spread() -> None:
    counts = Counter(home_of(logger, [f"replica-{number}" for number in range(4)]) for logger in LOGGERS)
    assert min(counts.values()) > 200
    assert max(counts.values()) < 300


def test_a_replica_that_comes_takes_a_fair_share_from_each() -> None:
    before = {logger: home_of(logger, "abcd") for logger in LOGGERS}
    moved = Counter(before[logger] for logger in LOGGERS if home_of(logger, "abcde") != before[logger])
    assert 120 < sum(moved.values()) < 280
    assert len(moved) == 4


class TestLiving:
    """Beats, with the time given."""

    def test_nobody_is_known_before_the_own_beats_come_back(self) -> None:
        living = Living("me")
        living.heard("other", 0.0)
        assert living.at(0.0) == frozenset()
        living.heard("me", 1.0)
        assert living.at(1.0) == {"me", "other"}

    def test_only_the_first_beat_is_new(self) -> None:
        living = Living("me")
        assert [living.heard("a", moment) for moment in (0.0, 2.0)] == [True, False]

    def test_a_silent_replica_is_gone_and_comes_again_with_a_beat(self) -> None:
        living = Living("me")
        for name in ("me", "other"):
            living.heard(name, 0.0)
        living.heard("me", SILENCE - 0.1)
        assert living.at(SILENCE - 0.1) == {"me", "other"}
        assert living.at(SILENCE) == {"me"}
        assert living.heard("other", SILENCE)
        assert living.at(SILENCE) == {"me", "other"}

    def test_a_replica_that_says_goodbye_is_gone_at_once(self) -> None:
        living = Living("me")
        for name in ("me", "other"):
            living.heard(name, 0.0)
        living.left("other")
        living.left("unknown")
        assert living.at(0.0) == {"me"}

    def test_without_own_beats_nobody_is_known(self) -> None:
        living = Living("me")
        living.heard("me", 0.0)
        living.heard("other", SILENCE)
        assert living.at(SILENCE) == frozenset()

    def test_a_replica_that_could_not_hear_forgives_the_silence(self) -> None:
        living = Living("me")
        for name in ("me", "other"):
            living.heard(name, 0.0)
        living.forgive(100.0)
        assert living.at(100.0 + SILENCE - 0.1) == {"me", "other"}
        assert living.at(100.0 + SILENCE) == frozenset()

    def test_names_that_anybody_makes_up_take_little_room(self) -> None:
        living = Living("me")
        for number in range(100_000):
            living.heard(str(number), 0.0)
        living.heard("me", 0.0)
        assert len(living.at(0.0)) <= 1_001


class Woken:
    """Homes of some loggers on one replica, and which of them were told that they have come."""

    def __init__(self, *loggers: str, replicas: str = "") -> None:
        self.now = 0.0
        self.homes = Homes("a", frozenset(replicas), lambda: self.now)
        self.came: list[str] = []
        self._following = ExitStack()
        self.all = {logger: self._follow(logger) for logger in loggers}

    def _follow(self, logger: str) -> Home:
        return self._following.enter_context(self.homes.of(logger, lambda: self.came.append(logger)))


def at_home(replicas: str, loggers: list[str]) -> set[str]:
    return {logger for logger in loggers if home_of(logger, replicas) == "a"}


def test_nothing_is_at_home_while_the_replicas_are_unknown() -> None:
    woken = Woken(*LOGGERS[:20])
    assert not any(home.here for home in woken.all.values())
    assert {home.priority(is_full=False) for home in woken.all.values()} == {STARTING}
    woken.now = START
    assert {home.priority(is_full=False) for home in woken.all.values()} == {ELSEWHERE}


def test_a_start_ends_as_soon_as_the_replicas_are_known() -> None:
    woken = Woken(*LOGGERS[:20])
    woken.homes.move(frozenset("ab"))
    assert {home.priority(is_full=False) for home in woken.all.values()} == {TAKING_OVER, ELSEWHERE}
    with woken.homes.of("later", list) as later:
        assert later.priority(is_full=False) != STARTING


@pytest.mark.parametrize(("before", "after"), [("", "ab"), ("ab", "abc"), ("abc", "ab"), ("ab", ""), ("abc", "ad")])
def test_homes_that_change_are_returned_and_those_that_come_are_woken(before: str, after: str) -> None:
    loggers = LOGGERS[:100]
    woken = Woken(*loggers, replicas=before)
    was, is_ = (at_home(one, loggers) if one else set() for one in (before, after))
    changed = woken.homes.move(frozenset(after))
    assert {home.logger for home in changed} == was ^ is_
    assert set(woken.came) == is_ - was
    assert {logger for logger, home in woken.all.items() if home.here} == is_
    assert woken.homes.move(frozenset(after)) == []


def test_a_replica_alone_wakes_nobody_and_needs_to_take_nothing_over() -> None:
    woken = Woken(*LOGGERS[:20])
    assert len(woken.homes.move(frozenset("a"))) == 20
    assert woken.came == []
    assert {home.priority(is_full=False) for home in woken.all.values()} == {AT_HOME}


def test_a_replica_that_is_alone_no_more_asks_again_for_what_stays_at_home() -> None:
    woken = Woken(*LOGGERS[:20], replicas="a")
    changed = {home.logger for home in woken.homes.move(frozenset("ab"))}
    assert set(woken.came) == set(LOGGERS[:20]) - changed
    assert {woken.all[logger].priority(is_full=False) for logger in woken.came} == {AT_HOME}
    woken.came.clear()
    woken.homes.move(frozenset("abc"))
    assert woken.came == []


@given(st.lists(st.sampled_from(["", "a", "b", "ab", "abc"]), min_size=1, max_size=6))
def test_a_logger_is_here_or_elsewhere_or_the_replicas_are_unknown(lives: list[str]) -> None:
    woken = Woken(*LOGGERS[:10])
    for replicas in lives:
        woken.homes.move(frozenset(replicas))
        with woken.homes.of("later", list) as later:
            for home in (*woken.all.values(), later):
                assert home.here == bool(replicas and home_of(home.logger, replicas) == "a")
                assert home.elsewhere == woken.homes.is_elsewhere(home.logger) == (bool(replicas) and not home.here)


@pytest.mark.parametrize("left", ["a", "ac"])
def test_a_new_home_comes_before_the_earlier_one_for_a_while(left: str) -> None:
    woken = Woken(*LOGGERS[:20], replicas="abc")
    came = [home for home in woken.homes.move(frozenset(left)) if home.here]
    assert came
    woken.now = TAKE_OVER - 0.1
    assert {home.priority(is_full=False) for home in came} == {TAKING_OVER}
    woken.now = TAKE_OVER
    assert {home.priority(is_full=False) for home in came} == {AT_HOME}


def test_a_full_replica_leaves_the_logger_to_all() -> None:
    for home in (Home("a", list, float, here=here) for here in (True, False)):
        assert home.priority(is_full=True) == ELSEWHERE


def test_a_logger_that_this_replica_owns_is_at_home_here_whoever_lives() -> None:
    homes = Homes("a", frozenset("ab"))
    elsewhere = next(logger for logger in LOGGERS if home_of(logger, "ab") == "b")
    with homes.of(elsewhere, list, owned=True) as home:
        assert home.here
        for replicas in ("b", "ab", ""):
            assert homes.move(frozenset(replicas)) == []
        assert home.here


def test_a_logger_that_is_gone_is_followed_no_more() -> None:
    homes = Homes("a", frozenset("a"))
    with homes.of("x", list):
        pass
    assert homes.move(frozenset()) == []
