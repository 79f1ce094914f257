"""The dashboards as they are committed: generated, complete, and about metrics that there are."""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from grafana.files import FILES
from grafana.metrics_page import exported, exported_name
from grafana.panels import PER_MINUTE, PER_SECOND
from tests.grafana.expressions import (
    dashboards,
    expressions,
    metrics_in,
    metrics_of_the_code,
    panels,
    rules_text,
)

if TYPE_CHECKING:
    from pathlib import Path

ROWS = ["Now", "Lag", "Flow", "Batches", "Archive", "Saturation, by replica", "Supervision"]
VARIABLES = ["datasource", "job", "instance", "log_namespace", "logger"]
UNITS = {"short", "s", "bytes", "Bps", "percentunit", PER_SECOND, PER_MINUTE}
every_dashboard = pytest.mark.parametrize("dashboard", dashboards(), ids=lambda found: str(found["uid"]))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_committed_is_what_the_script_makes(path: Path) -> None:
    assert path.read_text() == FILES[path](), "make dashboards"


@every_dashboard
def test_a_dashboard_cannot_be_edited_and_has_the_rows_in_the_order_of_the_data(dashboard: dict[str, Any]) -> None:
    assert 39 <= dashboard["schemaVersion"] <= 41
    assert dashboard["editable"] is False
    assert [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"] == ROWS
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == VARIABLES


@every_dashboard
def test_every_panel_says_what_it_shows_and_in_which_unit(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        several = len(panel["targets"]) > 1
        assert all(target["legendFormat"] for target in panel["targets"]) or not several, panel["title"]


@every_dashboard
def test_no_panel_lies_on_another_and_every_id_is_there_once(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for one, other in combinations([panel["gridPos"] for panel in dashboard["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"], (one, other)
        assert one["x"] + one["w"] <= 24


@every_dashboard
def test_a_panel_has_one_series_of_a_logger(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        of_loggers = [target for target in panel["targets"] if "{{logger}}" in target["legendFormat"]]
        assert len(of_loggers) <= 1, panel["title"]
        assert all(target["expr"].startswith("topk(10, ") for target in of_loggers), panel["title"]


def test_every_metric_that_is_named_exists_and_every_one_that_exists_is_used() -> None:
    named = metrics_in(rules_text()).union(*(metrics_in(found.expr) for found in expressions()))
    assert named == metrics_of_the_code()


def test_of_a_gauge_that_is_the_same_on_every_replica_the_maximum_is_taken_before_anything_else() -> None:
    gauges = [exported_name(metric) for metric in exported() if "(same" in metric.documentation]
    for expr in [*(found.expr for found in expressions()), *re.findall("expr:(.*?)\n\n", rules_text(), re.DOTALL)]:
        for gauge in gauges:
            for before in re.split(rf"(?<![\w:]){gauge}\b", expr)[:-1]:
                taken = re.search(
                    r"(max|count) by \(log_namespace[^)]*\) \($|(min_over_time|predict_linear|max)\($", before
                )
                assert taken or gauge == "collector_backlog_messages", expr
