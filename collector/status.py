"""What the replica is doing now, for `/status` and the probes: kept by the event loop, read by the HTTP thread."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

from collector import events

if TYPE_CHECKING:
    from collections.abc import Callable

ALIVE_WITHIN = 30.0
"""Seconds without a turn of the event loop after which the process cannot help itself."""
READY_WITHIN = 10.0


@dataclass(slots=True)
class LoggerStatus:
    """One logger as this replica sees it. Counts are entries since the start of this process."""

    state: str
    since: str
    why: str = ""
    lag_messages: int | None = None
    oldest_message_age_seconds: float | None = None
    in_hand_messages: int = 0
    in_hand_bytes: int = 0
    writes_in_progress: int = 0
    received: int = 0
    written: int = 0
    duplicates: int = 0
    dead_lettered: int = 0
    restarts: int = 0
    last_error: str = ""


@dataclass(slots=True)
class Tally:
    """What this process has done, in entries; `returned` in messages."""

    received: int = 0
    written: int = 0
    duplicates: int = 0
    dead_lettered: int = 0
    returned: int = 0


@dataclass(slots=True)
class _Seen:
    connected: dict[str, bool] = field(default_factory=lambda: {"nats": False, "mongodb": False})
    loggers: dict[str, LoggerStatus] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    last_error: str = ""
    stopping: bool = False
    pulse: float = 0.0
    loop_lag: float = 0.0


class Status:
    """The state of the replica. `observe` is called in the event loop, everything else from any thread."""

    def __init__(self, namespace: str, version: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._namespace = namespace
        self._version = version
        self._clock = clock
        self._started = _now()
        self._lock = Lock()
        self._seen = _Seen(pulse=clock())

    @property
    def alive(self) -> bool:
        """Whether the event loop turns; it never depends on NATS or MongoDB."""
        return self._clock() - self._seen.pulse < ALIVE_WITHIN

    @property
    def not_ready(self) -> list[str]:
        """Why this replica does not take work, each in a few words; empty when it does."""
        seen = self._seen
        return [
            *(["stopping"] if seen.stopping else []),
            *(f"not connected to {server}" for server, connected in seen.connected.items() if not connected),
            *(["the event loop does not turn"] if self._clock() - seen.pulse > READY_WITHIN else []),
        ]

    @property
    def loggers(self) -> int:
        """How many loggers this replica has."""
        return len(self._seen.loggers)

    @property
    def tally(self) -> Tally:
        """What this process has done."""
        return self._seen.tally

    def snapshot(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        not_ready = self.not_ready
        with self._lock:
            seen = self._seen
            return {
                "namespace": self._namespace,
                "version": self._version,
                "started": self._started,
                "ready": not not_ready,
                "not_ready": not_ready,
                "connected": dict(seen.connected),
                "event_loop_lag_seconds": round(seen.loop_lag, 4),
                "entries": _as_dict(seen.tally),
                "last_error": seen.last_error,
                "loggers": {key: _as_dict(logger) for key, logger in sorted(seen.loggers.items())},
            }

    def observe(self, event: events.Event) -> None:
        """Take in what happened."""
        with self._lock:
            match event:
                case events.LoggerState(logger, state, why):
                    self._move(logger, state, why)
                case events.Connection():
                    self._seen.connected[event.server] = event.connected
                case events.Stopping():
                    self._seen.stopping = True
                case events.LoopLag():
                    self._seen.pulse = self._clock()
                    self._seen.loop_lag = event.seconds
                case events.Returned():
                    self._seen.tally.returned += event.messages
                case events.Ready() | events.Listening() | events.Mended():
                    pass
                case events.OwnershipChanged() | events.Suspected():
                    pass
                case events.Failed() | events.Retried() | events.Crashed():
                    self._note_error(event)
                case _:
                    self._count(event)

    def _move(self, logger: str, state: events.State | None, why: str) -> None:
        if state is None:
            self._seen.loggers.pop(logger, None)
            return
        found = self._seen.loggers.setdefault(logger, LoggerStatus(state.value, _now()))
        if found.state != state.value:
            found.state, found.since = state.value, _now()
        found.why = why

    def _note_error(self, event: events.Failed | events.Retried | events.Crashed) -> None:
        error = event.errors[0] if isinstance(event, events.Crashed) else event.error
        logger = self._seen.loggers.get(event.logger or "")
        if logger is None:
            self._seen.last_error = error
        else:
            logger.last_error = error
            logger.restarts += isinstance(event, events.Crashed)

    def _count(
        self, event: events.Received | events.BatchSettled | events.Held | events.WritesInProgress | events.Sampled
    ) -> None:
        logger = self._seen.loggers.get(event.logger)
        if logger is None:
            return
        match event:
            case events.Received():
                logger.received += event.entries
                self._seen.tally.received += event.entries
            case events.BatchSettled():
                dead = event.dead_letters.total()
                for counted in (logger, self._seen.tally):
                    counted.written += event.written
                    counted.duplicates += event.duplicates
                    counted.dead_lettered += dead
            case events.Held():
                logger.in_hand_messages, logger.in_hand_bytes = event.messages, event.bytes
            case events.WritesInProgress():
                logger.writes_in_progress = event.writes
            case events.Sampled():
                logger.lag_messages = event.pending + event.ack_pending
                logger.oldest_message_age_seconds = round(event.oldest_age_seconds, 3)


def _as_dict(one: LoggerStatus | Tally) -> dict[str, Any]:
    """Return the fields; `asdict` copies every value, and the event loop waits for it with 1,000 loggers."""
    return {field.name: getattr(one, field.name) for field in fields(one)}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
