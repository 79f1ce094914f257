"""The deadline of one logger: it wakes the consumer in time, and an alarm that is put off costs no wake-up."""

from __future__ import annotations

import math

import pytest
from anyio import current_time, sleep

from collector.actors.alarms import Alarms
from collector.actors.deadline import Deadline
from tests.support.virtual_time import run_virtually


class FakePull:
    """A pull whose deadline the test sets."""

    def __init__(self) -> None:
        self.deadline = math.inf
        self.woken: list[float] = []

    def wake(self) -> None:
        """Note when it was woken; it forgets its requests, as a consumer makes it do."""
        self.woken.append(current_time())
        self.deadline = math.inf


class Scene:
    """A deadline in virtual time, which counts the alarms that it sets."""

    def __init__(self) -> None:
        self.pull, self.alarms, self.set = FakePull(), Alarms(current_time), 0
        self.deadline = Deadline(self.pull, self._alarm, current_time)  # type: ignore[arg-type]

    def _alarm(self, begun: float, age: float, ring: object) -> float:
        self.set += 1
        return self.alarms.set(begun, age, ring)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("deadline", "asks_again_within"), [(5.0, math.inf), (75.0, math.inf), (math.inf, 1.0), (75.0, 3.0), (2.0, 30.0)]
)
def test_the_first_of_both_times_wakes(deadline: float, asks_again_within: float) -> None:
    async def play() -> None:
        scene, due = Scene(), min(deadline, asks_again_within)
        scene.pull.deadline = deadline
        scene.deadline.watch(asks_again_within)
        await sleep(due - 0.01)
        assert scene.pull.woken == []
        await sleep(0.3)
        (woken,) = scene.pull.woken
        assert due <= woken <= due + 0.25

    run_virtually(play)


def test_a_deadline_that_is_put_off_again_and_again_sets_few_alarms_and_wakes_nobody() -> None:
    async def play() -> None:
        scene = Scene()
        for _ in range(1000):
            scene.pull.deadline = current_time() + 5
            scene.deadline.watch(math.inf)
            await sleep(1)
        assert scene.pull.woken == []
        assert scene.set <= 1000 / 4
        await sleep(10)
        assert len(scene.pull.woken) == 1

    run_virtually(play)


def test_alarms_that_were_put_off_do_not_become_more_and_more() -> None:
    async def play() -> None:
        scene = Scene()
        for number in range(300):
            scene.pull.deadline = current_time() + 75
            scene.deadline.watch(1.0 if number % 2 else math.inf)
            await sleep(2)
        assert len(scene.pull.woken) == 150
        assert sum(map(len, scene.alarms._due.values())) <= 2

    run_virtually(play)


def test_a_deadline_that_has_passed_wakes_at_once_and_an_ended_one_never() -> None:
    async def play() -> None:
        scene = Scene()
        scene.pull.deadline = current_time() - 1
        scene.deadline.watch(math.inf)
        assert len(scene.pull.woken) == 1
        scene.pull.deadline = current_time() + 5
        scene.deadline.watch(math.inf)
        scene.deadline.end()
        await sleep(20)
        assert len(scene.pull.woken) == 1

    run_virtually(play)
