"""The endpoint of `collector archive run`: metrics and status of its captures, each shown like a logger of its name."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog
from anyio import current_time, sleep

from collector.archive.recording import PERIOD, Recorder
from collector.events import lifecycle
from collector.events.readings import Declared
from collector.telemetry.endpoint import serving
from collector.telemetry.metrics import Metrics
from collector.telemetry.observers import Observers
from collector.telemetry.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collector.archive.running import Running
    from collector.events import Event, Report

NAMESPACE = "archive"
"""The label `log_namespace` of captures, which belong to no namespace of loggers."""
_PULSE = 1.0


@dataclass(frozen=True, slots=True)
class Observed:
    """The captures of this process, and who is told of them."""

    report: Report
    not_ready: Callable[[], list[str]]
    recorders: list[tuple[Recorder, Running]]

    async def pulse(self) -> None:
        """Measure the delay of the event loop once a second, and now and then sample all captures; it never ends."""
        sampled = 0.0
        while True:
            before = current_time()
            await sleep(_PULSE)
            self.report(lifecycle.LoopLag(max(0.0, current_time() - before - _PULSE)))
            self.report(lifecycle.Ready(not self.not_ready()))
            if before - sampled >= PERIOD:
                sampled = before
                for recorder, run in self.recorders:
                    recorder.sample(run.facts())


@contextmanager
def observing(listen: tuple[str, int] | None, buffer_limit: int) -> Iterator[Observed]:
    """Serve metrics and status while the block lasts, where an address is given. Raises CannotListen."""
    if listen is None:
        yield Observed(_nobody, list, [])
        return
    release = version("transfer-collector")
    metrics = Metrics(NAMESPACE, release, buffer_limit, mongodb=False, archives_only=True)
    status = Status(NAMESPACE, release, buffer_limit=buffer_limit, mongodb=False)
    observers = {lifecycle.Observer.METRICS: metrics.observe, lifecycle.Observer.STATUS: status.observe}
    report = Observers(observers)
    with serving(listen, metrics, status) as (host, port):
        structlog.get_logger().info("listening", host=host, port=port)
        report(Declared())
        yield Observed(report, lambda: status.not_ready, [])


def _nobody(_: Event) -> None:
    """Hear an event, and do nothing."""
