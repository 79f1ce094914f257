"""The metrics of one replica: each event changes some of them, and `/metrics` shows their text."""

from __future__ import annotations

from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any

from collector.events import Crashed, LoggerState, State
from collector.telemetry.archive_metrics import ArchiveMetrics
from collector.telemetry.entry_metrics import EntryMetrics
from collector.telemetry.families import Families
from collector.telemetry.reading_metrics import ReadingMetrics
from collector.telemetry.service_metrics import ServiceMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collector.events import Event


class Metrics:
    """The metrics of one replica.

    Every child exists at 0 from its logger's start and goes with the logger. A gauge with the text "same" has one value
    on all replicas, as a server says it: take the `max` of it, never the `sum`.
    """

    def __init__(
        self,
        namespace: str,
        version: str,
        buffer_limit: int,
        *,
        logger_histograms: bool = True,
        mongodb: bool = True,
        archives_only: bool = False,
    ) -> None:
        """Have all metrics; without `logger_histograms` each histogram is of all loggers together.

        `mongodb` says whether the replica has a connection to MongoDB. With `archives_only` each logger has the metrics
        of its archive alone.
        """
        self._archives_only = archives_only
        self._states: dict[str, State] = {}
        self._started: set[str] = set()
        """Loggers that have children: one that never had a pipeline, as its declaration cannot be read, has none."""
        self._families = Families(namespace, logger_histograms=logger_histograms)
        self._readings = ReadingMetrics(self._families, self._states)
        entries = EntryMetrics(self._families)
        self._service = ServiceMetrics(self._families, version, buffer_limit, mongodb=mongodb)
        self._archives = ArchiveMetrics(namespace, logger_histograms=logger_histograms)
        self._lock = Lock()  # threads of the endpoint call `text`, which withdraws old readings
        self._counting: dict[type, Callable[[Any], None]] = {
            LoggerState: self._move,
            **self._readings.counting,
            **entries.counting,
            **self._service.counting,
            **self._archives.counting,
            Crashed: self._crashed,
        }

    def text(self, now: float, *, ready: bool | None = None, loop_lag: float | None = None) -> bytes:
        """Return the exposition format.

        `now` is in seconds since 1970; readings that are too old by it are withdrawn first. `ready` and `loop_lag`
        replace what events said: an event loop that is stuck reports none.
        """
        return b"".join(self.chunks(now, ready=ready, loop_lag=loop_lag))

    def chunks(self, now: float, *, ready: bool | None = None, loop_lag: float | None = None) -> Iterator[bytes]:
        """Yield the same as `text` in pieces: that of 10,000 loggers takes 100 MiB as a whole."""
        with self._lock:
            self._service.replace(ready=ready, loop_lag=loop_lag)
            self._readings.refresh(now)
        return chain(self._families.chunks(), self._archives.chunks())

    def observe(self, event: Event) -> None:
        """Count an event; those that no metric counts are passed over."""
        count = self._counting.get(type(event))
        if count is not None:
            with self._lock:
                count(event)

    def _move(self, event: LoggerState) -> None:
        logger, state = event.logger, event.state
        self._service.moved(self._states.pop(logger, None), state)
        if state is None:
            self._forget(logger)
            return
        self._states[logger] = state
        if state is not State.PARKED and logger not in self._started and not self._archives_only:
            self._started.add(logger)
            self._families.start(logger)

    def _crashed(self, event: Crashed) -> None:
        if event.logger is not None and event.state is not None:
            self._move(LoggerState(event.logger, event.state))
        self._service.count_crashed(event)

    def _forget(self, logger: str) -> None:
        self._started.discard(logger)
        self._families.forget(logger)
        self._archives.forget(logger)
        self._readings.forget(logger)
        self._service.forget(logger)
