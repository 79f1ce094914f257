"""What every number of the dashboards says in every kind of outage: the truth, or that there are no data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from grafana.panels import GREEN, NEUTRAL, NEVER, ORANGE, RED
from tests.grafana.expressions import dashboards, panels
from tests.grafana.outages import OUTAGES, evaluated, played
from tests.support.system_packages import needs

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [needs("promtool"), pytest.mark.timeout(180)]
NONE = "no data"


_LAG = {"Oldest message", "Time to drain", "Stalled loggers", "Ack pending", "Stuck messages"}
_SERVER = {*_LAG, "Backlog", "Stream filled", "JetStream filled", "Undeclared messages"}
"""What is read from NATS."""
_OF_REPLICAS = {
    *("NATS connected", "MongoDB connected", "Failing loggers", "Misconfigured", "Pipelines in trouble", "Received"),
    *(
        "Failing writes",
        "Written",
        "Restarts, 15 min",
        "Fullest buffer",
        "Lag unknown",
        "Bucket missing",
        "Unreadable declarations",
    ),
}
_LATENCY = "Delivery latency, p95"
_STANDS = {"Oldest message": RED, "Time to drain": "never", "Stalled loggers": RED}
_FAILS = {**_STANDS, "Failing loggers": RED, "Failing writes": RED, "Pipelines in trouble": ORANGE}
OTHER_THAN_CALM: dict[str, dict[str, str]] = {
    "none": {},
    "mongodb away": {**_FAILS, "Replicas ready": RED, "MongoDB connected": RED, _LATENCY: NONE},
    "no majority": {**_FAILS, "Replicas ready": RED, _LATENCY: NONE},
    "nats away": {
        **dict.fromkeys(_SERVER, NONE),
        "Replicas ready": RED,
        "NATS connected": RED,
        "Lag unknown": RED,
        _LATENCY: NONE,
    },
    "collector down": {**dict.fromkeys(_SERVER | _OF_REPLICAS, NONE), "Replicas ready": RED, _LATENCY: NONE},
    "one replica down": {},
    "insert revoked for one replica": {
        "Oldest message": RED,
        "Time to drain": RED,
        "Failing loggers": RED,
        "Pipelines in trouble": ORANGE,
    },
    "one logger failing": _FAILS,
    "one logger misconfigured": {**_STANDS, "Misconfigured": ORANGE, "Pipelines in trouble": ORANGE},
    "jetstream full": {"Stream filled": RED, "JetStream filled": RED},
    "no limits": {"Stream filled": NONE, "JetStream filled": NONE},
    "an undeclared stream": {"Undeclared messages": ORANGE},
    "bucket missing": {"Bucket missing": RED},
    "prometheus restarted": dict.fromkeys({"Received", "Written", "Restarts, 15 min", _LATENCY}, NONE),
    "event loops stuck": {**dict.fromkeys(_SERVER, NONE), "Replicas ready": RED, "Lag unknown": RED, _LATENCY: NONE},
    "no loggers": dict.fromkeys(
        {*_LAG, "Stream filled", "Failing writes", "Received", "Written", "Fullest buffer", _LATENCY}, NONE
    ),
}
"""What is neither green nor without a color; all other numbers are."""


@pytest.mark.parametrize("outage", OUTAGES)
def test_every_number_tells_the_truth_in_an_outage(outage: str, tmp_path: Path) -> None:
    assert judged(outage, tmp_path) == OTHER_THAN_CALM[outage]


def judged(outage: str, folder: Path) -> dict[str, str]:
    """Return what each number is that is not as it is when all is well: its color, never, or without data."""
    numbers = {
        panel["title"]: panel for dashboard in dashboards() for panel in panels(dashboard) if panel["type"] == "stat"
    }
    exprs = [_for_all(panel["targets"][0]["expr"]) for panel in numbers.values()]
    values = evaluated(played(OUTAGES[outage]), exprs, folder)
    colors = {title: _color(panel, value) for (title, panel), value in zip(numbers.items(), values, strict=True)}
    return {title: color for title, color in colors.items() if color not in (GREEN, NEUTRAL)}


def _for_all(expr: str) -> str:
    for variable in ("job", "instance", "log_namespace", "logger"):
        expr = expr.replace(f"${variable}", ".*")
    return expr.replace("$__rate_interval", "1m")


def _color(panel: dict[str, Any], value: float | None) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    if value is None or math.isnan(value):
        raise ValueError(f"expected a number of {panel['title']}, whatever happens, got {value}")
    if value < 0:
        (mapped,) = [one["options"] for one in defaults["mappings"] if one["type"] == "value"]
        assert mapped[f"{value:.0f}"] == {"text": NONE, "color": NEUTRAL}
        return NONE
    if value >= NEVER:
        return "never"
    steps = defaults["thresholds"]["steps"]
    return str([step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1])
