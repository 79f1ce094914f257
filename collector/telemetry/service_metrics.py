"""The metrics of a replica as a whole: connections, readiness, event loop, actors, loggers by state, own reports."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from collector.events import HomeChanged, State, lifecycle
from collector.events.lifecycle import Observer
from collector.telemetry.restarts import ROOT_ACTORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.events import Crashed
    from collector.telemetry.families import Families

_CRASHED = "crashed"


class ServiceMetrics:
    """Counts the events of the replica."""

    def __init__(self, families: Families, version: str, buffer_limit: int, *, mongodb: bool = True) -> None:
        self._restarts = families.counter(
            "actor_restarts", "Actors started again after a crash", ("actor", "reason"), [("pipeline", _CRASHED)]
        )
        for actor in ROOT_ACTORS:
            self._restarts.start_one("", actor, _CRASHED)
        gauge = partial(families.of_service, "gauge")
        gauge("buffer_limit_bytes", "Bytes this replica may hold").set(buffer_limit)
        self._nats_connected = gauge("nats_connected", "1 while connected to NATS")
        self._mongodb_connected = gauge("mongodb_connected", "1 while MongoDB has a primary; absent without DATABASE")
        if not mongodb:
            self._mongodb_connected.forget()
        self._ready = gauge("ready", "1 while /readyz answers 200")
        self._loop_lag = gauge("event_loop_lag_seconds", "How late the event loop last was")
        self._batch_age = gauge("batch_age_seconds", "Age at which a batch leaves; it follows the load")
        self._replicas = gauge("replicas", "Living replicas that this one hears, itself too; 0 while they are unknown")
        self._homes = gauge("homes", "Loggers at home on this replica, which is given their messages first")
        self._at_home: set[str] = set()
        self._loggers = gauge("loggers", "Loggers by state", ("state",), product(State))
        gauge("build_info", "Always 1", ("version",), [(version,)]).set(1, version)
        self._declare_counters(families)

    def _declare_counters(self, families: Families) -> None:
        counter = partial(families.of_service, "counter")
        self._reconnects = counter("nats_reconnects_total", "Times the connection to NATS came back")
        self._lost_lines = counter("log_lost_lines_total", "Lines of the log that standard error did not take")
        self._observer_failures = counter(
            "observer_failures_total",
            "Events at which metrics, status or log raised an error, so that what they show may be wrong",
            ("observer",),
            product(Observer),
        )

    @property
    def counting(self) -> dict[type, Callable[[Any], None]]:
        """The methods that take in events, by the kind of event."""
        return {
            lifecycle.ConnectionChanged: self._set_connected,
            lifecycle.Ready: self._set_ready,
            lifecycle.LoopLag: self._set_loop_lag,
            lifecycle.BatchAgeChanged: self._set_batch_age,
            lifecycle.LogLost: self._count_lost_lines,
            lifecycle.ReplicasChanged: self._set_replicas,
            HomeChanged: self._set_home,
            lifecycle.ObserverFailed: self._count_observer_failed,
        }

    def replace(self, *, ready: bool | None, loop_lag: float | None) -> None:
        """Replace the values of events by those that are given."""
        if ready is not None:
            self._ready.set(ready)
        if loop_lag is not None:
            self._loop_lag.set(loop_lag)

    def moved(self, before: State | None, after: State | None) -> None:
        """Count a logger in another state; None: it was not there, or is gone."""
        if before is not None:
            self._loggers.add(-1, before)
        if after is not None:
            self._loggers.add(1, after)

    def forget(self, logger: str) -> None:
        """Count a logger no more that is gone."""
        self._set_home(HomeChanged(logger, here=False))

    def count_crashed(self, event: Crashed) -> None:
        """Count a crash, of an actor of the root or of a logger that has children."""
        self._restarts.add(1, event.logger or "", event.actor, _CRASHED)

    def _set_connected(self, event: lifecycle.ConnectionChanged) -> None:
        gauge = self._nats_connected if event.server == "nats" else self._mongodb_connected
        gauge.set(event.connected)
        if event.server == "nats" and event.again:
            self._reconnects.add(1)

    def _set_ready(self, event: lifecycle.Ready) -> None:
        self._ready.set(event.ready)

    def _set_loop_lag(self, event: lifecycle.LoopLag) -> None:
        self._loop_lag.set(event.seconds)

    def _set_batch_age(self, event: lifecycle.BatchAgeChanged) -> None:
        self._batch_age.set(event.seconds)

    def _count_lost_lines(self, event: lifecycle.LogLost) -> None:
        self._lost_lines.add(event.lines)

    def _set_replicas(self, event: lifecycle.ReplicasChanged) -> None:
        self._replicas.set(len(event.replicas))

    def _set_home(self, event: HomeChanged) -> None:
        (self._at_home.add if event.here else self._at_home.discard)(event.logger)
        self._homes.set(len(self._at_home))

    def _count_observer_failed(self, event: lifecycle.ObserverFailed) -> None:
        self._observer_failures.add(1, event.observer)
