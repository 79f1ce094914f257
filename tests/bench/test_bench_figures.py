"""Medians, spread, tables, thresholds and the picture."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from bench.figures import Figures
from bench.plan import FULL
from bench.plot import draw
from bench.tables import group_tables, number, thresholds_table
from bench.thresholds import Threshold

RATE = "entries/s"


@pytest.fixture
def figures() -> Figures:
    made = Figures()
    for rate in (100.0, 90.0, 130.0):
        made.add("ceiling", "mongod plain 300 B", {RATE: rate * 3})
        made.add("drain", "plain, go", {RATE: rate, "of ceiling": 0.3, "peak MiB": 50.0})
        made.add("drain", "plain, json", {RATE: rate, "peak MiB": 130.0})
        made.add("growth", "backlog of 10,000", {RATE: rate, "peak MiB": 50.0})
        made.add("growth", "backlog of 1,000,000", {RATE: rate, "peak MiB": 50.0})
    return made


def test_the_median_counts_and_the_spread_is_half_the_range(figures: Figures) -> None:
    rate = figures.find("drain", "plain, go", RATE)
    assert rate is not None
    assert (rate.median, rate.spread) == (100.0, 0.2)
    assert rate.as_json()["values"] == [100.0, 90.0, 130.0]


def test_a_threshold_without_a_case_takes_the_worst_of_its_group(figures: Figures) -> None:
    peak = Threshold("peak", "drain", "", "peak MiB", at_most=120)
    assert (peak.found(figures), peak.is_met(figures)) == (130.0, False)


def test_a_threshold_that_was_not_measured_is_neither_met_nor_missed(figures: Figures) -> None:
    assert Threshold("x", "live add", "", "p99 ms", at_most=300).is_met(figures) is None


@pytest.mark.parametrize(("limit", "met"), [(0.29, True), (0.31, False)])
def test_a_threshold_at_least_is_met_from_its_number_on(figures: Figures, limit: float, met: bool) -> None:
    assert Threshold("x", "drain", "plain, go", "of ceiling", at_least=limit).is_met(figures) is met


def test_tables_fit_into_the_width_and_leave_no_figure_out(figures: Figures) -> None:
    narrow = list(group_tables(figures, 40))
    assert all(len(line) <= 40 for table in narrow for line in table.splitlines())
    assert sum(table.count("±") for table in narrow) == len(list(figures))


def test_the_table_of_thresholds_says_what_is_not_met(figures: Figures) -> None:
    lines = thresholds_table(figures).splitlines()
    (peak,) = [line for line in lines if "peak memory" in line]
    assert peak.endswith("NOT MET")
    assert any(line.endswith("not measured") for line in lines)


@pytest.mark.parametrize(
    ("value", "text"), [(57_312.4, "57,312"), (0.2941, "0.294"), (5.0, "5.00"), (11.26, "11.3"), (118.4, "118")]
)
def test_numbers_have_about_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_the_picture_is_svg_and_names_every_case(figures: Figures) -> None:
    picture = draw(figures, FULL, "a title with <signs> & more")
    assert picture is not None
    words = [element.text for element in ET.fromstring(picture).iter() if element.text]  # noqa: S314 - ours
    for expected in ("a title with <signs> & more", "plain, go", "mongod plain 300 B", "1,000,000"):
        assert expected in words


def test_there_is_no_picture_of_nothing() -> None:
    assert draw(Figures(), FULL, "") is None
