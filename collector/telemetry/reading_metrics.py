"""The metrics that are readings of NATS: lag, backlog, storage and bucket. A reading that is too old is withdrawn."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from collector.events import State
from collector.events.readings import STALE_AFTER, Declared, Limit, Sampled, Storage, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from collector.telemetry.families import Families

_WITHOUT_PIPELINE = frozenset({State.PARKED, State.MISCONFIGURED})
"""States in which no replica moves a logger, however many there are."""


_OF_LAG: tuple[tuple[str, str, Callable[[Sampled], float | None]], ...] = (
    (
        "lag_messages",
        "Messages waiting or being worked on (same on every replica: use max)",
        lambda sampled: sampled.lag,
    ),
    (
        "lag_oldest_message_age_seconds",
        "Age of the oldest message by the server's clock, 0 when empty (same)",
        lambda sampled: sampled.oldest_age_seconds,
    ),
    ("consumer_pending_messages", "Messages that were never delivered (same)", lambda sampled: sampled.pending),
    (
        "consumer_ack_pending_messages",
        "Messages delivered and not yet answered (same)",
        lambda sampled: sampled.ack_pending,
    ),
    (
        "consumer_ack_pending_limit_messages",
        "Unanswered messages at which delivery stops (same)",
        lambda sampled: sampled.ack_pending_limit,
    ),
    (
        "consumer_redelivered_messages",
        "Unanswered messages that were delivered more than once (same)",
        lambda sampled: sampled.redelivered,
    ),
    ("consumer_waiting_pulls", "Pull requests that wait at the server (same)", lambda sampled: sampled.waiting_pulls),
    ("stream_bytes", "Bytes kept in the stream (same)", lambda sampled: sampled.bytes),
    (
        "stream_stuck_messages",
        "Messages in the stream that the durable delivers to nobody any more (same)",
        lambda sampled: sampled.stuck,
    ),
    (
        "lag_refresh_timestamp_seconds",
        "When this replica last read the lag, in seconds since 1970",
        lambda sampled: sampled.at,
    ),
)
"""Each metric of a reading of the lag: its name, its text, and its value."""


class ReadingMetrics:
    """Exports the last readings. A gauge with the text "same" has one value on all replicas: the server says it."""

    def __init__(self, families: Families, states: Mapping[str, State]) -> None:
        """Export readings of the loggers that have a state."""
        self._states = states
        self._lag: dict[str, Sampled] = {}
        self._waiting: dict[str, Waiting] = {}
        self._storage_read = 0.0
        self._bucket_read = False
        for name, text, value in _OF_LAG:
            families.readings(name, text, partial(self._of_lag, value))
        self._backlog = families.numbers(
            "gauge",
            "backlog_messages",
            "Messages that wait for loggers which have a pipeline; absent while it is unknown of any of them (same)",
        )
        self._declare_storage(families)
        self._declare_bucket(families)

    def _declare_storage(self, families: Families) -> None:
        self._stored = families.numbers(
            "gauge",
            "jetstream_storage_bytes",
            "Bytes that JetStream stores for the account (same)",
            ("storage", "tier"),
        )
        self._storage_limit = families.numbers(
            "gauge",
            "jetstream_storage_limit_bytes",
            "Bytes that the account may store; absent where it has no limit (same)",
            ("storage", "tier"),
        )
        self._filled = families.numbers(
            "gauge",
            "stream_filled_ratio",
            "Share of a limit of the stream that is used: at 1 it drops its oldest entries, or takes no more (same)",
            ("logger", "limit"),
        )
        self._undeclared = families.numbers(
            "gauge", "undeclared_stream_messages", "Messages in streams that no logger is declared for (same)"
        )

    def _declare_bucket(self, families: Families) -> None:
        self._bucket_missing = families.of_service(
            "gauge",
            "bucket_missing",
            "1 while the bucket of loggers is gone, or has lost keys that nobody deleted: their loggers go on",
        )
        self._unreadable = families.of_service(
            "gauge", "unreadable_declarations", "Keys of the bucket that declare no logger (same)"
        )

    @property
    def counting(self) -> dict[type, Callable[[Any], None]]:
        """The methods that take in events, by the kind of event."""
        return {
            Sampled: self._set_lag,
            Waiting: self._set_waiting,
            Storage: self._set_storage,
            Declared: self._set_declared,
        }

    def _of_lag(self, value: Callable[[Sampled], float | None]) -> Iterator[tuple[str, float]]:
        readings = self._lag.copy().items()
        return ((logger, known) for logger, sampled in readings if (known := value(sampled)) is not None)

    def forget(self, logger: str) -> None:
        """Withdraw the readings of a logger that is gone."""
        self._lag.pop(logger, None)
        self._waiting.pop(logger, None)
        for limit in Limit:
            self._filled.forget(logger, limit)

    def refresh(self, now: float) -> None:
        """Withdraw readings that are too old by now, in seconds since 1970, and add up the backlog."""
        for logger in [key for key, sampled in self._lag.items() if now - sampled.at > STALE_AFTER]:
            del self._lag[logger]
        self._set_backlog(now)
        if now - self._storage_read > STALE_AFTER:
            for numbers in (self._stored, self._storage_limit, self._filled, self._undeclared):
                numbers.replace({})

    def _set_lag(self, event: Sampled) -> None:
        logger = event.logger
        if logger in self._states:
            self._lag[logger] = event
            self._waiting.pop(logger, None)

    def _set_waiting(self, event: Waiting) -> None:
        if event.logger in self._states:
            self._waiting[event.logger] = event

    def _set_backlog(self, now: float) -> None:
        """Add up the waiting messages. One logger of which they are unknown makes the sum unknown: it may have most."""
        known = [self._waits(logger, now) for logger, state in self._states.items() if state not in _WITHOUT_PIPELINE]
        if None in known:
            self._backlog.forget()
        else:
            self._backlog.start()
            self._backlog.set(sum(messages for messages in known if messages is not None))

    def _waits(self, logger: str, now: float) -> int | None:
        """Return the messages that wait for a logger by a reading that is not too old; None when there is none."""
        waiting = self._waiting.get(logger)
        if waiting is not None and now - waiting.at <= STALE_AFTER:
            return waiting.messages
        sampled = self._lag.get(logger)
        return None if sampled is None else sampled.lag

    def _set_storage(self, event: Storage) -> None:
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

    def _set_declared(self, event: Declared) -> None:
        self._bucket_missing.set(bool(event.trouble))
        self._unreadable.set(event.unreadable)
        self._bucket_read = event.looked or bool(event.trouble)  # a bucket that is gone declares nothing
