"""Every expression of dashboards and rules has data in a real Prometheus that watches two replicas in trouble."""

from __future__ import annotations

import math
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from anyio import create_task_group, to_thread

from tests.grafana.expressions import bare, expressions, rule_names
from tests.grafana.stage import MISSING, NAMESPACE, Stage, stage
from tests.support.system_packages import needs
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.grafana.prometheus import Prometheus

pytestmark = needs("prometheus", "promtool")


@dataclass(frozen=True, slots=True)
class Played:
    """What Prometheus saw from `start` to `end`, while there was load; after that the replicas stopped."""

    prometheus: Prometheus
    start: float
    end: float
    exported: str
    """/metrics of a replica under load."""
    rules: list[dict[str, Any]]
    """As Prometheus had read and evaluated them by then."""

    def values(self, expr: str) -> list[float]:
        """Return all numbers that an expression had."""
        found = self.prometheus.over(expr, self.start, self.end)
        return [number for series in found for _, text in series["values"] if not math.isnan(number := float(text))]


@pytest.fixture(scope="module")
async def played(anyio_backend: str) -> AsyncIterator[Played]:
    """Play once for all tests: load, poison, MongoDB hangs, a replica dies, NATS restarts, and at last all stop."""
    async with stage() as one:
        await _seen(one, "count(collector_build_info) == 2")
        start = time.time()
        await _play(one)
        end = time.time()
        exported = one.replicas[0].get("/metrics")[1]
        rules = one.prometheus.rules()
        for replica in one.replicas:
            await to_thread.run_sync(replica.stop)
        await _seen(one, "absent(collector_build_info)")
        yield Played(one.prometheus, start, end, exported, rules)


async def _play(one: Stage) -> None:
    dying = one.replicas[0]
    async with create_task_group() as group:
        group.start_soon(one.publish)
        await _seen(one, "sum(collector_dead_lettered_entries_total) > 0")
        one.servers.mongod.pause()
        try:
            await _seen(one, "sum(collector_retries_total) > 0")
        finally:
            one.servers.mongod.resume()
        await _seen(one, "sum(rate(collector_written_entries_total[3s])) > 0")
        await to_thread.run_sync(dying.kill)
        await _seen(one, "sum(collector_redelivered_messages_total) > 0")
        await to_thread.run_sync(dying.start)
        await to_thread.run_sync(one.servers.nats.restart)
        await _seen(one, "count(collector_nats_reconnects_total > 0) == 2")
        await _seen(one, "count(rate(collector_delivery_latency_seconds_count[3s]) > 0) > 4")
        await _seen(one, "count(rate(collector_archive_store_seconds_count[5s]) > 0)")
        group.cancel_scope.cancel()


async def _seen(one: Stage, expr: str) -> None:
    await until(lambda: one.prometheus.value(expr) is not None, 20)


def test_every_expression_of_a_panel_has_data(played: Played) -> None:
    asked = expressions()
    assert len(asked) > 90
    without = [found.expr for found in asked if not played.values(bare(found.for_all))]
    assert all("collector_dropped_entries_total" in expr for expr in without)  # no spec can state a rule yet


def test_prometheus_evaluates_every_rule_and_its_expression_has_data(played: Played) -> None:
    assert {rule["name"] for rule in played.rules} == set(rule_names())
    assert [rule for rule in played.rules if rule["health"] != "ok" or rule.get("lastError")] == []
    without = {rule["name"] for rule in played.rules if not played.values(bare(rule["query"]))}
    assert without == {"CollectorDown", "CollectorJetStreamServerFilling", "CollectorCatchingUp"}


def test_down_is_true_when_the_last_replica_has_stopped(played: Played) -> None:
    (down,) = [rule for rule in played.rules if rule["name"] == "CollectorDown"]
    assert [series["metric"] for series in played.prometheus.instant(down["query"])] == [{"log_namespace": NAMESPACE}]


def test_dead_letters_fire_and_the_logger_without_a_stream_is_unknown(played: Played) -> None:
    alerts = [(rule["name"], alert) for rule in played.rules for alert in rule.get("alerts", [])]
    assert {alert["labels"]["logger"] for name, alert in alerts if name == "CollectorLagUnknown"} == {MISSING}
    (letters,) = [alert for name, alert in alerts if name == "CollectorDeadLetters"]
    assert letters["state"] == "firing"
    assert letters["annotations"]["summary"] == f"{NAMESPACE}/orders has new dead letters: malformed."


def test_promtool_finds_nothing_wrong_with_the_metrics(played: Played) -> None:
    found = subprocess.run(
        ["promtool", "check", "metrics"], input=played.exported, capture_output=True, text=True, timeout=20, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
