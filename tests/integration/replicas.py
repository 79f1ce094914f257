"""Replicas of the collector as processes of their own, run as a user runs them, and what is found in MongoDB."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from collector.local import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from collector.local import Mongod, NatsServer


class Replica(Server):
    """`collector run` against given servers; it answers when it is ready."""

    name = "replica"

    def __init__(
        self, folder: Path, namespace: str, nats: NatsServer, mongod: Mongod, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder, Path(sys.executable), port=None)
        self.variables = {
            "NAMESPACE": namespace,
            "NATS_HOSTS": nats.url,
            "DATABASE": mongod.url,
            "MODE": "release",
            **(settings or {}),
        }

    @property
    def url(self) -> str:
        """Where it answers HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        return [str(self.program), "-m", "collector", "run"]

    def _environment(self) -> Mapping[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COLLECTOR_", "NATS_"))}
        return {**inherited, "COLLECTOR_HTTP": f"127.0.0.1:{self.port}", **self.variables}

    def _answers(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, str]:
        """Return the status and the text of an answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    @property
    def status(self) -> dict[str, Any]:
        """What /status says."""
        found: dict[str, Any] = json.loads(self.get("/status")[1])
        return found

    def state(self, key: str) -> str:
        """Return the state of a logger, or `none`."""
        return str(self.status["loggers"].get(key, {}).get("state", "none"))

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its children."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(f"{name}{{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def terminate(self) -> tuple[int, float]:
        """Send SIGTERM; return exit status and seconds until it had ended."""
        process, started = self._process, time.monotonic()
        assert process is not None
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
        return status, time.monotonic() - started

    @property
    def output(self) -> str:
        """All that it wrote."""
        return self._output_path.read_text()


async def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for what another process does; return how long it took, fail when it takes too long."""
    started = time.monotonic()
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - nobody in this process could set an event
            await anyio.sleep(0.01)
    return time.monotonic() - started
