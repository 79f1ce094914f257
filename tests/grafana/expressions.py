"""The expressions of dashboards and rules, and the metrics that they name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from grafana.metrics_page import exported, exported_name
from grafana.panels import or_no_data
from tests.grafana.prometheus import RULES

DASHBOARDS = sorted((Path(__file__).parents[2] / "grafana" / "dashboards").glob("*.json"))
_NAME = re.compile(r"(?<![\w:])collector_(\w+?)(?:_bucket|_sum|_count)?(?=[{\[()\s'\"]|$)")
_COMPARED = re.compile(r"(==|>)(?= )")
_VARIABLE = re.compile(r"\$\w+")


class Expression(NamedTuple):
    """What a panel asks for."""

    dashboard: str
    panel: str
    expr: str

    @property
    def for_all(self) -> str:
        """As Grafana asks for it when everything is chosen, scraped once a second."""
        return _VARIABLE.sub(".*", self.expr.replace("$__rate_interval", "5s"))


def bare(expr: str) -> str:
    """Return an expression that has its data also while nothing is wrong, and nothing in place of data."""
    before, after = or_no_data("…").split("…")
    number = expr.removeprefix(before).removesuffix(after) if expr.endswith(after) else expr
    return _COMPARED.sub(r"\1 bool", number.removesuffix(" or vector(0)"))


def dashboards() -> list[dict[str, Any]]:
    """Return the committed dashboards."""
    return [json.loads(path.read_text()) for path in DASHBOARDS]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a dashboard without its rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> list[Expression]:
    """Return the expressions of all panels."""
    return [
        Expression(dashboard["uid"], panel["title"], target["expr"])
        for dashboard in dashboards()
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]


def rules_text() -> str:
    """Return the rules without their comments."""
    text = "".join((RULES / name).read_text() for name in ("recording.yml", "alerts.yml"))
    return re.sub(r"^ *#.*$", "", text, flags=re.MULTILINE)


def rule_names(kind: str = "alert|record") -> list[str]:
    """Return the names of the rules of a kind."""
    return re.findall(rf"- (?:{kind}): (\S+)", rules_text())


def metrics_in(text: str) -> set[str]:
    """Return the metrics of the collector that are named; recorded ones have a colon, and are none."""
    return {f"collector_{name}" for name in _NAME.findall(text)}


def metrics_of_the_code() -> set[str]:
    """Return the names of all metrics."""
    return {exported_name(metric) for metric in exported()}
