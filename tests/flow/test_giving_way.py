"""Loggers that cannot write, and others that have no room: who gives back what, and how often."""

from __future__ import annotations

import pytest

from collector.flow.budget import Accounts, Budget
from collector.flow.giving_way import PROGRESS, TRIAL, GivingWay
from collector.flow.pool import PATIENCE

MIB = 1024 * 1024
LIMIT = 64 * MIB
LARGE = 12 * MIB
PERIOD = 5.0
"""Seconds between two looks of a logger."""


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A replica of which some loggers cannot write what they hold, others have no room, and one is settled at times."""

    def __init__(self, stuck: int, starving: int) -> None:
        self.clock = Clock()
        self.budget = Budget(LIMIT, self.clock)
        self.stuck = [self.open() for _ in range(stuck)]
        self.starving = [self.open() for _ in range(starving)]
        self.moving = self.open()
        self.gave_way: list[float] = []
        for one in self.stuck:
            self.take(one)
        for one in self.starving:
            assert not one.received.reserve(LARGE)

    def open(self) -> Accounts:
        return self.budget.open(lambda: None)

    def take(self, accounts: Accounts) -> None:
        accounts.received.reserve(LARGE)
        accounts.received.use(LARGE)

    def run(self, seconds: float, *, settles_every: float = 0.0) -> None:
        """Let all look as often as they do; who gives way takes as much again."""
        began, settled_at = self.clock.now, self.clock.now
        while self.clock.now < began + seconds:
            self.clock.now += PERIOD
            if settles_every and self.clock.now - settled_at >= settles_every:
                self.moving.settled()
                settled_at = self.clock.now
            for one in self.starving:
                one.received.reserve(LARGE)
            for number, one in enumerate(self.stuck):
                if one.has_to_give_way():
                    self.gave_way.append(self.clock.now - began)
                    one.close()
                    self.stuck[number] = self.open()
                    self.take(self.stuck[number])


@pytest.mark.parametrize("stuck", [1, 3, 20])
@pytest.mark.parametrize("starving", [1, 7])
def test_while_nothing_is_settled_one_logger_gives_way_in_two_minutes_and_none_in_a_short_outage(
    stuck: int, starving: int
) -> None:
    scene = Scene(stuck, starving)
    scene.run(TRIAL - PERIOD)
    assert scene.gave_way == []
    scene.run(3600 - TRIAL)
    assert 1 <= len(scene.gave_way) <= 3600 / TRIAL


@pytest.mark.parametrize("settles_every", [0.5, PROGRESS, 20.0])
def test_while_others_are_settled_who_cannot_write_gives_way_soon_and_one_after_the_other(settles_every: float) -> None:
    scene = Scene(stuck=3, starving=2)
    scene.run(20 * PATIENCE, settles_every=settles_every)
    soon = PATIENCE + max(PROGRESS, settles_every)
    assert scene.gave_way[0] <= soon
    between = [later - earlier for earlier, later in zip(scene.gave_way, scene.gave_way[1:], strict=False)]
    assert min(between) >= PATIENCE
    assert max(between) <= 2 * soon


def test_without_anybody_who_has_no_room_nobody_gives_way() -> None:
    scene = Scene(stuck=3, starving=0)
    scene.run(3600, settles_every=1.0)
    assert scene.gave_way == []


def test_what_was_settled_before_an_outage_lets_nobody_give_way_in_it() -> None:
    scene = Scene(stuck=2, starving=1)
    scene.moving.settled()
    scene.stuck[0].received.use(LARGE - 1)
    scene.stuck[1].received.use(LARGE - 1)
    scene.run(TRIAL - PERIOD)
    assert scene.gave_way == []


def test_a_trial_that_helps_another_is_followed_by_the_next_turn_soon() -> None:
    clock = Clock()
    giving_way, stuck_since = GivingWay(clock), clock.now
    clock.now += TRIAL - 1
    assert not giving_way.has_come(stuck_since)
    clock.now += 1
    assert [giving_way.has_come(stuck_since), giving_way.has_come(stuck_since)] == [True, False]
    clock.now += PATIENCE
    assert not giving_way.has_come(stuck_since), "nothing was settled"
    giving_way.settled()
    assert giving_way.has_come(stuck_since)
