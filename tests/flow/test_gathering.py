"""When a consumer is woken: never for each message, always in time, and at once when a batch is full."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from collector.flow.batch_age import BatchAge, LoggerAge
from collector.flow.gathering import Enough, Gathering

if TYPE_CHECKING:
    from collections.abc import Callable

ENOUGH = Enough(messages=10, bytes=1000)
AGE = 0.1


class Scene:
    """A gathering in virtual time, and a consumer that takes what there is when it is woken."""

    def __init__(self, age: float = AGE) -> None:
        self.now = 100.0
        self.woken = 0
        self.alarms: list[tuple[float, Callable[[], None]]] = []
        self.gathering = Gathering(
            LoggerAge(BatchAge(age, age), lambda: 0.0), ENOUGH, lambda: self.now, self._alarm, self._wake
        )

    def _alarm(self, begun: float, age: float, ring: Callable[[], None]) -> float:
        self.alarms.append((begun + age, ring))
        return begun + age

    def _wake(self) -> None:
        self.woken += 1

    def come(self, messages: int = 1, size: int = 10) -> bool:
        return self.gathering.came(messages, size, self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        due, self.alarms = (
            [one for one in self.alarms if one[0] <= self.now],
            [one for one in self.alarms if one[0] > self.now],
        )
        for _, ring in due:
            ring()


def test_of_what_trickles_in_the_consumer_is_woken_once_when_the_first_is_old_enough() -> None:
    scene = Scene()
    woken = []
    for _ in range(9):
        woken.append(scene.come())
        scene.wait(AGE / 10)
    assert (woken, scene.woken) == ([False] * 9, 0)
    scene.wait(AGE / 5)
    assert scene.woken == 1
    assert scene.gathering.taken()
    assert not scene.gathering.waits
    assert scene.alarms == [], "nothing is set while nothing waits"


def test_a_batch_of_messages_or_of_bytes_wakes_at_once_and_the_rest_of_it_is_young() -> None:
    for messages, size in ((10, 10), (1, 1000)):
        scene = Scene()
        assert scene.come(messages, size)
        assert not scene.gathering.taken()
        assert scene.gathering.waits, "what is left over of a full batch leaves by age"
        scene.wait(AGE + 0.001)
        assert scene.woken == 1
        assert scene.gathering.taken()


def test_what_is_taken_before_its_end_leaves_at_the_same_end() -> None:
    scene = Scene()
    scene.come()
    scene.wait(0.06)
    assert not scene.gathering.taken()
    scene.come()
    scene.wait(0.06)
    assert (scene.woken, scene.gathering.taken()) == (1, True)


def test_a_batch_that_left_before_its_end_wakes_nobody_and_the_alarm_serves_the_next_one() -> None:
    scene = Scene()
    scene.come()
    scene.wait(0.04)
    scene.gathering.taken()
    scene.gathering.left()
    scene.wait(0.02)
    scene.come()
    assert len(scene.alarms) == 1, "one alarm for each logger at most"
    scene.wait(0.05)
    assert scene.woken == 0
    scene.wait(0.06)
    assert (scene.woken, scene.gathering.taken()) == (1, True)


def test_bundles_are_a_batch_when_they_hold_one() -> None:
    scene = Scene()
    assert not scene.come(2)
    scene.gathering.taken()
    scene.gathering.learn(messages=2, entries=10)
    assert scene.come(2), "as many messages as held ten entries"
    scene.gathering.taken()
    scene.gathering.learn(messages=4, entries=0)
    assert not scene.come(9), "messages without entries are messages"


def test_without_an_age_every_message_wakes_and_leaves_and_no_alarm_is_set() -> None:
    scene = Scene(age=0.0)
    for _ in range(3):
        assert scene.come()
        assert scene.gathering.taken()
    assert scene.alarms == []


@given(st.lists(st.sampled_from(["come", "much", "take", "left", 0.01, 0.05, 0.2]), max_size=60))
def test_whatever_happens_what_came_is_woken_for_within_its_age(steps: list[str | float]) -> None:
    scene, first = Scene(), math.inf
    for step in steps:
        before = scene.woken
        if step in {"come", "much"}:
            first = min(first, scene.now)
            if scene.come(10 if step == "much" else 1):
                scene.gathering.taken()
                first = math.inf
        elif step == "take":
            scene.gathering.taken()
        elif step == "left" and first == math.inf:
            scene.gathering.left()
        elif isinstance(step, float):
            scene.wait(step)
            if scene.woken > before:
                scene.gathering.taken()
                first = math.inf
        assert scene.now <= first + AGE + 0.2
        assert len(scene.alarms) <= 1
    scene.wait(AGE + 0.01)
    if first < math.inf:
        assert scene.woken


class Trickle(Scene):
    """A logger that is busy together with others, so that its batches wait for a second."""

    def __init__(self) -> None:
        super().__init__()
        age = BatchAge(AGE, 1.0)
        age.share(100)
        self.gathering = Gathering(
            LoggerAge(age, lambda: 0.0), ENOUGH, lambda: self.now, self._alarm, self._wake, late_alarm=self._alarm
        )
        for _ in range(30):
            self.come()
            self.gathering.taken()
            self.wait(0.4)
        self.woken = 0


def test_a_message_that_is_expected_and_comes_wakes_nobody() -> None:
    scene = Trickle()
    assert scene.gathering.expects()
    scene.come()
    scene.gathering.taken()
    scene.gathering.left()
    scene.wait(3.0)
    assert (scene.woken, scene.gathering.missed()) == (0, False)


def test_a_message_that_is_missed_wakes_the_consumer_once() -> None:
    scene = Trickle()
    scene.gathering.left()
    assert scene.gathering.expects()
    scene.wait(0.2)
    assert not scene.gathering.missed()
    scene.wait(1.5)
    assert (scene.woken, scene.gathering.missed(), scene.gathering.missed()) == (1, True, False)
    assert not scene.gathering.expects(), "it is late already"


def test_when_a_write_fails_nothing_is_waited_for() -> None:
    scene = Trickle()
    scene.gathering.miss()
    assert (scene.woken, scene.gathering.missed()) == (0, False), "nothing was expected"
    scene.gathering.expects()
    scene.gathering.miss()
    assert (scene.woken, scene.gathering.missed()) == (1, True)
