"""The metrics of entries on their way: received, held, in batches, stored, kept as dead letters, given back."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from collector import events
from collector.events import POSSIBLE_FAILURES, Failure, OwnershipChange, Stage, Suspicion
from collector.model import Reason, Trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.telemetry.families import Families

_ENTRIES = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
_BYTES = tuple(1024 * 4**power for power in range(8))
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


class EntryMetrics:
    """Counts the entries of each logger, and the failures on their way."""

    def __init__(self, families: Families) -> None:
        self._families = families
        self._declare_messages(families)
        self._declare_failures(families)
        self._declare_timeseries(families)
        self._declare_batches(families)

    def _declare_messages(self, families: Families) -> None:
        counter = families.counter
        self._received_messages = counter("received_messages", "Messages received from JetStream")
        self._received_entries = counter("received_entries", "Entries in the messages received")
        self._received_bytes = counter("received_bytes", "Bytes of the messages received")
        self._redelivered = counter("redelivered_messages", "Messages received that had been delivered before")
        self._written = counter("written_entries", "Entries newly stored by the sink, by a write of unknown result too")
        self._duplicates = counter("duplicate_entries", "Entries that an earlier delivery had stored")
        self._acknowledged = counter("acknowledged_messages", "Messages answered for good")
        self._returned = counter("returned_messages", "Messages given back unwritten")
        self._brought_back = counter("brought_back_messages", "Stuck messages that are delivered again")
        self._dropped = families.open_counter(
            "dropped_entries", "Entries that a rule of the logger's spec dropped on purpose", "rule"
        )
        self._dead_letters = counter(
            "dead_lettered_entries", "Entries kept as dead letters", ("reason",), product(Reason)
        )

    def _declare_failures(self, families: Families) -> None:
        self._failures = families.counter(
            "failures", "Failures that are dealt with", ("stage", "reason"), POSSIBLE_FAILURES
        )
        for failure in (Failure.UNAVAILABLE, Failure.REFUSED):
            self._failures.start_one("", Stage.CONTROL, failure)
        self._retries = families.counter(
            "retries", "Tries after a failure", ("stage",), [(Stage.WRITE,), (Stage.DEAD_LETTER,)]
        )

    def _declare_timeseries(self, families: Families) -> None:
        self._ownership = families.counter(
            "ownership_changes",
            "Times this replica became or ceased to be the one writer of a time-series logger",
            ("reason",),
            product(OwnershipChange),
        )
        self._suspects = families.counter(
            "suspect_entries",
            "Entries of time-series loggers looked up before the insert, as they may have been written before",
            ("reason",),
            product(Suspicion),
        )

    def _declare_batches(self, families: Families) -> None:
        self._batches = families.counter(
            "batches", "Batches by the reason why they were complete", ("trigger",), product(Trigger)
        )
        self._batch_entries = families.histogram("batch_entries", "Entries in a batch", _ENTRIES)
        self._batch_bytes = families.histogram("batch_bytes", "Bytes of the entries in a batch, inflated", _BYTES)
        self._write_duration = families.histogram(
            "write_duration_seconds", "Seconds to write a batch, with all retries", _SECONDS
        )
        self._latency = families.histogram(
            "delivery_latency_seconds",
            "Seconds that the oldest message of a batch took from JetStream to the sink's acknowledgement",
            _LATENCY,
        )
        self._buffer_messages = families.gauge("buffer_messages", "Messages held in this replica")
        self._buffer_bytes = families.gauge("buffer_bytes", "Bytes held in this replica")
        self._writes = families.gauge("writes_in_progress", "Batches on their way to the sink")

    @property
    def counting(self) -> dict[type, Callable[[Any], None]]:
        """The methods that take in events, by the kind of event."""
        return {
            events.Received: self._count_received,
            events.BatchSettled: self._count_batch,
            events.Answered: self._count_answered,
            events.SettledLater: self._count_settled,
            events.Unsettled: self._count_stored,
            events.Held: self._set_held,
            events.WritesInProgress: self._set_writes,
            events.Returned: self._count_returned,
            events.Mended: self._count_mended,
            events.OwnershipChanged: self._count_ownership,
            events.Suspected: self._count_suspects,
            events.Failed: self._count_failed,
            events.Retried: self._count_retried,
        }

    def _count_received(self, event: events.Received) -> None:
        logger = event.logger
        self._received_messages.add(event.messages, logger)
        self._received_entries.add(event.entries, logger)
        self._received_bytes.add(event.bytes, logger)
        self._redelivered.add(event.redelivered, logger)

    def _count_batch(self, event: events.BatchSettled) -> None:
        logger = event.logger
        self._count_settled(event)
        for rule, entries in event.dropped.items():
            self._dropped.add(entries, logger, rule)
        self._batches.add(1, logger, event.trigger)
        labels = self._families.histogram_labels(logger)
        self._batch_entries.observe(event.entries, *labels)
        self._batch_bytes.observe(event.bytes, *labels)
        self._write_duration.observe(event.write_seconds, *labels)
        self._latency.observe(event.latency_seconds, *labels)

    def _count_stored(self, event: events.BatchSettled | events.SettledLater | events.Unsettled) -> None:
        self._written.add(event.written, event.logger)
        self._duplicates.add(event.duplicates, event.logger)
        for reason, entries in event.dead_letters.items():
            self._dead_letters.add(entries, event.logger, reason)

    def _count_settled(self, event: events.BatchSettled | events.SettledLater) -> None:
        self._count_stored(event)
        self._acknowledged.add(event.messages - event.unanswered - event.owed, event.logger)
        if event.unanswered:
            self._failures.add(1, event.logger, Stage.SETTLE, Failure.UNAVAILABLE)

    def _count_answered(self, event: events.Answered) -> None:
        self._acknowledged.add(event.messages, event.logger)

    def _count_returned(self, event: events.Returned) -> None:
        self._returned.add(event.messages, event.logger)

    def _count_mended(self, event: events.Mended) -> None:
        self._brought_back.add(event.messages, event.logger)

    def _count_ownership(self, event: events.OwnershipChanged) -> None:
        self._ownership.add(1, event.logger, event.change)

    def _count_suspects(self, event: events.Suspected) -> None:
        for suspicion, entries in event.suspects.items():
            self._suspects.add(entries, event.logger, suspicion)

    def _count_failed(self, event: events.Failed | events.Retried) -> None:
        self._failures.add(1, event.logger, event.stage, event.failure)

    def _count_retried(self, event: events.Retried) -> None:
        self._count_failed(event)
        self._retries.add(1, event.logger, event.stage)

    def _set_held(self, event: events.Held) -> None:
        self._buffer_messages.set(event.messages, event.logger)
        self._buffer_bytes.set(event.bytes, event.logger)

    def _set_writes(self, event: events.WritesInProgress) -> None:
        self._writes.set(event.writes, event.logger)
