"""The metrics of archives. A logger that is not archived has none of them."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from collector.events import archiving
from collector.events.archiving import CUT_TRIGGERS, DOUBTS, STORE_FAILURES, Archived
from collector.telemetry.families import Families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COUNTERS: dict[Archived, tuple[str, str, tuple[str, ...]]] = {
    Archived.BLOCKS: ("Blocks that were created", "", ()),
    Archived.ROWS: ("Rows in the blocks", "", ()),
    Archived.RAW_BYTES: ("Bytes of the bodies of messages in stored cuts", "", ()),
    Archived.STORED_BYTES: ("Bytes of the blocks", "", ()),
    Archived.CUTS: ("Cuts whose blocks are all there, by the reason why they were closed", "trigger", CUT_TRIGGERS),
    Archived.STORE_FAILURES: ("Calls to the store that failed and are made again", "reason", STORE_FAILURES),
    Archived.REPEATS: ("Deliveries of messages that were in hand or archived", "", ()),
    Archived.RESETS: ("Times the owner began again at the end of the log, by its doubt", "why", DOUBTS),
    Archived.TENURES: ("Times the owner began to read", "", ()),
    Archived.COMPLETED_BLOCKS: ("Blocks of an earlier owner's last cut that this one made", "", ()),
    Archived.EXPIRED_MESSAGES: ("Messages that left the stream before they were archived", "", ()),
    Archived.OVERFLOW_ROWS: ("Rows in blocks of __other__, because a cut had too many keys", "", ()),
    Archived.DEAD_LETTERS: ("Entries in blocks of dead letters", "", ()),
}
"""Each counter: its text, its label and the values of that."""
_GAUGES: dict[str, tuple[str, Callable[[archiving.ArchiveSampled], float]]] = {
    "cursor": ("All up to this sequence of the stream is archived; 0 where it is not known", lambda one: one.cursor),
    "lag_messages": (
        "Messages that the owner has not archived, as the last delivery knew; 0 on all others",
        lambda one: one.lag_messages,
    ),
    "oldest_message_age_seconds": (
        "Age of the oldest message in hand that is not archived, 0 without one",
        lambda one: one.oldest_message_age,
    ),
    "open_cut_age_seconds": ("Age of the oldest cut whose blocks are not all there", lambda one: one.open_cut_age),
    "open_cut_bytes": ("Bytes of the blocks of the open cut, as they are held", lambda one: one.open_cut_bytes),
    "keys": ("Keys in the open cut", lambda one: one.keys),
    "unacked_messages": ("Messages that were received and are not archived", lambda one: one.unacked_messages),
    "window_seconds": ("The window of the archive", lambda one: one.window),
    "owner": ("1 while this process reads the stream for the archive", lambda one: one.is_owner),
}
"""Each gauge: its text and its value."""


class ArchiveMetrics:
    """Counts the work of captures. The children of a logger begin with its first event."""

    def __init__(self, namespace: str, *, logger_histograms: bool) -> None:
        self._families = Families(namespace, logger_histograms=logger_histograms)
        self._started: set[str] = set()
        self._gauges = {
            name: (self._families.gauge(f"archive_{name}", text), value) for name, (text, value) in _GAUGES.items()
        }
        self._contradicted = self._families.gauge(
            "archive_contradicted", "1 while stream or log are not as the archive knows them: nothing is archived"
        )
        self._counters = {
            counter: self._families.counter(
                f"archive_{counter}", text, (label,) if label else (), product(values) if label else ((),)
            )
            for counter, (text, label, values) in _COUNTERS.items()
        }
        self._seconds = self._families.histogram(
            "archive_store_seconds", "Seconds of an attempt to create a block", _SECONDS
        )

    @property
    def counting(self) -> dict[type, Callable[[Any], None]]:
        """The methods that take in events, by the kind of event."""
        return {
            archiving.ArchiveCounted: self._count,
            archiving.ArchiveSampled: self._set,
            archiving.ArchiveTrouble: self._set_trouble,
            archiving.ArchiveGone: lambda event: self.forget(event.logger),
        }

    def chunks(self) -> Iterator[bytes]:
        """Yield the exposition format in pieces."""
        return self._families.chunks()

    def forget(self, logger: str) -> None:
        """Have no child of a logger any more."""
        self._started.discard(logger)
        self._families.forget(logger)

    def _start(self, logger: str) -> None:
        if logger not in self._started:
            self._started.add(logger)
            self._families.start(logger)

    def _count(self, event: archiving.ArchiveCounted) -> None:
        logger = event.logger
        self._start(logger)
        for counter, amount in event.counts.items():
            labels = (event.label,) if _COUNTERS[counter][1] else ()
            self._counters[counter].add(amount, logger, *labels)
        if event.seconds is not None:
            self._seconds.observe(event.seconds, *self._families.histogram_labels(logger))

    def _set(self, event: archiving.ArchiveSampled) -> None:
        self._start(event.logger)
        for gauge, value in self._gauges.values():
            gauge.set(value(event), event.logger)

    def _set_trouble(self, event: archiving.ArchiveTrouble) -> None:
        self._start(event.logger)
        self._contradicted.set(bool(event.why), event.logger)
