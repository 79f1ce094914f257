"""The manifests and the service fit together: ports, paths, variables, secrets, deadlines, metrics and queries."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from bench.autoscale.recipe import Recipe
from collector.settings import MIB, Settings
from collector.telemetry.failing import FAILING_AFTER
from tests.deploy.manifests import BASE, INSTALL, KUBERNETES, SCALERS, VARIANTS, built, document, metric_names, missing
from tests.support.logins import USER
from tests.support.system_packages import needs
from transfer.environment import parse_duration, parse_size
from transfer.jetstream.durable_needs import MAX_ACK_PENDING
from transfer.names import Names

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [path.parent.name for path in SCALERS]
LABELS = {"app.kubernetes.io/name": "collector"}
FLEET = "max(collector_backlog_messages)"
"""What waits for all loggers: the same on every replica, and absent while it is unknown of any logger."""
SELECTOR = re.compile(r"\{[^}]*\}")


def deployment() -> dict[str, Any]:
    spec: dict[str, Any] = document(BASE / "deployment.yaml")["spec"]
    return spec


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = deployment()["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    (one,) = pod()["containers"]
    return dict(one)


def config() -> dict[str, str]:
    (generated,) = document(BASE / "kustomization.yaml")["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in generated["literals"])


def environment() -> dict[str, str]:
    return config() | {one["name"]: one["value"] for one in container()["env"]}


class Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def asked(folder: Path) -> tuple[Settings, Asked]:
    """Read the settings from the environment of the manifest, with its secrets in files of the test."""
    environ = Asked(environment())
    for name, value in {"DATABASE_FILE": "mongodb://mongodb/?replicaSet=rs0", "NATS_NKEY_FILE": USER.seed}.items():
        path = folder / environ[name].rpartition("/")[2]
        path.write_text(value)
        environ[name] = str(path)
    return Settings.read(environ), environ


def settings(folder: Path) -> Settings:
    return asked(folder)[0]


def test_the_service_starts_with_the_environment_of_the_deployment(tmp_path: Path) -> None:
    read, environ = asked(tmp_path)
    assert read.nats.nkey is not None
    assert (read.namespace, read.release, read.nats.nkey.read()) == ("logs", True, USER.seed)
    assert environ.keys() <= environ.names, "a variable that the service does not read"


def test_secrets_come_as_files_of_the_mounted_secret() -> None:
    (volume,) = pod()["volumes"]
    (mount,) = container()["volumeMounts"]
    assert (volume["name"], volume["secret"]["secretName"]) == (mount["name"], "collector")
    assert mount["readOnly"]
    files = [value for name, value in environment().items() if name.endswith("_FILE")]
    assert files == [f"{mount['mountPath']}/{key}" for key in ("database", "nats-nkey")]
    assert not {"DATABASE", "NATS_NKEY", "NATS_TOKEN", "NATS_PASSWORD"} & environment().keys()


def test_probes_ask_the_port_and_the_paths_that_the_service_has() -> None:
    (port,) = container()["ports"]
    assert config()["COLLECTOR_HTTP"] == f"0.0.0.0:{port['containerPort']}"
    probes = {name: container()[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz",
    }


def test_the_grace_period_is_60_seconds_above_the_services_own_deadline() -> None:
    deadline = parse_duration(config()["COLLECTOR_SHUTDOWN_TIMEOUT"])
    assert pod()["terminationGracePeriodSeconds"] == deadline + 60


def test_the_scaler_alone_says_how_many_replicas() -> None:
    assert "replicas" not in deployment()


def test_memory_is_limited_above_the_ceiling_and_cpu_is_not(tmp_path: Path) -> None:
    resources = container()["resources"]
    assert resources["limits"].keys() == {"memory"}
    limit = parse_size(f"{resources['limits']['memory']}B")
    assert limit >= settings(tmp_path).buffer_bytes + 120 * MIB
    assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_the_container_may_do_nothing_that_it_does_not_need() -> None:
    own = container()["securityContext"]
    assert own == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    all_of_it = pod()["securityContext"]
    assert all_of_it["runAsNonRoot"]
    assert all_of_it["seccompProfile"] == {"type": "RuntimeDefault"}
    dockerfile = (KUBERNETES.parents[1] / "Dockerfile").read_text()
    assert f"USER {all_of_it['runAsUser']}:{all_of_it['runAsGroup']}" in dockerfile
    assert not pod()["automountServiceAccountToken"]
    assert pod()["serviceAccountName"] == document(BASE / "service-account.yaml")["metadata"]["name"]


def test_whatever_selects_selects_these_pods_and_no_others() -> None:
    assert deployment()["template"]["metadata"]["labels"] == LABELS
    budget, policy = document(BASE / "disruption-budget.yaml")["spec"], document(BASE / "network-policy.yaml")["spec"]
    monitor = document(BASE / "pod-monitor.yaml")["spec"]
    service = document(KUBERNETES / "keda-metrics-api" / "service.yaml")["spec"]
    selectors = [deployment()["selector"], budget["selector"], policy["podSelector"], monitor["selector"]]
    assert [selector["matchLabels"] for selector in selectors] == [LABELS] * 4
    assert service["selector"] == LABELS
    assert budget["maxUnavailable"] == 1
    assert monitor["jobLabel"] in LABELS


def test_a_rollout_waits_until_a_replica_whose_writes_fail_is_unready(tmp_path: Path) -> None:
    spec = deployment()
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    probe = container()["readinessProbe"]
    noticed = settings(tmp_path).write_timeout + FAILING_AFTER + probe["periodSeconds"] * probe["failureThreshold"]
    assert spec["minReadySeconds"] > noticed


@pytest.mark.parametrize("scaler", SCALERS, ids=NAMES)
def test_all_recipes_scale_the_same_way(scaler: Path) -> None:
    recipe = Recipe.read(scaler)
    up, down = recipe.up.policies[0], recipe.down.policies[0]
    assert (recipe.up.window, up.value, up.period) == (0, 100, 30)
    assert (recipe.down.window, down.value, down.period) == (300, 25, 60)
    assert recipe.least == (0 if scaler.parent.name == "scale-to-zero" else 2)
    assert document(scaler)["spec"]["scaleTargetRef"]["name"] == document(BASE / "deployment.yaml")["metadata"]["name"]


@pytest.mark.parametrize("scaler", SCALERS, ids=NAMES)
def test_the_threshold_is_what_its_comment_computes(scaler: Path) -> None:
    found = re.search(r"delay that is accepted: ([\d,]+) messages a second in (\d+) s\.", scaler.read_text())
    assert found is not None
    assert Recipe.read(scaler).threshold == int(found[1].replace(",", "")) * int(found[2])


@pytest.mark.parametrize("scaler", SCALERS, ids=NAMES)
def test_what_all_replicas_hold_stays_below_max_ack_pending(scaler: Path, tmp_path: Path) -> None:
    read = settings(tmp_path)
    assert Recipe.read(scaler).most * read.batch_entries * (read.writes + 2) < MAX_ACK_PENDING


@pytest.mark.parametrize("variant", ["keda-prometheus", "keda-metrics-api", "scale-to-zero"])
def test_an_outage_of_what_is_asked_is_never_read_as_no_lag(variant: str) -> None:
    spec = document(KUBERNETES / variant / "scaler.yaml")["spec"]
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
    (asked_for,) = spec["triggers"]
    assert asked_for["metricType"] == "AverageValue"
    assert asked_for["type"] == "metrics-api" or asked_for["metadata"]["ignoreNullValues"] == "false"


def trigger(variant: str) -> dict[str, str]:
    (one,) = document(KUBERNETES / variant / "scaler.yaml")["spec"]["triggers"]
    return dict(one["metadata"])


def test_the_queries_are_the_fleet_query_for_the_namespace_of_the_deployment() -> None:
    query = trigger("keda-prometheus")["query"]
    assert SELECTOR.sub("", query) == FLEET
    assert SELECTOR.findall(query) == [f'{{log_namespace="{config()["NAMESPACE"]}"}}']
    (rule,) = document(KUBERNETES / "hpa-prometheus-adapter" / "adapter.yaml")["rules"]["external"]
    assert rule["metricsQuery"].replace("<<.Series>>{<<.LabelMatchers>>}", rule["seriesQuery"]) == FLEET
    (metric,) = document(KUBERNETES / "hpa-prometheus-adapter" / "scaler.yaml")["spec"]["metrics"]
    assert metric["external"]["metric"] == {
        "name": rule["name"]["as"],
        "selector": {"matchLabels": {"log_namespace": config()["NAMESPACE"]}},
    }
    assert metric["external"]["target"]["type"] == "AverageValue"


def test_a_metric_that_is_asked_for_is_one_that_a_replica_exports() -> None:
    wanted = {name for scaler in SCALERS for name in re.findall(r"collector_[a-z_]+(?=\{)", scaler.read_text())}
    assert wanted == {"collector_backlog_messages"}
    assert wanted <= metric_names()


def test_any_replica_is_asked_through_the_service_on_the_port_of_the_container() -> None:
    given = trigger("keda-metrics-api")
    (port,) = document(KUBERNETES / "keda-metrics-api" / "service.yaml")["spec"]["ports"]
    assert given["url"].endswith(f":{port['port']}/metrics")
    assert port["targetPort"] == container()["ports"][0]["name"]
    assert given["format"] == "prometheus"


def test_scale_to_zero_counts_what_the_leaders_hold_of_the_streams_of_the_namespace() -> None:
    query = trigger("scale-to-zero")["query"]
    assert query.startswith('sum(jetstream_stream_total_messages{is_stream_leader="true",')
    (streams,) = set(re.findall('stream_name=~"(.+?)"', query))
    names = Names(config()["NAMESPACE"])
    assert re.fullmatch(streams, names.stream("orders"))
    assert not re.fullmatch(streams, f"KV_{names.bucket}")
    assert not re.fullmatch(streams, Names("other").stream("orders"))


_EXPORTED = {
    "two streams, three servers": {
        ("n1", "a", "true"): "7x90",
        ("n2", "a", "false"): "9x90",
        ("n2", "b", "true"): "5x90",
        ("n3", "b", "false"): "0x90",
    },
    "the leader moves": {
        ("n1", "a", "true"): "7x50 stale",
        ("n1", "a", "false"): "_x51 7x40",
        ("n2", "a", "false"): "7x50 stale",
        ("n2", "a", "true"): "_x51 8x40",
    },
    "a stream loses its leader": {
        ("n1", "a", "true"): "1000000x50 stale",
        ("n1", "a", "false"): "_x51 1000000x40",
        ("n2", "b", "true"): "5x90",
    },
    "the only server of a stream is away": {("n1", "a", "true"): "1000000x50 stale", ("n2", "b", "true"): "5x90"},
    "all servers are away": {("n1", "a", "true"): "7x50 stale"},
    "all is empty": {("n1", "a", "true"): "0x90"},
}


@needs("promtool")
@pytest.mark.parametrize(
    ("story", "answer"), list(zip(_EXPORTED, (12, 8, None, None, None, 0), strict=True)), ids=list(_EXPORTED)
)
def test_scale_to_zero_has_no_answer_while_the_sum_would_lack_a_stream(
    story: str, answer: int | None, tmp_path: Path
) -> None:
    series = [
        {
            "series": "jetstream_stream_total_messages{"
            f'server="{server}", stream_name="logs:logs:{stream}", is_stream_leader="{leads}"}}',
            "values": values,
        }
        for (server, stream, leads), values in _EXPORTED[story].items()
    ]
    wanted = [] if answer is None else [{"labels": "{}", "value": answer}]
    asked = [{"expr": trigger("scale-to-zero")["query"], "eval_time": "80m", "exp_samples": wanted}]
    (tmp_path / "case.yml").write_text(
        json.dumps({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": asked}]})
    )
    found = subprocess.run(
        ["promtool", "test", "rules", "case.yml"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("folder", VARIANTS, ids=lambda folder: folder.name)
def test_kustomize_builds_it_and_all_of_the_base_is_in_it(folder: Path) -> None:
    kinds = {one["kind"] for one in built(folder)}
    assert kinds >= {"ServiceAccount", "Deployment", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor", "ConfigMap"}
    assert len({"ScaledObject", "HorizontalPodAutoscaler"} & kinds) == (folder != BASE)


def test_the_overlay_of_the_documentation_sets_what_it_says(tmp_path: Path) -> None:
    page = (KUBERNETES.parents[1] / "docs" / "operations.md").read_text()
    (overlay,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    shutil.copytree(KUBERNETES, tmp_path / "deploy" / "kubernetes")
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "kustomization.yaml").write_text(overlay)
    made = {one["kind"]: one for one in built(tmp_path / "overlay")}
    assert made["ConfigMap"]["data"] == config() | {"NAMESPACE": "shop", "NATS_HOSTS": "nats://nats.nats:4222"}
    (only,) = made["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert only["image"] == "registry.example.com/transfer-collector:0.1.0"
    assert only["envFrom"] == [{"configMapRef": {"name": made["ConfigMap"]["metadata"]["name"]}}]
    scaler = made["ScaledObject"]["spec"]
    assert scaler["maxReplicaCount"] == 12
    assert scaler["triggers"][0]["metadata"]["threshold"] == "600000"
    assert 'log_namespace="shop"' in scaler["triggers"][0]["metadata"]["query"]
    assert {one["metadata"]["namespace"] for one in made.values()} == {"logging"}


def test_keda_may_ask_and_the_rest_of_the_network_policy_stays() -> None:
    made, base = (
        next(one["spec"] for one in built(folder) if one["kind"] == "NetworkPolicy")
        for folder in (KUBERNETES / "keda-metrics-api", BASE)
    )
    (allowed,) = made["ingress"]
    places = [one["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for one in allowed["from"]]
    assert places == ["monitoring", "keda"]
    assert {**made, "ingress": base["ingress"]} == base


@pytest.mark.parametrize("folder", VARIANTS, ids=lambda folder: folder.name)
def test_kubernetes_own_schemas_take_it(folder: Path) -> None:
    if not find_spec("kubernetes_validate"):
        missing("kubernetes-validate", INSTALL)
    validate = import_module("kubernetes_validate").validate  # large: only .ci/run installs it
    for one in built(folder):
        if one["kind"] not in {"ScaledObject", "PodMonitor"}:
            validate(one, "1.34", strict=True)
