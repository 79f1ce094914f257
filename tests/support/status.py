"""The status of a replica in a test, and an endpoint that serves it."""

from __future__ import annotations

from contextlib import contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from collector import events
from collector.events import State, lifecycle
from collector.events.readings import Declared
from collector.telemetry.endpoint import serving
from collector.telemetry.metrics import Metrics
from collector.telemetry.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

UP = (
    lifecycle.ConnectionChanged("nats", connected=True, why="connected"),
    lifecycle.ConnectionChanged("mongodb", connected=True),
    Declared(),
)


class Scene:
    """A status with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.status = Status("beta", "1.2.3", clock=lambda: self.now, buffer_limit=1024)
        self.metrics = Metrics("beta", "1.2.3", 1024)
        self.address = ("", 0)

    def observe(self, *several: events.Event) -> None:
        for event in several:
            self.status.observe(event)

    def get(self, path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
        connection = HTTPConnection(*self.address, timeout=5)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode(), dict(response.getheaders())
        finally:
            connection.close()


@contextmanager
def served(host: str = "127.0.0.1") -> Iterator[Scene]:
    found = Scene()
    with serving((host, 0), found.metrics, found.status) as found.address:
        yield found


def crashed(attempt: int, delay: float, logger: str | None = "a") -> events.Crashed:
    if logger is None:
        return events.Crashed("registry", None, attempt, delay, ("ValueError('boom')",))
    return events.Crashed("pipeline", logger, attempt, delay, ("ValueError('boom')",), State.BACKING_OFF)
