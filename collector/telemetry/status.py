"""What the replica is doing now, for `/status` and the probes: kept by the event loop, read by the HTTP thread."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

from collector import events, readings
from collector.telemetry.failing import no_write_succeeds
from collector.telemetry.rates import Counts, Rates
from collector.telemetry.restarts import AT_WORK, Restarts

if TYPE_CHECKING:
    from collections.abc import Callable

ALIVE_WITHIN = 30.0
"""Seconds without a turn of the event loop after which the process cannot help itself."""
READY_WITHIN = 10.0
STALE_AFTER = 60.0
"""Seconds after which a reading of the lag says nothing about now any more."""
QUIET_AFTER = 60.0
"""Seconds after which an error that has not come again is past; what goes on is tried more often than that."""
_MOVING = frozenset({events.State.RUNNING, events.State.FAILING, events.State.DRAINING})
"""States of a logger whose entries are being written."""
_WAITING = frozenset({events.State.BACKING_OFF, events.State.MISCONFIGURED})
"""States of a logger whose reason is an error."""


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
    last_error: str = ""
    last_error_at: str | None = None
    last_error_past: bool = False
    """It has not come again for a minute, or the logger has recovered from it."""


@dataclass(slots=True)
class Tally:
    """What this process has done, in entries; `returned` in messages."""

    received: int = 0
    written: int = 0
    duplicates: int = 0
    dead_lettered: int = 0
    returned: int = 0


@dataclass(slots=True)
class _Times:
    """When something of a logger was last heard of, by the status's own clock."""

    failing: float | None = None
    lag: float | None = None
    error: float | None = None
    stage: events.Stage | None = None
    """Where the error was; None: a crash."""


@dataclass(slots=True)
class _Seen:
    connected: dict[str, bool] = field(default_factory=lambda: {"nats": False, "mongodb": False})
    loggers: dict[str, LoggerStatus] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    times: dict[str, _Times] = field(default_factory=dict)
    last_error: str = ""
    last_error_at: str | None = None
    error: float | None = None
    last_success: float | None = None
    stopping: bool = False
    gave_up: str = ""
    connections: dict[str, dict[str, str]] = field(default_factory=dict)
    observer_failures: dict[str, int] = field(default_factory=lambda: {one.value: 0 for one in events.Observer})
    bucket: readings.Declared = field(default_factory=lambda: readings.Declared(looked=False))
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
        self._taking: dict[type, Callable[[Any], None]] = {
            events.LoggerState: self._move,
            events.ConnectionChanged: self._connection,
            events.Stopping: self._stopping,
            events.LoopLag: self._turned,
            events.GivenUp: self._given_up,
            events.Returned: self._returned,
            events.Failed: self._failed,
            events.Retried: self._failed,
            events.Crashed: self._crashed,
            events.Received: self._received,
            events.BatchSettled: self._settled,
            events.Unsettled: self._stored,
            events.Held: self._held,
            events.WritesInProgress: self._writes,
            readings.Sampled: self._sampled,
            readings.Declared: self._declared,
            events.ObserverFailed: self._observer_failed,
        }

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
        be read is none: it is the same on every replica, and nobody's release should wait for it. Writes that fail are
        one when none of this replica succeeds: see `no_write_succeeds`. A bucket that is gone is one for a replica that
        never read it and so moves nothing: it must not take the place of one that goes on with what it knows.
        """
        seen = self._seen
        with self._lock:
            parked = [key for key, logger in seen.loggers.items() if self._is_given_up(key, logger)]
            failing = self._failing()
        return [
            *(["stopping"] if seen.stopping else []),
            *(self._not_connected(server) for server, connected in seen.connected.items() if not connected),
            *(["the event loop does not turn"] if self._clock() - seen.pulse > READY_WITHIN else []),
            *([seen.gave_up] if seen.gave_up else []),
            *(f"the pipeline of {key} crashes again and again" for key in sorted(parked)),
            *failing,
            *([seen.bucket.trouble] if seen.bucket.trouble and not seen.bucket.looked else []),
        ]

    def _failing(self) -> list[str]:
        """Return why no write of this replica succeeds, or nothing."""
        failing = {key: one.failing for key, one in self._seen.times.items() if one.failing is not None}
        writing = sum(logger.state in _MOVING for logger in self._seen.loggers.values())
        if not no_write_succeeds(failing, writing, self._seen.last_success):
            return []
        first = min(failing, key=lambda key: (failing[key], key))
        return [f"no write succeeds, {first}: {self._seen.loggers[first].why}"]

    def _not_connected(self, server: str) -> str:
        why = self._seen.connections.get(server, {}).get("why", "")
        return f"not connected to {server}: {why}" if why else f"not connected to {server}"

    def _is_given_up(self, key: str, logger: LoggerStatus) -> bool:
        _, backoff = self._restarts.of_logger(key)
        return logger.state == events.State.PARKED and backoff is not None

    @property
    def loop_lag(self) -> float:
        """How late the event loop last was, or is now, if that is more than it takes to say so."""
        late = self._clock() - self._seen.pulse
        return late if late > READY_WITHIN else self._seen.loop_lag

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
                "bucket": {"trouble": seen.bucket.trouble, "unreadable": seen.bucket.unreadable},
                "actors": self._restarts.of_root(now),
                "observer_failures": dict(seen.observer_failures),
                "buffer": {
                    "messages": sum(logger["in_hand_messages"] for logger in loggers.values()),
                    "bytes": sum(logger["in_hand_bytes"] for logger in loggers.values()),
                    "limit_bytes": self._buffer_limit,
                },
                "event_loop_lag_seconds": round(seen.loop_lag, 4),
                "entries": _as_dict(seen.tally),
                "last_error": seen.last_error,
                "last_error_at": seen.last_error_at,
                "last_error_past": _is_past(seen.error, now) if seen.last_error else False,
                "loggers": loggers,
            }

    def _logger(self, key: str, logger: LoggerStatus, now: float) -> dict[str, Any]:
        received, written = self._rates.of(key, now, Counts(logger.received, logger.written))
        (restarts, backoff), times = self._restarts.of_logger(key), self._seen.times[key]
        at_work = logger.state in AT_WORK
        unknown = {} if times.lag is not None and now - times.lag <= STALE_AFTER else _UNKNOWN_LAG
        return {
            **_as_dict(logger),
            **unknown,
            "last_error_past": bool(logger.last_error) and at_work and _is_past(times.error, now),
            "received_per_second": received,
            "written_per_second": written,
            "restarts": restarts,
            "backoff": backoff.as_json(now) if backoff else None,
        }

    def observe(self, event: events.Event) -> None:
        """Take in what happened; what says nothing about the present is passed over."""
        take = self._taking.get(type(event))
        if take is not None:
            with self._lock:
                take(event)

    def _move(self, event: events.LoggerState) -> None:
        key, state = event.logger, event.state
        if state in AT_WORK:
            self._restarts.at_work(key)
        if state is None:
            self._restarts.forget(key)
            self._seen.loggers.pop(key, None)
            self._seen.times.pop(key, None)
            return
        found = self._seen.loggers.setdefault(key, LoggerStatus(state.value, _now()))
        times = self._seen.times.setdefault(key, _Times())
        if found.state != state.value:
            found.state, found.since = state.value, _now()
        found.why = event.why
        if state in _WAITING and event.why:
            self._note_error(key, event.why)
        if state is not events.State.FAILING:
            times.failing = None
        elif times.failing is None:
            times.failing = self._clock()
        if state is events.State.RUNNING:
            times.error = None

    def _connection(self, event: events.ConnectionChanged) -> None:
        seen, before = self._seen, self._seen.connections.get(event.server)
        same = before is not None and seen.connected[event.server] == event.connected
        seen.connected[event.server] = event.connected
        seen.connections[event.server] = {"since": before["since"] if same and before else _now(), "why": event.why}
        if event.connected:
            seen.error = None
        else:
            self._note_error("", f"{event.server}: {event.why}")

    def _declared(self, event: readings.Declared) -> None:
        self._seen.bucket = event

    def _stopping(self, _: events.Stopping) -> None:
        self._seen.stopping = True

    def _turned(self, event: events.LoopLag) -> None:
        self._seen.pulse = self._clock()
        self._seen.loop_lag = event.seconds
        counts = {key: Counts(logger.received, logger.written) for key, logger in self._seen.loggers.items()}
        self._rates.mark(self._seen.pulse, counts)

    def _given_up(self, event: events.GivenUp) -> None:
        self._seen.gave_up = f"the supervisor gave up on {event.actor}"

    def _returned(self, event: events.Returned) -> None:
        self._seen.tally.returned += event.messages

    def _failed(self, event: events.Failed | events.Retried) -> None:
        self._note_error(event.logger, event.error, event.stage)

    def _crashed(self, event: events.Crashed) -> None:
        self._restarts.crashed(event, self._clock())
        self._note_error(event.logger or "", event.errors[0])

    def _observer_failed(self, event: events.ObserverFailed) -> None:
        self._seen.observer_failures[event.observer] += 1
        self._note_error("", f"expected {event.observer} to take every event, got {event.error}")

    def _note_error(self, key: str, error: str, stage: events.Stage | None = None) -> None:
        logger = self._seen.loggers.get(key)
        if logger is None:
            self._seen.last_error, self._seen.last_error_at, self._seen.error = error, _now(), self._clock()
        else:
            logger.last_error, logger.last_error_at = error, _now()
            times = self._seen.times[key]
            times.error, times.stage = self._clock(), stage

    def _received(self, event: events.Received) -> None:
        if (logger := self._seen.loggers.get(event.logger)) is not None:
            logger.received += event.entries
            self._seen.tally.received += event.entries
            if (times := self._seen.times[event.logger]).stage is events.Stage.PULL:
                times.error = None

    def _settled(self, event: events.BatchSettled) -> None:
        if event.logger not in self._seen.loggers:
            return
        self._seen.last_success = self._clock()
        self._seen.times[event.logger].error = None
        self._stored(event)

    def _stored(self, event: events.BatchSettled | events.Unsettled) -> None:
        if (logger := self._seen.loggers.get(event.logger)) is None:
            return
        dead = event.dead_letters.total()
        for counted in (logger, self._seen.tally):
            counted.written += event.written
            counted.duplicates += event.duplicates
            counted.dead_lettered += dead

    def _held(self, event: events.Held) -> None:
        if (logger := self._seen.loggers.get(event.logger)) is not None:
            logger.in_hand_messages, logger.in_hand_bytes = event.messages, event.bytes

    def _writes(self, event: events.WritesInProgress) -> None:
        if (logger := self._seen.loggers.get(event.logger)) is not None:
            logger.writes_in_progress = event.writes

    def _sampled(self, event: readings.Sampled) -> None:
        if (logger := self._seen.loggers.get(event.logger)) is not None:
            logger.lag_messages = event.pending + event.ack_pending
            logger.oldest_message_age_seconds = round(event.oldest_age_seconds, 3)
            self._seen.times[event.logger].lag = self._clock()


_UNKNOWN_LAG = dict.fromkeys(("lag_messages", "oldest_message_age_seconds"))


def _is_past(error: float | None, now: float) -> bool:
    """Tell whether an error that came at this time is over; None: what it was about works again."""
    return error is None or now - error > QUIET_AFTER


def _as_dict(one: LoggerStatus | Tally) -> dict[str, Any]:
    """Return the fields; `asdict` copies every value, and the event loop waits for it with 1,000 loggers."""
    return {name: getattr(one, name) for name in one.__slots__}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
