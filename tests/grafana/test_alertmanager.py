"""The shipped routes and inhibit rules on a real Alertmanager: one outage is one page, for any number of loggers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from collector.local.server import Server, http_get
from tests.grafana.expressions import rule_names
from tests.grafana.prometheus import RULES
from tests.support.system_packages import needs
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [needs("amtool", "prometheus-alertmanager"), pytest.mark.timeout(180)]
CONFIG = RULES / "alertmanager.yml"
MANY = [f"l{number}" for number in range(300)]
SEVERITIES = dict(
    re.findall(r"- alert: (\w+)\n.*?severity: (\w+)", (RULES / "alerts.yml").read_text(), re.DOTALL),
)


class Receivers(ThreadingHTTPServer):
    """Where pages and tickets go."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.heard: list[tuple[str, str, dict[str, str]]] = []
        """To whom, whether it fires or is resolved, and what the alerts of a notification have in common."""

    def heard_of(self, namespace: str) -> bool:
        """Tell whether anybody was notified of it."""
        return bool(self.of(namespace))

    def of(self, namespace: str) -> Counter[tuple[str, str]]:
        """Return how often who was notified of which alert that fires."""
        return Counter(
            (to, labels["alertname"])
            for to, status, labels in list(self.heard)
            if status == "firing" and labels.get("log_namespace") == namespace
        )


class _Receiver(BaseHTTPRequestHandler):
    server: Receivers

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.heard.append((self.path.removeprefix("/"), said["status"], said["groupLabels"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Alertmanager(Server):
    """Debian's Alertmanager with the shipped configuration, in a hurry."""

    name = "alertmanager"

    def __init__(self, folder: Path, receivers: Receivers) -> None:
        super().__init__(folder, Path(shutil.which("prometheus-alertmanager") or "prometheus-alertmanager"), port=None)
        self._receivers = receivers

    @property
    def url(self) -> str:
        """Where it answers HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def fire(self, namespace: str, alerts: list[dict[str, str]]) -> None:
        """Let these alerts fire."""
        body = [
            {"labels": {"log_namespace": namespace, "severity": SEVERITIES[alert["alertname"]], **alert}}
            for alert in alerts
        ]
        self._post(body)

    def resolve(self, namespace: str, alerts: list[dict[str, str]]) -> None:
        """Let these end."""
        times = {"startsAt": _LONG_AGO, "endsAt": _AGO}
        self._post([{"labels": _labels(namespace, alert), **times} for alert in alerts])

    def _post(self, alerts: list[dict[str, Any]]) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("POST", "/api/v2/alerts", json.dumps(alerts), {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
        connection.close()

    def _command(self) -> list[str]:
        text = CONFIG.read_text().replace("127.0.0.1:9099", f"127.0.0.1:{self._receivers.server_port}")
        hurried = text.replace("group_wait: 30s", "group_wait: 500ms").replace(
            "group_interval: 5m", "group_interval: 1s"
        )
        path = self.folder / "alertmanager.yml"
        path.write_text(hurried)
        return [
            str(self.program),
            f"--config.file={path}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
            "--log.level=error",
        ]

    def _answers(self) -> bool:
        try:
            return self.alive and http_get(self.port, "/-/ready")[0] == 200
        except (OSError, HTTPException):
            return False


def _labels(namespace: str, alert: dict[str, str]) -> dict[str, str]:
    return {"log_namespace": namespace, "severity": SEVERITIES[alert["alertname"]], **alert}


_LONG_AGO, _AGO = "2020-01-01T00:00:00Z", "2020-01-01T00:01:00Z"


@contextmanager
def receiving() -> Iterator[Receivers]:
    with Receivers() as receivers:
        thread = Thread(target=receivers.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield receivers
        receivers.shutdown()
        thread.join()


@pytest.fixture
def receivers() -> Iterator[Receivers]:
    with receiving() as found:
        yield found


@pytest.fixture
def alertmanager(receivers: Receivers) -> Iterator[Alertmanager]:
    with TemporaryDirectory(prefix="alertmanager-") as folder, Alertmanager(Path(folder), receivers) as server:
        yield server


def of_loggers(*names: str, loggers: list[str] = MANY) -> list[dict[str, str]]:
    return [{"alertname": name, "logger": logger} for name in names for logger in loggers]


DOWN = {"alertname": "CollectorDown"}
LATE = ("CollectorLagOld", "CollectorLagGrowing", "CollectorStalled")
OUTAGES: dict[str, tuple[list[dict[str, str]], dict[tuple[str, str], int]]] = {
    "mongodb away": (
        [DOWN, *of_loggers("CollectorWritesFailing", *LATE), {"alertname": "CollectorBufferFull", "instance": "a"}],
        {("page", "CollectorDown"): 1},
    ),
    "nats away": ([DOWN, *of_loggers("CollectorLagUnknown")], {("page", "CollectorDown"): 1}),
    "a long one": (
        [DOWN, *of_loggers(*LATE), *({**one, "limit": "age"} for one in of_loggers("CollectorStreamFilling"))],
        {("page", "CollectorDown"): 1, ("page", "CollectorStreamFilling"): 1},
    ),
    "one logger": (of_loggers("CollectorWritesFailing", *LATE, loggers=["x"]), {("page", "CollectorWritesFailing"): 1}),
    "one logger and another": (
        [
            *of_loggers("CollectorWritesFailing", "CollectorStalled", loggers=["x"]),
            *of_loggers("CollectorStalled", loggers=["y"]),
        ],
        {("page", "CollectorWritesFailing"): 1, ("page", "CollectorStalled"): 1},
    ),
    "half of the loggers": (
        of_loggers("CollectorWritesFailing", *LATE, loggers=MANY[:150]),
        {("page", "CollectorWritesFailing"): 1},
    ),
    "stalled": (of_loggers(*LATE), {("page", "CollectorStalled"): 1}),
    "behind": (of_loggers("CollectorLagOld", "CollectorLagGrowing"), {("page", "CollectorLagOld"): 1}),
    "catching up": ([{"alertname": "CollectorCatchingUp"}, *of_loggers("CollectorLagOld", "CollectorLagGrowing")], {}),
    "catching up, but for one": (
        [
            {"alertname": "CollectorCatchingUp"},
            *of_loggers("CollectorLagOld", "CollectorLagGrowing"),
            *of_loggers("CollectorStalled", loggers=["x"]),
        ],
        {("page", "CollectorStalled"): 1},
    ),
    "one logger catches up": (
        [
            *of_loggers("CollectorCatchingUp", "CollectorLagOld", loggers=["x"]),
            *of_loggers("CollectorLagOld", loggers=["y"]),
        ],
        {("page", "CollectorLagOld"): 1},
    ),
    "small things": (
        [{"alertname": "CollectorReplicaNotReady", "instance": "a"}, {"alertname": "CollectorUndeclaredStream"}],
        {("ticket", "CollectorReplicaNotReady"): 1, ("ticket", "CollectorUndeclaredStream"): 1},
    ),
}


def test_amtool_is_content() -> None:
    found = subprocess.run(["amtool", "check-config", CONFIG], capture_output=True, text=True, timeout=30, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_alert_that_is_named_exists_and_every_severity_goes_somewhere() -> None:
    named = set(re.findall(r"Collector[A-Z]\w+", CONFIG.read_text()))
    assert named <= set(rule_names("alert"))
    assert set(SEVERITIES) == set(rule_names("alert"))
    for alert, severity in SEVERITIES.items():
        words = [
            "amtool",
            "config",
            "routes",
            "test",
            f"--config.file={CONFIG}",
            f"alertname={alert}",
            f"severity={severity}",
        ]
        found = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
        assert found == {"critical": "page", "warning": "ticket", "none": "nobody"}[severity]


def test_no_critical_alert_is_kept_quiet_by_a_warning() -> None:
    for source, targets in re.findall(
        r"source_matchers: \['alertname = \"(\w+)\".*?target_matchers:(.*?)equal", CONFIG.read_text(), re.DOTALL
    ):
        if SEVERITIES[source] == "warning":
            assert {SEVERITIES[one] for one in re.findall(r"Collector\w+", targets)} == {"warning"}


@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_outage_is_one_page(alertmanager: Alertmanager, receivers: Receivers, outage: str) -> None:
    alerts, expected = OUTAGES[outage]
    namespace, other = outage, f"after {outage}"
    alertmanager.fire(namespace, alerts)
    await until(lambda: set(receivers.of(namespace)) >= set(expected), 20)
    await flushed(alertmanager, receivers, other)
    assert receivers.of(namespace) == expected


async def flushed(alertmanager: Alertmanager, receivers: Receivers, after: str) -> None:
    """Wait until everything that fires is said: one alert after the other has waited for its group, and been heard."""
    for number in range(3):
        namespace = f"{after} {number}"
        alertmanager.fire(namespace, [DOWN])
        await until(partial(receivers.heard_of, namespace), 20)


async def test_the_end_of_an_outage_is_no_new_one(alertmanager: Alertmanager, receivers: Receivers) -> None:
    late, catching_up = of_loggers("CollectorLagOld", "CollectorLagGrowing"), {"alertname": "CollectorCatchingUp"}
    alertmanager.fire("ends", [DOWN, catching_up, *late])
    await until(lambda: bool(receivers.of("ends")), 20)
    alertmanager.resolve("ends", [DOWN])
    await until(
        lambda: (
            ("page", "resolved")
            in {(to, what) for to, what, of in receivers.heard if of.get("log_namespace") == "ends"}
        ),
        20,
    )
    await flushed(alertmanager, receivers, "after the end")
    assert receivers.of("ends") == {("page", "CollectorDown"): 1}
