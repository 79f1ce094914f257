"""The simulated autoscaler against vectors computed by hand from the rules that Kubernetes documents."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.autoscale.autoscaler import Autoscaler
from bench.autoscale.recipe import Policy, Recipe, Rules, Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

UP = Rules(0, (Policy(Unit.PERCENT, 100, 30),))
DOWN = Rules(300, (Policy(Unit.PERCENT, 25, 60),))
RECIPE = Recipe(least=1, most=20, threshold=100, up=UP, down=DOWN)
FREE = Rules(0, (Policy(Unit.PODS, 100, 1),))


@pytest.mark.parametrize(
    ("current", "metric", "wanted"),
    [
        (2, 0, 1),  # nothing waits: the least
        (2, 201, 2),  # 1.005 of the target
        (2, 219, 2),  # 1.095: just within the tolerance
        (2, 221, 3),  # just outside: ceil(2.21)
        (2, 300, 3),
        (4, 360, 4),  # 0.9: just within
        (4, 359, 4),  # outside, and ceil(3.59) is 4 all the same
        (4, 300, 3),
        (4, 5000, 20),  # the most
    ],
)
def test_the_formula_the_tolerance_and_the_limits(current: int, metric: float, wanted: int) -> None:
    autoscaler = Autoscaler(replace(RECIPE, up=FREE, down=FREE))
    assert autoscaler.replicas(0, current, metric) == wanted


def run(autoscaler: Autoscaler, current: int, metrics: Sequence[float | None], period: float = 15) -> list[int]:
    counts = []
    for turn, metric in enumerate(metrics):
        current = autoscaler.replicas(turn * period, current, metric)
        counts.append(current)
    return counts


def test_up_it_doubles_within_30_seconds_and_not_more() -> None:
    assert run(Autoscaler(RECIPE), 1, [5000] * 9) == [2, 2, 4, 4, 8, 8, 16, 16, 20]


def test_down_it_waits_for_300_seconds_that_agree_and_then_gives_up_a_quarter_a_minute() -> None:
    autoscaler = Autoscaler(RECIPE)
    counts = run(autoscaler, 10, [1000] + [0] * 48)
    assert counts[:20] == [10] * 20  # until 285 s after it was last wanted
    assert counts[20::4] == [7, 5, 3, 2, 1, 1, 1, 1]
    assert counts[20:24] == [7] * 4


def test_one_peak_within_the_window_keeps_what_it_wanted() -> None:
    metrics = [400, *[0] * 10, 400, *[0] * 20]
    assert run(Autoscaler(RECIPE), 4, metrics) == [4] * 31 + [3]


def test_a_window_up_takes_the_least_that_was_wanted_in_it() -> None:
    patient = replace(RECIPE, up=Rules(30, (Policy(Unit.PODS, 10, 15),)))
    assert run(Autoscaler(patient), 1, [500, 300, 400, 500]) == [1, 1, 3, 4]


def test_of_several_policies_the_most_generous_counts() -> None:
    both = replace(RECIPE, up=Rules(0, (Policy(Unit.PERCENT, 100, 30), Policy(Unit.PODS, 4, 30))))
    assert run(Autoscaler(both), 1, [5000, 5000, 5000]) == [5, 5, 10]


def test_without_a_reading_nothing_changes() -> None:
    assert run(Autoscaler(RECIPE), 3, [None] * 50) == [3] * 50


def test_a_faster_time_makes_the_same_steps() -> None:
    metrics = [*[5000] * 9, *[0] * 60]
    slow = run(Autoscaler(RECIPE), 1, metrics)
    assert run(Autoscaler(RECIPE.faster(10)), 1, metrics, period=1.5) == slow
    assert (max(slow), slow[-1]) == (20, 1)


def test_rules_that_are_not_simulated_are_refused() -> None:
    with pytest.raises(ValueError, match="selectPolicy"):
        Rules.read({"stabilizationWindowSeconds": 0, "policies": [], "selectPolicy": "Min"})
