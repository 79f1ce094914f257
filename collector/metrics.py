"""Every metric of the service, once, and what each event does to them."""

from __future__ import annotations

from itertools import product
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from collector import events
from collector.events import POSSIBLE_FAILURES, Stage, State
from collector.horizon import Suspicion
from collector.model import Reason, Trigger
from collector.restarts import ROOT_ACTORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client.metrics import MetricWrapperBase

disable_created_metrics()

_M = TypeVar("_M", bound="MetricWrapperBase")
_ENTRIES = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
_BYTES = tuple(1024 * 4**power for power in range(8))
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_STALE_AFTER = 60.0
"""Seconds after which a reading of the lag is withdrawn: absent beats wrong."""


class Metrics:
    """The metrics of one replica.

    Every child exists at 0 from its logger's start and goes with the logger. Gauges that are the "same" on every
    replica are what the server says of a shared durable: take their `max`, never their `sum`.
    """

    def __init__(self, namespace: str, version: str, buffer_limit: int) -> None:
        self._namespace = namespace
        self._registry = CollectorRegistry()
        self._of_loggers: list[tuple[Any, tuple[tuple[str, ...], ...]]] = []
        self._of_lag: list[Gauge] = []
        self._states: dict[str, State] = {}
        self._lag: dict[str, events.Sampled] = {}
        self._lock = Lock()  # `text` is called by the threads of the endpoint, and withdraws what is old
        self._declare_lag()
        self._declare_flow()
        self._declare_batches()
        self._declare_service()
        self._counting: dict[type, Callable[[Any], None]] = {
            events.LoggerState: self._move,
            events.Received: self._count_received,
            events.BatchSettled: self._count_batch,
            events.Held: self._set_held,
            events.WritesInProgress: self._set_writes,
            events.Returned: self._count_returned,
            events.Mended: self._count_mended,
            events.OwnershipChanged: self._count_ownership,
            events.Suspected: self._count_suspects,
            events.Failed: self._count_failed,
            events.Retried: self._count_failed,
            events.Crashed: self._count_crashed,
            events.Sampled: self._set_lag,
            events.Connection: self._set_connected,
            events.Ready: self._set_ready,
            events.LoopLag: self._set_loop_lag,
        }
        self._service_info.labels(namespace, version).set(1)
        self._failures.labels(namespace, "", Stage.CONTROL, events.Failure.UNAVAILABLE)
        for actor in ROOT_ACTORS:
            self._restarts.labels(namespace, "", actor, "crashed")
        self._buffer_limit.labels(namespace).set(buffer_limit)

    def text(self, now: float) -> bytes:
        """Return the exposition format (https://prometheus.io/docs/instrumenting/exposition_formats/).

        `now` is in seconds since 1970; readings that are too old by it are withdrawn first.
        """
        with self._lock:
            for logger in [key for key, sampled in self._lag.items() if now - sampled.at > _STALE_AFTER]:
                self._forget_lag(logger)
        return generate_latest(self._registry)

    # declarations

    def _declare_lag(self) -> None:
        gauges = {
            "lag_messages": "Messages waiting or being worked on (same on every replica: use max)",
            "lag_oldest_message_age_seconds": "Age of the oldest message by the server's clock, 0 when empty (same)",
            "consumer_pending_messages": "Messages not yet delivered to anybody (same)",
            "consumer_ack_pending_messages": "Messages delivered and not yet answered (same)",
            "consumer_ack_pending_limit_messages": "Unanswered messages at which delivery stops (same)",
            "consumer_redelivered_messages": "Unanswered messages that were delivered more than once (same)",
            "consumer_waiting_pulls": "Pull requests that wait at the server (same)",
            "stream_bytes": "Bytes kept in the stream (same)",
            "stream_stuck_messages": "Messages in the stream that nobody is given any more (same)",
            "lag_refresh_timestamp_seconds": "When this replica last read the lag, in seconds since 1970",
        }
        self._of_lag = [
            Gauge(f"collector_{name}", text, ("log_namespace", "logger"), registry=self._registry)
            for name, text in gauges.items()
        ]
        self._backlog = self._of_service(Gauge, "backlog_messages", "Lag over all loggers (same)")

    def _declare_flow(self) -> None:
        counter = self._counter
        self._received_messages = counter("received_messages", "Messages received from JetStream")
        self._received_entries = counter("received_entries", "Entries in the messages received")
        self._received_bytes = counter("received_bytes", "Bytes of the messages received")
        self._redelivered = counter("redelivered_messages", "Messages received that had been delivered before")
        self._written = counter("written_entries", "Entries newly stored in MongoDB")
        self._duplicates = counter("duplicate_entries", "Entries that were stored already")
        self._acknowledged = counter("acknowledged_messages", "Messages answered for good")
        self._returned = counter("returned_messages", "Messages given back unwritten")
        self._brought_back = counter("brought_back_messages", "Messages that nobody was given any more, and are again")
        self._dead_letters = counter(
            "dead_lettered_entries", "Entries kept as dead letters", ("reason",), product(Reason)
        )
        self._failures = counter("failures", "What failed", ("stage", "reason"), POSSIBLE_FAILURES)
        self._retries = counter("retries", "Tries after a failure", ("stage",), [(Stage.WRITE,), (Stage.DEAD_LETTER,)])
        self._ownership = counter(
            "ownership_changes",
            "Times this replica became or ceased to be the one writer of a time-series logger",
            ("reason",),
            product(events.Change),
        )
        self._suspects = counter(
            "suspect_entries",
            "Entries of time-series loggers looked up before the insert, as they may have been written before",
            ("reason",),
            product(Suspicion),
        )
        self._restarts = counter(
            "actor_restarts", "Actors started again", ("actor", "reason"), [("pipeline", "crashed")]
        )

    def _declare_batches(self) -> None:
        self._batches = self._counter("batches", "Batches by what made them leave", ("trigger",), product(Trigger))
        self._batch_entries = self._histogram("batch_entries", "Entries in a batch", _ENTRIES)
        self._batch_bytes = self._histogram("batch_bytes", "Bytes of the entries in a batch, inflated", _BYTES)
        self._write_duration = self._histogram("write_duration_seconds", "One batch, retries included", _SECONDS)
        self._latency = self._histogram(
            "delivery_latency_seconds", "JetStream's storing to MongoDB's acknowledgement, oldest of a batch", _LATENCY
        )
        self._buffer_messages = self._gauge("buffer_messages", "Messages held in this replica")
        self._buffer_bytes = self._gauge("buffer_bytes", "Bytes held in this replica")
        self._writes = self._gauge("writes_in_progress", "Batches on their way to MongoDB")

    def _declare_service(self) -> None:
        self._buffer_limit = self._of_service(Gauge, "buffer_limit_bytes", "Bytes this replica may hold")
        self._nats_connected = self._of_service(Gauge, "nats_connected", "1 while connected to NATS")
        self._mongodb_connected = self._of_service(Gauge, "mongodb_connected", "1 while MongoDB has a primary for us")
        self._ready = self._of_service(Gauge, "ready", "1 while /readyz answers 200")
        self._loop_lag = self._of_service(Gauge, "event_loop_lag_seconds", "How late the event loop last was")
        self._reconnects = self._of_service(Counter, "nats_reconnects", "Times the connection to NATS came back")
        one = ("log_namespace",)
        self._loggers = Gauge("collector_loggers", "Loggers by state", (*one, "state"), registry=self._registry)
        for state in State:
            self._loggers.labels(self._namespace, state)
        self._service_info = Gauge("collector_build_info", "Always 1", (*one, "version"), registry=self._registry)

    def _of_service(self, kind: type[_M], name: str, text: str) -> _M:
        metric = kind(f"collector_{name}", text, ("log_namespace",), registry=self._registry)
        metric.labels(self._namespace)
        return metric

    def _gauge(self, name: str, text: str) -> Gauge:
        return self._of_logger(Gauge(f"collector_{name}", text, ("log_namespace", "logger"), registry=self._registry))

    def _counter(
        self, name: str, text: str, labels: tuple[str, ...] = (), children: Iterable[tuple[str, ...]] = ((),)
    ) -> Counter:
        names = ("log_namespace", "logger", *labels)
        return self._of_logger(Counter(f"collector_{name}", text, names, registry=self._registry), children)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        names = ("log_namespace", "logger")
        return self._of_logger(Histogram(f"collector_{name}", text, names, buckets=buckets, registry=self._registry))

    def _of_logger(self, metric: _M, children: Iterable[tuple[str, ...]] = ((),)) -> _M:
        self._of_loggers.append((metric, tuple(tuple(child) for child in children)))
        return metric

    # events

    def observe(self, event: events.Event) -> None:
        """Count what happened."""
        count = self._counting.get(type(event))
        if count is not None:
            with self._lock:
                count(event)

    def _count_failed(self, event: events.Failed | events.Retried) -> None:
        self._failures.labels(self._namespace, event.logger, event.stage, event.failure).inc()
        if isinstance(event, events.Retried):
            self._retries.labels(self._namespace, event.logger, event.stage).inc()

    def _count_crashed(self, event: events.Crashed) -> None:
        self._restarts.labels(self._namespace, event.logger or "", event.actor, "crashed").inc()

    def _count_mended(self, event: events.Mended) -> None:
        self._brought_back.labels(self._namespace, event.logger).inc(event.messages)

    def _count_returned(self, event: events.Returned) -> None:
        self._returned.labels(self._namespace, event.logger).inc(event.messages)

    def _count_ownership(self, event: events.OwnershipChanged) -> None:
        self._ownership.labels(self._namespace, event.logger, event.change).inc()

    def _count_suspects(self, event: events.Suspected) -> None:
        for suspicion, entries in event.suspects.items():
            self._suspects.labels(self._namespace, event.logger, suspicion).inc(entries)

    def _set_held(self, event: events.Held) -> None:
        self._buffer_messages.labels(self._namespace, event.logger).set(event.messages)
        self._buffer_bytes.labels(self._namespace, event.logger).set(event.bytes)

    def _set_writes(self, event: events.WritesInProgress) -> None:
        self._writes.labels(self._namespace, event.logger).set(event.writes)

    def _set_ready(self, event: events.Ready) -> None:
        self._ready.labels(self._namespace).set(event.ready)

    def _set_loop_lag(self, event: events.LoopLag) -> None:
        self._loop_lag.labels(self._namespace).set(event.seconds)

    def _move(self, event: events.LoggerState) -> None:
        before = self._states.pop(event.logger, None)
        if event.state is None:
            self._forget(event.logger)
        else:
            self._states[event.logger] = event.state
            if before is None:
                for metric, children in self._of_loggers:
                    for child in children:
                        metric.labels(self._namespace, event.logger, *child)
        for state in {before, event.state} - {None}:
            count = sum(current is state for current in self._states.values())
            self._loggers.labels(self._namespace, state).set(count)
        self._sum_lag()

    def _forget(self, logger: str) -> None:
        labels = {"log_namespace": self._namespace, "logger": logger}
        for metric, _ in self._of_loggers:
            metric.remove_by_labels(labels)
        self._forget_lag(logger)

    def _count_received(self, event: events.Received) -> None:
        labels = (self._namespace, event.logger)
        self._received_messages.labels(*labels).inc(event.messages)
        self._received_entries.labels(*labels).inc(event.entries)
        self._received_bytes.labels(*labels).inc(event.bytes)
        self._redelivered.labels(*labels).inc(event.redelivered)

    def _count_batch(self, event: events.BatchSettled) -> None:
        labels = (self._namespace, event.logger)
        self._written.labels(*labels).inc(event.written)
        self._duplicates.labels(*labels).inc(event.duplicates)
        self._acknowledged.labels(*labels).inc(event.messages - event.unanswered)
        if event.unanswered:
            self._failures.labels(*labels, Stage.SETTLE, events.Failure.UNAVAILABLE).inc()
        for reason, entries in event.dead_letters.items():
            self._dead_letters.labels(*labels, reason).inc(entries)
        self._batches.labels(*labels, event.trigger).inc()
        self._batch_entries.labels(*labels).observe(event.entries)
        self._batch_bytes.labels(*labels).observe(event.bytes)
        self._write_duration.labels(*labels).observe(event.write_seconds)
        self._latency.labels(*labels).observe(event.latency_seconds)

    def _set_lag(self, event: events.Sampled) -> None:
        if event.logger not in self._states:
            return
        self._lag[event.logger] = event
        stuck = max(0, event.messages - event.pending - event.ack_pending)
        values = (
            event.pending + event.ack_pending,
            event.oldest_age_seconds,
            event.pending,
            event.ack_pending,
            event.ack_pending_limit,
            event.redelivered,
            event.waiting_pulls,
            event.bytes,
            stuck,
            event.at,
        )
        for gauge, value in zip(self._of_lag, values, strict=True):
            gauge.labels(self._namespace, event.logger).set(value)
        self._sum_lag()

    def _forget_lag(self, logger: str) -> None:
        if self._lag.pop(logger, None) is not None:
            for gauge in self._of_lag:
                gauge.remove(self._namespace, logger)
            self._sum_lag()

    def _sum_lag(self) -> None:
        if self._states and not self._lag:
            self._backlog.remove(self._namespace)  # nobody knows it now, and 0 would be wrong
            return
        total = sum(sampled.pending + sampled.ack_pending for sampled in self._lag.values())
        self._backlog.labels(self._namespace).set(total)

    def _set_connected(self, event: events.Connection) -> None:
        gauge = self._nats_connected if event.server == "nats" else self._mongodb_connected
        gauge.labels(self._namespace).set(event.connected)
        if event.server == "nats" and event.again:
            self._reconnects.labels(self._namespace).inc()
