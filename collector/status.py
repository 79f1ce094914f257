"""What the replica is doing now, for `/status` and the probes: kept by the event loop, read by the HTTP thread."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

from collector import events
from collector.rates import Counts, Rates
from collector.restarts import AT_WORK, Restarts

if TYPE_CHECKING:
    from collections.abc import Callable

ALIVE_WITHIN = 30.0
"""Seconds without a turn of the event loop after which the process cannot help itself."""
READY_WITHIN = 10.0
_STAGES = {"running": ["consumer", "batcher", "writer"], "draining": ["consumer", "batcher", "writer"]}
"""What works in a logger's pipeline by its state; in any other, nothing does."""


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
    last_error_at: str | None = None


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
    gave_up: str = ""
    connections: dict[str, dict[str, str]] = field(default_factory=dict)
    pulse: float = 0.0
    loop_lag: float = 0.0


class Status:
    """The state of the replica. `observe` is called in the event loop, everything else from any thread."""

    def __init__(
        self, namespace: str, version: str, clock: Callable[[], float] = time.monotonic, *, buffer_limit: int = 0
    ) -> None:
        self._namespace = namespace
        self._version = version
        self._clock = clock
        self._started = _now()
        self._lock = Lock()
        self._seen = _Seen(pulse=clock())
        self._buffer_limit = buffer_limit
        self._rates = Rates()
        self._restarts = Restarts()

    @property
    def not_alive(self) -> str:
        """Why the process cannot help itself, empty when it can; it never depends on NATS or MongoDB."""
        if self._seen.gave_up:
            return self._seen.gave_up
        return "" if self._clock() - self._seen.pulse < ALIVE_WITHIN else "the event loop does not turn"

    @property
    def not_ready(self) -> list[str]:
        """Why this replica does not take work, each in a few words; empty when it does.

        A pipeline that crashed until it was parked is a reason. A logger that is parked because its declaration cannot
        be read is none: it is the same on every replica, and nobody's release should wait for it.
        """
        seen = self._seen
        with self._lock:
            parked = [key for key, logger in seen.loggers.items() if self._is_given_up(key, logger)]
        return [
            *(["stopping"] if seen.stopping else []),
            *(f"not connected to {server}" for server, connected in seen.connected.items() if not connected),
            *(["the event loop does not turn"] if self._clock() - seen.pulse > READY_WITHIN else []),
            *([seen.gave_up] if seen.gave_up else []),
            *(f"the pipeline of {key} crashes again and again" for key in sorted(parked)),
        ]

    def _is_given_up(self, key: str, logger: LoggerStatus) -> bool:
        return logger.state == events.State.PARKED and self._restarts.of_logger(key) is not None

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
            seen, now = self._seen, self._clock()
            loggers = {key: self._logger(key, logger, now) for key, logger in sorted(seen.loggers.items())}
            return {
                "namespace": self._namespace,
                "version": self._version,
                "started": self._started,
                "ready": not not_ready,
                "not_ready": not_ready,
                "connected": dict(seen.connected),
                "connections": {server: dict(facts) for server, facts in seen.connections.items()},
                "actors": self._restarts.of_root(now),
                "buffer": {
                    "messages": sum(logger["in_hand_messages"] for logger in loggers.values()),
                    "bytes": sum(logger["in_hand_bytes"] for logger in loggers.values()),
                    "limit_bytes": self._buffer_limit,
                },
                "event_loop_lag_seconds": round(seen.loop_lag, 4),
                "entries": _as_dict(seen.tally),
                "last_error": seen.last_error,
                "loggers": loggers,
            }

    def _logger(self, key: str, logger: LoggerStatus, now: float) -> dict[str, Any]:
        received, written = self._rates.of(key, now, Counts(logger.received, logger.written))
        backoff = self._restarts.of_logger(key)
        return {
            **_as_dict(logger),
            "received_per_second": received,
            "written_per_second": written,
            "actors": _STAGES.get(logger.state, []),
            "backoff": backoff.as_json(now) if backoff else None,
        }

    def observe(self, event: events.Event) -> None:
        """Take in what happened."""
        with self._lock:
            match event:
                case events.LoggerState(logger, state, why):
                    self._move(logger, state, why)
                case events.Connection():
                    self._seen.connected[event.server] = event.connected
                    self._seen.connections[event.server] = {"since": _now(), "why": event.why}
                case events.Stopping():
                    self._seen.stopping = True
                case events.LoopLag():
                    self._seen.pulse = self._clock()
                    self._seen.loop_lag = event.seconds
                    self._mark()
                case events.GivenUp():
                    self._seen.gave_up = f"the supervisor gave up on {event.actor}"
                case events.Returned():
                    self._seen.tally.returned += event.messages
                case (
                    events.Ready()
                    | events.Starting()
                    | events.Listening()
                    | events.Mended()
                    | events.OwnershipChanged()
                ):
                    pass
                case events.Suspected():
                    pass
                case events.Failed() | events.Retried() | events.Crashed():
                    self._note_error(event)
                case _:
                    self._count(event)

    def _mark(self) -> None:
        counts = {key: Counts(logger.received, logger.written) for key, logger in self._seen.loggers.items()}
        self._rates.mark(self._seen.pulse, counts)

    def _move(self, logger: str, state: events.State | None, why: str) -> None:
        if state is None or state in AT_WORK:
            self._restarts.over(logger)
        if state is None:
            self._seen.loggers.pop(logger, None)
            return
        found = self._seen.loggers.setdefault(logger, LoggerStatus(state.value, _now()))
        if found.state != state.value:
            found.state, found.since = state.value, _now()
        found.why = why

    def _note_error(self, event: events.Failed | events.Retried | events.Crashed) -> None:
        if isinstance(event, events.Crashed):
            self._restarts.crashed(event, self._clock())
        error = event.errors[0] if isinstance(event, events.Crashed) else event.error
        logger = self._seen.loggers.get(event.logger or "")
        if logger is None:
            self._seen.last_error = error
        else:
            logger.last_error, logger.last_error_at = error, _now()
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
    return {name: getattr(one, name) for name in one.__slots__}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
