"""What of the simulated autoscaling is pure: the load's shape, what a run has to show, and its picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bench.autoscale.cli import SHIPPED
from bench.autoscale.load import Phase, Shape
from bench.autoscale.picture import draw
from bench.autoscale.recipe import Recipe
from bench.autoscale.run import METRIC, Run, Sample
from bench.autoscale.verdict import QUIET, findings


def sample(at: float, lag: int, wanted: int) -> Sample:
    return Sample(at=at, published=1000, stored=1000 - lag, lag=lag, oldest=2.0, wanted=wanted, ready=wanted)


def good_run() -> Run:
    samples = [sample(at, 0, 2) for at in (0, 5, 10)]
    samples += [sample(20, 900, 4), sample(QUIET, 900, 4), sample(QUIET + 3, 0, 4)]
    samples += [sample(QUIET + 30, 0, 3), sample(QUIET + 40, 0, 2)]
    return Run(Recipe.read(SHIPPED).faster(10), samples, published=1000, documents=1000, distinct=1000, letters=0)


def unmet(run: Run) -> list[str]:
    return [one.what for one in findings(run) if not one.met]


def test_a_load_is_due_by_the_rates_of_its_phases_and_the_last_one_goes_on() -> None:
    shape = Shape([Phase("steady", 10, 100), Phase("burst", 5, 1000), Phase("quiet", 0, 10)])
    assert shape.starts == [0, 10, 15]
    assert [shape.due(at) for at in (0, 4, 10, 12, 15, 115)] == [0, 400, 1000, 3000, 6000, 7000]


def test_a_run_as_it_has_to_be_is_met_in_all() -> None:
    assert not unmet(good_run())


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"distinct": 999}, "nothing is lost"),
        ({"documents": 1001}, "nothing is lost"),
        ({"letters": 1}, "nothing is lost"),
        ({"samples": [*good_run().samples, sample(QUIET + 50, 0, 3), sample(QUIET + 60, 0, 2)]}, "no other turn"),
        ({"samples": good_run().samples[:-1]}, "until the least is left"),
        ({"samples": [one for one in good_run().samples if one.lag or one.at < QUIET]}, "its backlog is gone"),
        ({"samples": [replace(one, oldest=13.0) for one in good_run().samples]}, "no message waits"),
        ({"samples": [replace(one, oldest=None) for one in good_run().samples]}, "no message waits"),
        ({"samples": [replace(one, wanted=2) for one in good_run().samples]}, "replicas are added"),
    ],
)
def test_what_did_not_come_out_is_named(changed: dict[str, Any], what: str) -> None:
    assert any(what in sentence for sentence in unmet(replace(good_run(), **changed)))


def test_the_picture_is_svg_with_the_figures_of_the_run_in_it() -> None:
    picture = ET.fromstring(draw(good_run(), "a title"))  # noqa: S314 - we made it
    words = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "a title" in words
    assert "all written 3.0 s after the burst;" in words


def test_the_metric_is_the_one_that_the_recipe_reads() -> None:
    assert f"valueLocation: {METRIC}\n" in SHIPPED.read_text()
