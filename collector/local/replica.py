"""`collector run` as a process of its own, with its status and metrics."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collector.local.server import Server, ServerDidNotEnd, http_get

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collector.local.servers import Mongod, NatsServer

_OURS = ("COLLECTOR_", "NATS_", "DATABASE", "NAMESPACE", "MODE")
_END_TIMEOUT = 40.0


class Replica(Server):
    """One replica of the collector, with settings of its own and none of the environment's.

    The replica has started when it is ready. Its output goes to `log_path`.
    """

    name = "replica"

    def __init__(
        self,
        folder: Path,
        namespace: str,
        nats: NatsServer,
        mongod: Mongod | None,
        settings: Mapping[str, str],
        *,
        port: int | None = None,
    ) -> None:
        super().__init__(folder, Path(sys.executable), port=port)
        self.log_path = self._output_path
        self._settings = {"NAMESPACE": namespace, "NATS_HOSTS": nats.url, **settings}
        if mongod is not None:
            self._settings.setdefault("DATABASE", mongod.url)

    @property
    def url(self) -> str:
        """The address of its HTTP endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def status(self) -> dict[str, Any]:
        """The answer of /status."""
        status: dict[str, Any] = json.loads(self.get("/status")[1])
        return status

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its children."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(f"{name}{{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of an HTTP answer. Raises OSError or HTTPException when there is none."""
        return http_get(self.port, path)

    def terminate(self) -> None:
        """Ask the replica with SIGTERM to drain and end."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self) -> int:
        """Return the exit status when the replica has ended. Raises ServerDidNotEnd when that takes too long."""
        if self._process is None:
            raise ProcessLookupError(f"expected {self.name} to be started, got one that is not")
        try:
            status = self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise ServerDidNotEnd(f"expected {self.name} to end within {_END_TIMEOUT:.0f} s of its signal") from None
        self._reap()
        return status

    def _command(self) -> list[str]:
        return [str(self.program), "-m", "collector", "run"]

    def _environment(self) -> Mapping[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return {**inherited, "COLLECTOR_HTTP": f"127.0.0.1:{self.port}", "MODE": "release", **self._settings}

    def _answers(self) -> bool:
        try:
            return self.alive and self.get("/readyz")[0] == 200
        except (OSError, HTTPException):
            return False
