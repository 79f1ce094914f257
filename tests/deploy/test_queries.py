"""The queries of the recipes, asked of a real Prometheus that scrapes two real replicas: one number, the true one."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from bench.autoscale.replicas import reading
from collector.local import Replica
from tests.deploy.manifests import KUBERNETES, document
from tests.grafana.prometheus import Prometheus
from tests.support.ancestor import ancestor, entry
from tests.support.system_packages import needs
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from collector.local import Mongod, NatsServer

pytestmark = [needs("prometheus"), pytest.mark.timeout(300)]

WAITING = {"orders": 200, "web": 100}
LAG = float(sum(WAITING.values()))


@pytest.fixture
async def watched(
    own_nats: Callable[[], NatsServer], own_mongod: Callable[[], Mongod], namespace: str
) -> AsyncIterator[tuple[Prometheus, list[Replica]]]:
    """Give two replicas that know of 300 messages and cannot write one, and the Prometheus that watches them."""
    nats, mongod = own_nats(), own_mongod()
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(TemporaryDirectory(prefix="deploy-"))) for _ in range(3)]
        settings = {"COLLECTOR_LAG_PERIOD": "200ms"}
        replicas = [Replica(folder, namespace, nats, mongod, settings) for folder in folders[:2]]
        for server in (*replicas, prometheus := Prometheus(folders[2], replicas)):
            stack.enter_context(server)
        async with ancestor(nats.url, namespace) as go:
            await go.declare(*WAITING)
            await until(lambda: all(one.metric("collector_lag_refresh_timestamp_seconds") for one in replicas), 30)
            mongod.pause()
            stack.callback(mongod.resume)
            for key, messages in WAITING.items():
                await go.publish(key, (entry(number) for number in range(messages)))
        yield prometheus, replicas


async def test_every_query_is_the_lag_once_however_many_replicas_report_it(
    watched: tuple[Prometheus, list[Replica]], namespace: str
) -> None:
    prometheus, replicas = watched
    await until(lambda: prometheus.value("sum(collector_lag_messages)") == len(replicas) * LAG, 30)
    query = trigger("keda-prometheus")["query"]
    assert prometheus.value(query.replace('"logs"', f'"{namespace}"')) == LAG
    (rule,) = document(KUBERNETES / "hpa-prometheus-adapter" / "adapter.yaml")["rules"]["external"]
    query = rule["metricsQuery"].replace("<<.Series>>", rule["seriesQuery"])
    assert prometheus.value(query.replace("<<.LabelMatchers>>", f'log_namespace="{namespace}"')) == LAG


async def test_every_replica_answers_the_whole_backlog(
    watched: tuple[Prometheus, list[Replica]], namespace: str
) -> None:
    _, replicas = watched
    place = trigger("keda-metrics-api")["valueLocation"].replace('"logs"', f'"{namespace}"')
    await until(lambda: [reading(replica, place) for replica in replicas] == [LAG] * 2, 30)


async def test_without_replicas_the_answer_is_empty_and_not_0(
    watched: tuple[Prometheus, list[Replica]], namespace: str
) -> None:
    prometheus, replicas = watched
    query = trigger("keda-prometheus")["query"].replace('"logs"', f'"{namespace}"')
    await until(lambda: prometheus.value(query) == LAG, 30)
    for replica in replicas:
        replica.kill()
    await until(lambda: prometheus.value(query) is None, 30)


def trigger(variant: str) -> dict[str, Any]:
    (one,) = document(KUBERNETES / variant / "scaler.yaml")["spec"]["triggers"]
    return dict(one["metadata"])
