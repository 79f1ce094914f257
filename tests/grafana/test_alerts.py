"""Alerts and recording rules by promtool, and what belongs to every alert: cases, runbook, the dashboards' colors."""

from __future__ import annotations

import re
import subprocess

import pytest

from grafana.thresholds import THRESHOLDS
from tests.grafana.expressions import rule_names
from tests.grafana.prometheus import RULES
from tests.support.system_packages import needs

ALERTS = rule_names("alert")
CASES = (RULES / "alerts_test.yml").read_text()
every_alert = pytest.mark.parametrize("alert", ALERTS)


@needs("promtool")
@pytest.mark.parametrize(
    ("what", "files"),
    [("check", ["recording.yml", "alerts.yml"]), ("test", ["recording_test.yml", "alerts_test.yml"])],
)
def test_promtool_is_content(what: str, files: list[str]) -> None:
    found = subprocess.run(
        ["promtool", what, "rules", *files], cwd=RULES, capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


@every_alert
def test_an_alert_has_cases_that_fire_and_cases_that_do_not(alert: str) -> None:
    looks = re.findall(rf"- alertname: {alert}\n +eval_time: \S+\n +exp_alerts:(.*)", CASES)
    assert " []" in looks
    assert "" in looks


@every_alert
def test_an_alert_leads_to_its_runbook(alert: str) -> None:
    assert f"runbook_url: docs/runbooks.md#{alert.lower()}\n" in _rule(alert)


@pytest.mark.parametrize(("alert", "threshold"), THRESHOLDS.items())
def test_an_alert_fires_from_where_the_dashboards_are_red(alert: str, threshold: float) -> None:
    assert re.search(rf"> {threshold}$", _rule(alert), re.MULTILINE)


def _rule(alert: str) -> str:
    """Return the text of an alert's rule."""
    text = (RULES / "alerts.yml").read_text()
    return text.partition(f"- alert: {alert}\n")[2].partition("- alert: ")[0]
