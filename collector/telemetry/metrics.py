"""Every metric of the service, once, and what each event does to them."""

from __future__ import annotations

from functools import partial
from itertools import product
from threading import Lock
from typing import TYPE_CHECKING, Any

from collector import events, readings
from collector.events import POSSIBLE_FAILURES, Stage, State, Suspicion
from collector.model import Reason, Trigger
from collector.telemetry.exposition import ONE, Family, Histogram, Numbers, text_of
from collector.telemetry.restarts import ROOT_ACTORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from collector.telemetry.exposition import Labels

_ENTRIES = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
_BYTES = tuple(1024 * 4**power for power in range(8))
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_STALE_AFTER = 60.0
"""Seconds after which a reading of the lag is withdrawn: absent beats wrong."""
_WITHOUT_PIPELINE = frozenset({State.PARKED, State.MISCONFIGURED})
"""States in which nothing of a logger is moved, however many replicas there are."""


def _lag_of(sampled: readings.Sampled) -> int:
    return sampled.pending + sampled.ack_pending


_OF_LAG: Mapping[str, tuple[str, Callable[[readings.Sampled], float]]] = {
    "lag_messages": ("Messages waiting or being worked on (same on every replica: use max)", _lag_of),
    "lag_oldest_message_age_seconds": (
        "Age of the oldest message by the server's clock, 0 when empty (same)",
        lambda sampled: sampled.oldest_age_seconds,
    ),
    "consumer_pending_messages": ("Messages not yet delivered to anybody (same)", lambda sampled: sampled.pending),
    "consumer_ack_pending_messages": (
        "Messages delivered and not yet answered (same)",
        lambda sampled: sampled.ack_pending,
    ),
    "consumer_ack_pending_limit_messages": (
        "Unanswered messages at which delivery stops (same)",
        lambda sampled: sampled.ack_pending_limit,
    ),
    "consumer_redelivered_messages": (
        "Unanswered messages that were delivered more than once (same)",
        lambda sampled: sampled.redelivered,
    ),
    "consumer_waiting_pulls": ("Pull requests that wait at the server (same)", lambda sampled: sampled.waiting_pulls),
    "stream_bytes": ("Bytes kept in the stream (same)", lambda sampled: sampled.bytes),
    "stream_stuck_messages": (
        "Messages in the stream that nobody is given any more (same)",
        lambda sampled: max(0, sampled.messages - _lag_of(sampled)),
    ),
    "lag_refresh_timestamp_seconds": (
        "When this replica last read the lag, in seconds since 1970",
        lambda sampled: sampled.at,
    ),
}
"""What a reading of the lag is exported as, each with what it says."""


class Metrics:
    """The metrics of one replica.

    Every child exists at 0 from its logger's start and goes with the logger. Gauges that are the "same" on every
    replica are what the server says of a shared durable: take their `max`, never their `sum`.
    """

    def __init__(self, namespace: str, version: str, buffer_limit: int, *, logger_histograms: bool = True) -> None:
        """Have all metrics; without `logger_histograms` the histograms are of all loggers together."""
        self._namespace = namespace
        self._logger_histograms = logger_histograms
        self._families: list[Numbers | Histogram] = []
        self._of_loggers: list[Numbers | Histogram] = []
        self._of_lag: list[tuple[Numbers, Callable[[readings.Sampled], float]]] = []
        self._states: dict[str, State] = {}
        self._started: set[str] = set()
        """Loggers that have series: one that never had a pipeline, as its declaration cannot be read, has none."""
        self._lag: dict[str, readings.Sampled] = {}
        self._waiting: dict[str, readings.Waiting] = {}
        self._storage_read = 0.0
        self._bucket_read = False
        self._lock = Lock()  # `text` is called by the threads of the endpoint, and withdraws what is old
        self._declare_lag()
        self._declare_flow()
        self._declare_batches()
        self._declare_service(version)
        self._counting: dict[type, Callable[[Any], None]] = {
            events.LoggerState: self._move,
            events.Received: self._count_received,
            events.BatchSettled: self._count_batch,
            events.Answered: self._count_answered,
            events.Unsettled: self._count_stored,
            events.Held: self._set_held,
            events.WritesInProgress: self._set_writes,
            events.Returned: self._count_returned,
            events.Mended: self._count_mended,
            events.OwnershipChanged: self._count_ownership,
            events.Suspected: self._count_suspects,
            events.Failed: self._count_failed,
            events.Retried: self._count_failed,
            events.Crashed: self._count_crashed,
            readings.Sampled: self._set_lag,
            readings.Waiting: self._set_waiting,
            readings.Storage: self._set_storage,
            events.ConnectionChanged: self._set_connected,
            events.Ready: self._set_ready,
            events.LoopLag: self._set_loop_lag,
            events.LogLost: self._count_lost_lines,
            events.ObserverFailed: self._count_observer_failed,
            readings.Declared: self._set_declared,
        }
        self._failures.start_one("", Stage.CONTROL, events.Failure.UNAVAILABLE)
        for actor in ROOT_ACTORS:
            self._restarts.start_one("", actor, "crashed")
        self._buffer_limit.set(buffer_limit)

    def text(self, now: float, *, ready: bool | None = None, loop_lag: float | None = None) -> bytes:
        """Return the exposition format (https://prometheus.io/docs/instrumenting/exposition_formats/).

        `now` is in seconds since 1970; readings that are too old by it are withdrawn first. What is given of the
        replica replaces what events said: a loop that is stuck reports none.
        """
        with self._lock:
            if ready is not None:
                self._ready.set(ready)
            if loop_lag is not None:
                self._loop_lag.set(loop_lag)
            for logger in [key for key, sampled in self._lag.items() if now - sampled.at > _STALE_AFTER]:
                self._forget_lag(logger)
            self._set_backlog(now)
            if now - self._storage_read > _STALE_AFTER:
                self._forget_storage()
        return text_of(self._families)

    # declarations

    def _declare_lag(self) -> None:
        self._of_lag = [
            (self._numbers("gauge", name, text, ("logger",)), value) for name, (text, value) in _OF_LAG.items()
        ]
        self._backlog = self._numbers(
            "gauge",
            "backlog_messages",
            "Messages that wait for loggers which have a pipeline; absent while it is unknown of any of them (same)",
            (),
        )

        self._stored = self._numbers(
            "gauge",
            "jetstream_storage_bytes",
            "Bytes that JetStream stores for the account (same)",
            ("storage", "tier"),
        )
        self._storage_limit = self._numbers(
            "gauge",
            "jetstream_storage_limit_bytes",
            "Bytes that the account may store; absent where it has no limit (same)",
            ("storage", "tier"),
        )
        self._filled = self._numbers(
            "gauge",
            "stream_filled_ratio",
            "Share of a limit of the stream that is used: at 1 it drops its oldest entries, or takes no more (same)",
            ("logger", "limit"),
        )
        self._undeclared = self._numbers(
            "gauge", "undeclared_stream_messages", "Messages in streams that no logger is declared for (same)", ()
        )

    def _declare_flow(self) -> None:
        counter = self._counter
        self._received_messages = counter("received_messages", "Messages received from JetStream")
        self._received_entries = counter("received_entries", "Entries in the messages received")
        self._received_bytes = counter("received_bytes", "Bytes of the messages received")
        self._redelivered = counter("redelivered_messages", "Messages received that had been delivered before")
        self._written = counter(
            "written_entries",
            "Entries newly stored in MongoDB, by a write of unknown result too",
        )
        self._duplicates = counter("duplicate_entries", "Entries that an earlier delivery had stored")
        self._acknowledged = counter("acknowledged_messages", "Messages answered for good")
        self._returned = counter("returned_messages", "Messages given back unwritten")
        self._brought_back = counter("brought_back_messages", "Messages that nobody was given any more, and are again")
        self._dead_letters = counter(
            "dead_lettered_entries", "Entries kept as dead letters", ("reason",), product(Reason)
        )
        self._failures = counter("failures", "What failed and is dealt with", ("stage", "reason"), POSSIBLE_FAILURES)
        self._retries = counter("retries", "Tries after a failure", ("stage",), [(Stage.WRITE,), (Stage.DEAD_LETTER,)])
        self._ownership = counter(
            "ownership_changes",
            "Times this replica became or ceased to be the one writer of a time-series logger",
            ("reason",),
            product(events.OwnershipChange),
        )
        self._suspects = counter(
            "suspect_entries",
            "Entries of time-series loggers looked up before the insert, as they may have been written before",
            ("reason",),
            product(Suspicion),
        )
        self._restarts = counter(
            "actor_restarts", "Actors started again after a crash", ("actor", "reason"), [("pipeline", "crashed")]
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

    def _declare_service(self, version: str) -> None:
        gauge = partial(self._of_service, "gauge")
        self._buffer_limit = gauge("buffer_limit_bytes", "Bytes this replica may hold")
        self._nats_connected = gauge("nats_connected", "1 while connected to NATS")
        self._mongodb_connected = gauge("mongodb_connected", "1 while MongoDB has a primary for us")
        self._ready = gauge("ready", "1 while /readyz answers 200")
        self._loop_lag = gauge("event_loop_lag_seconds", "How late the event loop last was")
        self._reconnects = self._of_service(
            "counter", "nats_reconnects_total", "Times the connection to NATS came back"
        )
        self._lost_lines = self._of_service(
            "counter", "log_lost_lines_total", "Lines of the log that standard error did not take"
        )
        self._observer_failures = self._of_service(
            "counter",
            "observer_failures_total",
            "Events at which metrics, status or log raised an error, so that what they show may be wrong",
            ("observer",),
            product(events.Observer),
        )
        self._loggers = gauge("loggers", "Loggers by state", ("state",), product(State))
        self._bucket_missing = gauge(
            "bucket_missing",
            "1 while the bucket of loggers is gone, or has lost keys that nobody deleted: their loggers go on",
        )
        self._unreadable = gauge("unreadable_declarations", "Keys of the bucket that declare no logger (same)")
        gauge("build_info", "Always 1", ("version",), [(version,)]).set(1, version)

    def _of_service(
        self, kind: str, name: str, text: str, labels: Labels = (), children: Iterable[Labels] = ONE
    ) -> Numbers:
        numbers = self._numbers(kind, name, text, labels, children)
        numbers.start()
        return numbers

    def _gauge(self, name: str, text: str) -> Numbers:
        return self._of_logger(self._numbers("gauge", name, text, ("logger",)))

    def _counter(self, name: str, text: str, labels: Labels = (), children: Iterable[Labels] = ONE) -> Numbers:
        return self._of_logger(self._numbers("counter", f"{name}_total", text, ("logger", *labels), children))

    def _numbers(self, kind: str, name: str, text: str, labels: Labels, children: Iterable[Labels] = ONE) -> Numbers:
        numbers = Numbers(self._family(kind, name, text, labels), children)
        self._families.append(numbers)
        return numbers

    def _histogram(self, name: str, text: str, bounds: Sequence[float]) -> Histogram:
        labels = ("logger",) if self._logger_histograms else ()
        histogram = Histogram(self._family("histogram", name, text, labels), bounds)
        self._families.append(histogram)
        if self._logger_histograms:
            self._of_loggers.append(histogram)
        else:
            histogram.start()
        return histogram

    def _of_logger(self, numbers: Numbers) -> Numbers:
        self._of_loggers.append(numbers)
        return numbers

    def _family(self, kind: str, name: str, text: str, labels: Labels) -> Family:
        return Family(kind, f"collector_{name}", text, self._namespace, labels)

    # events

    def observe(self, event: events.Event) -> None:
        """Count what happened."""
        count = self._counting.get(type(event))
        if count is not None:
            with self._lock:
                count(event)

    def _count_failed(self, event: events.Failed | events.Retried) -> None:
        self._failures.add(1, event.logger, event.stage, event.failure)
        if isinstance(event, events.Retried):
            self._retries.add(1, event.logger, event.stage)

    def _count_crashed(self, event: events.Crashed) -> None:
        self._restarts.add(1, event.logger or "", event.actor, "crashed")

    def _count_mended(self, event: events.Mended) -> None:
        self._brought_back.add(event.messages, event.logger)

    def _count_returned(self, event: events.Returned) -> None:
        self._returned.add(event.messages, event.logger)

    def _count_ownership(self, event: events.OwnershipChanged) -> None:
        self._ownership.add(1, event.logger, event.change)

    def _count_suspects(self, event: events.Suspected) -> None:
        for suspicion, entries in event.suspects.items():
            self._suspects.add(entries, event.logger, suspicion)

    def _set_held(self, event: events.Held) -> None:
        self._buffer_messages.set(event.messages, event.logger)
        self._buffer_bytes.set(event.bytes, event.logger)

    def _set_writes(self, event: events.WritesInProgress) -> None:
        self._writes.set(event.writes, event.logger)

    def _set_ready(self, event: events.Ready) -> None:
        self._ready.set(event.ready)

    def _count_lost_lines(self, event: events.LogLost) -> None:
        self._lost_lines.add(event.lines)

    def _count_observer_failed(self, event: events.ObserverFailed) -> None:
        self._observer_failures.add(1, event.observer)

    def _set_declared(self, event: readings.Declared) -> None:
        self._bucket_missing.set(bool(event.trouble))
        self._unreadable.set(event.unreadable)
        self._bucket_read = event.looked or bool(event.trouble)  # of a bucket that is gone it is known: nothing

    def _set_loop_lag(self, event: events.LoopLag) -> None:
        self._loop_lag.set(event.seconds)

    def _move(self, event: events.LoggerState) -> None:
        before = self._states.pop(event.logger, None)
        if before is not None:
            self._loggers.add(-1, before)
        if event.state is None:
            self._forget(event.logger)
        else:
            self._states[event.logger] = event.state
            self._loggers.add(1, event.state)
            if event.state is not State.PARKED and event.logger not in self._started:
                self._started.add(event.logger)
                for family in self._of_loggers:
                    family.start(event.logger)

    def _forget(self, logger: str) -> None:
        self._started.discard(logger)
        for family in self._of_loggers:
            family.forget(logger)
        self._forget_lag(logger)
        self._waiting.pop(logger, None)
        for limit in readings.Limit:
            self._filled.forget(logger, limit)

    def _count_received(self, event: events.Received) -> None:
        logger = event.logger
        self._received_messages.add(event.messages, logger)
        self._received_entries.add(event.entries, logger)
        self._received_bytes.add(event.bytes, logger)
        self._redelivered.add(event.redelivered, logger)

    def _count_batch(self, event: events.BatchSettled) -> None:
        logger = event.logger
        self._count_stored(event)
        self._acknowledged.add(event.messages - event.unanswered - event.owed, logger)
        if event.unanswered:
            self._failures.add(1, logger, Stage.SETTLE, events.Failure.UNAVAILABLE)
        self._batches.add(1, logger, event.trigger)
        labels = (logger,) if self._logger_histograms else ()
        self._batch_entries.observe(event.entries, *labels)
        self._batch_bytes.observe(event.bytes, *labels)
        self._write_duration.observe(event.write_seconds, *labels)
        self._latency.observe(event.latency_seconds, *labels)

    def _count_stored(self, event: events.BatchSettled | events.Unsettled) -> None:
        self._written.add(event.written, event.logger)
        self._duplicates.add(event.duplicates, event.logger)
        for reason, entries in event.dead_letters.items():
            self._dead_letters.add(entries, event.logger, reason)

    def _count_answered(self, event: events.Answered) -> None:
        self._acknowledged.add(event.messages, event.logger)

    def _set_lag(self, event: readings.Sampled) -> None:
        logger = event.logger
        if logger not in self._states:
            return
        if logger not in self._lag:
            for gauge, _ in self._of_lag:
                gauge.start(logger)
        self._lag[logger] = event
        self._waiting.pop(logger, None)
        for gauge, value in self._of_lag:
            gauge.set(value(event), logger)

    def _set_waiting(self, event: readings.Waiting) -> None:
        if event.logger in self._states:
            self._waiting[event.logger] = event

    def _forget_lag(self, logger: str) -> None:
        if self._lag.pop(logger, None) is not None:
            for gauge, _ in self._of_lag:
                gauge.forget(logger)

    def _set_storage(self, event: readings.Storage) -> None:
        stores = event.stores
        self._stored.replace({(store.kind, store.tier): store.bytes for store in stores})
        self._storage_limit.replace(
            {(store.kind, store.tier): store.limit for store in stores if store.limit is not None}
        )
        self._filled.replace(
            {
                (logger, limit): share
                for logger, shares in event.filled.items()
                if logger in self._states
                for limit, share in shares.items()
            }
        )
        undeclared = sum(messages for logger, messages in event.messages.items() if logger not in self._states)
        self._undeclared.replace({(): undeclared} if self._bucket_read else {})
        self._storage_read = event.at

    def _forget_storage(self) -> None:
        for numbers in (self._stored, self._storage_limit, self._filled, self._undeclared):
            numbers.replace({})

    def _set_backlog(self, now: float) -> None:
        """Add up what waits; a logger of which it is unknown makes the sum unknown, as it may be most of it."""
        known = [self._waits(logger, now) for logger, state in self._states.items() if state not in _WITHOUT_PIPELINE]
        if None in known:
            self._backlog.forget()
        else:
            self._backlog.start()
            self._backlog.set(sum(messages for messages in known if messages is not None))

    def _waits(self, logger: str, now: float) -> int | None:
        """Return the messages that wait for a logger by a reading that is no older than a minute."""
        waiting = self._waiting.get(logger)
        if waiting is not None and now - waiting.at <= _STALE_AFTER:
            return waiting.messages
        sampled = self._lag.get(logger)
        return None if sampled is None else _lag_of(sampled)

    def _set_connected(self, event: events.ConnectionChanged) -> None:
        gauge = self._nats_connected if event.server == "nats" else self._mongodb_connected
        gauge.set(event.connected)
        if event.server == "nats" and event.again:
            self._reconnects.add(1)
