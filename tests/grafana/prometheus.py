"""A real Prometheus that scrapes replicas and evaluates the rules of this repository, and what it answers."""

from __future__ import annotations

import json
import shutil
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from collector.local.server import Server, http_get

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.local import Replica

RULES = Path(__file__).parents[2] / "grafana" / "prometheus"


class Prometheus(Server):
    """Debian's Prometheus, which looks at everything once a second."""

    name = "prometheus"

    def __init__(self, folder: Path, replicas: Sequence[Replica], *, port: int | None = None) -> None:
        super().__init__(folder, Path(shutil.which("prometheus") or "prometheus"), port=port)
        self._targets = [
            {"targets": [f"127.0.0.1:{replica.port}"], "labels": {"instance": f"collector-{number}"}}
            for number, replica in enumerate(replicas, 1)
        ]

    @property
    def url(self) -> str:
        """Where it answers HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def value(self, expr: str) -> float | None:
        """Return the one number that an expression is now, or None when it has no data."""
        found = self.instant(expr)
        return float(found[0]["value"][1]) if found else None

    def instant(self, expr: str) -> list[dict[str, Any]]:
        """Return the series that an expression has now."""
        found: list[dict[str, Any]] = self._ask("query", query=expr)["result"]
        return found

    def over(self, expr: str, start: float, end: float) -> list[dict[str, Any]]:
        """Return the series of an expression from `start` to `end`, second by second."""
        found: list[dict[str, Any]] = self._ask("query_range", query=expr, start=start, end=end, step=1)["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules as it has read and evaluated them."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def _ask(self, what: str, **parameters: str | float) -> Any:
        status, text = http_get(self.port, f"/api/v1/{what}?{urlencode(parameters)}")
        if status != 200:
            raise ValueError(f"expected {parameters} to be answered, got {status}: {text}")
        return json.loads(text)["data"]

    def _command(self) -> list[str]:
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES / "recording.yml"), str(RULES / "alerts.yml")],
            "scrape_configs": [{"job_name": "collector", "static_configs": self._targets}],
        }
        path = self.folder / "prometheus.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        return [
            str(self.program),
            f"--config.file={path}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]

    def _answers(self) -> bool:
        try:
            return self.alive and http_get(self.port, "/-/ready")[0] == 200
        except (OSError, HTTPException):
            return False
