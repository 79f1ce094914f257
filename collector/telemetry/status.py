"""The state of the replica for `/status` and the probes: kept by the event loop, read by the HTTP thread."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from collector import events
from collector.events import lifecycle
from collector.events.readings import Declared
from collector.telemetry.last_error import LastError, time_of_day
from collector.telemetry.logger_status import Loggers, Tally
from collector.telemetry.restarts import ROOT_ACTORS, Restarts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALIVE_WITHIN = 30.0
"""Seconds without a turn of the event loop after which the process cannot help itself."""
READY_WITHIN = 10.0
"""Seconds without a turn of the event loop after which the replica takes no work."""

_UNREAD = "the bucket of loggers was not read yet"
_AT_ONCE = 250
"""Loggers in a piece of the text."""


@dataclass(slots=True)
class _Server:
    """The connection to NATS or MongoDB."""

    connected: bool = False
    why: str = ""
    since: str | None = None

    def change(self, event: lifecycle.ConnectionChanged) -> None:
        if self.since is None or self.connected != event.connected:
            self.since = time_of_day()
        self.connected, self.why = event.connected, event.why


@dataclass(slots=True)
class _Replica:
    """The last events of the replica as a whole."""

    pulse: float
    servers: dict[str, _Server]
    loop_lag: float = 0.0
    batch_age: float = 0.0
    replicas: tuple[str, ...] = ()
    bucket: Declared = field(default_factory=lambda: Declared(looked=False))
    observer_failures: dict[str, int] = field(default_factory=lambda: {one.value: 0 for one in lifecycle.Observer})
    error: LastError = field(default_factory=LastError)
    stopping: bool = False
    gave_up: str = ""


class Status:
    """The state of the replica. The event loop calls `observe`, any thread everything else."""

    def __init__(
        self,
        namespace: str,
        version: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        buffer_limit: int = 0,
        mongodb: bool = True,
    ) -> None:
        """Know nothing yet; `mongodb` tells whether the replica has a connection to MongoDB."""
        self._of_the_process = {"namespace": namespace, "version": version, "started": time_of_day()}
        self._clock = clock
        self._lock = Lock()
        servers = ("nats", "mongodb") if mongodb else ("nats",)
        self._replica = _Replica(clock(), {server: _Server() for server in servers})
        self._buffer_limit = buffer_limit
        self._restarts = Restarts([actor for actor in ROOT_ACTORS if mongodb or actor != "owners"])
        self._loggers = Loggers(clock, self._restarts)
        self._taking: dict[type, Callable[[Any], None]] = {
            **self._loggers.taking,
            lifecycle.ConnectionChanged: self._connection,
            lifecycle.Stopping: self._stopping,
            lifecycle.LoopLag: self._turned,
            lifecycle.BatchAgeChanged: self._batch_age,
            lifecycle.ReplicasChanged: self._replicas_changed,
            events.GivenUp: self._given_up,
            events.Failed: self._failed,
            events.Retried: self._failed,
            events.Crashed: self._crashed,
            lifecycle.ObserverFailed: self._observer_failed,
            Declared: self._declared,
        }

    @property
    def not_alive(self) -> str:
        """Why the process cannot help itself, empty when it can; it never depends on NATS or MongoDB."""
        replica = self._replica
        if replica.gave_up:
            return replica.gave_up
        return "" if self._clock() - replica.pulse < ALIVE_WITHIN else "the event loop does not turn"

    @property
    def not_ready(self) -> list[str]:
        """Why this replica does not take work, each reason in a few words; empty when it does.

        A pipeline that crashed until it was parked is a reason. A logger that is parked because its declaration cannot
        be read is none: it is parked on every replica, and would stop every rollout. Failing writes are a reason when
        no write of this replica succeeds: see `no_write_succeeds`. A bucket that was never read is a reason, missing or
        not: such a replica moves nothing, and must not replace a replica that goes on with the loggers it knows.
        """
        replica = self._replica
        with self._lock:
            given_up, failing = self._loggers.given_up(), self._loggers.failing()
        return [
            *(["stopping"] if replica.stopping else []),
            *(_not_connected(name, server) for name, server in replica.servers.items() if not server.connected),
            *(["the event loop does not turn"] if self._clock() - replica.pulse > READY_WITHIN else []),
            *([replica.gave_up] if replica.gave_up else []),
            *(f"the pipeline of {key} crashes again and again" for key in given_up),
            *failing,
            *([] if replica.bucket.looked else [replica.bucket.trouble or _UNREAD]),
        ]

    @property
    def loop_lag(self) -> float:
        """How late the event loop last was, or is now when it is too late to report it."""
        late = self._clock() - self._replica.pulse
        return late if late > READY_WITHIN else self._replica.loop_lag

    @property
    def loggers(self) -> int:
        """How many loggers this replica has."""
        return len(self._loggers)

    @property
    def tally(self) -> Tally:
        """The counts of this process."""
        return self._loggers.tally

    def snapshot(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        replica = self._of_replica()
        with self._lock:
            return {**replica, "loggers": self._loggers.as_json(self._clock(), self._loggers.keys())}

    def chunks(self) -> Iterator[bytes]:
        """Yield the same as JSON text in pieces, so that that of many loggers is never in memory as a whole."""
        yield json.dumps(self._of_replica(), indent=2).removesuffix("\n}").encode() + b',\n  "loggers": {'
        keys, comma = self._loggers.keys(), ""
        for start in range(0, len(keys), _AT_ONCE):
            with self._lock:
                some = self._loggers.as_json(self._clock(), keys[start : start + _AT_ONCE])
            if some:
                yield (comma + json.dumps(some, indent=2)[1:-2].replace("\n", "\n  ")).encode()
                comma = ","
        yield b"\n  }\n}\n"

    def _of_replica(self) -> dict[str, Any]:
        not_ready = self.not_ready
        with self._lock:
            replica, now = self._replica, self._clock()
            messages, size = self._loggers.in_hand
            return {
                **self._of_the_process,
                "ready": not not_ready,
                "not_ready": not_ready,
                "connected": {name: server.connected for name, server in replica.servers.items()},
                "connections": {
                    name: {"since": server.since, "why": server.why}
                    for name, server in replica.servers.items()
                    if server.since
                },
                "replicas": list(replica.replicas),
                "homes": self._loggers.homes,
                "bucket": {"trouble": replica.bucket.trouble, "unreadable": replica.bucket.unreadable},
                "actors": self._restarts.of_root(now),
                "observer_failures": dict(replica.observer_failures),
                "buffer": {
                    "messages": messages,
                    "bytes": size,
                    "limit_bytes": self._buffer_limit,
                },
                "event_loop_lag_seconds": round(replica.loop_lag, 4),
                "batch_age_seconds": round(replica.batch_age, 3),
                "entries": asdict(self.tally),
                **replica.error.as_json(past=replica.error.is_past(now)),
            }

    def observe(self, event: events.Event) -> None:
        """Take in an event; one that says nothing about the present is passed over."""
        take = self._taking.get(type(event))
        if take is not None:
            with self._lock:
                take(event)

    def _connection(self, event: lifecycle.ConnectionChanged) -> None:
        self._replica.servers[event.server].change(event)
        if event.connected:
            self._replica.error.recover()
        else:
            self._note_error("", f"{event.server}: {event.why}")

    def _declared(self, event: Declared) -> None:
        self._replica.bucket = event

    def _replicas_changed(self, event: lifecycle.ReplicasChanged) -> None:
        self._replica.replicas = event.replicas

    def _stopping(self, _: lifecycle.Stopping) -> None:
        self._replica.stopping = True

    def _turned(self, event: lifecycle.LoopLag) -> None:
        self._replica.pulse = self._clock()
        self._replica.loop_lag = event.seconds
        self._loggers.mark(self._replica.pulse)

    def _batch_age(self, event: lifecycle.BatchAgeChanged) -> None:
        self._replica.batch_age = event.seconds

    def _given_up(self, event: events.GivenUp) -> None:
        self._replica.gave_up = f"the supervisor gave up on {event.actor}"

    def _failed(self, event: events.Failed | events.Retried) -> None:
        self._note_error(event.logger, event.error, event.stage)

    def _crashed(self, event: events.Crashed) -> None:
        if event.logger is not None and event.state is not None:
            self._loggers.move(events.LoggerState(event.logger, event.state, event.errors[0]))
        self._restarts.crashed(event, self._clock())
        self._note_error(event.logger or "", event.errors[0])

    def _observer_failed(self, event: lifecycle.ObserverFailed) -> None:
        self._replica.observer_failures[event.observer] += 1
        self._note_error("", f"expected {event.observer} to take every event, got {event.error}")

    def _note_error(self, key: str, error: str, stage: events.Stage | None = None) -> None:
        """Note an error of a logger; one of a logger that is not there is the replica's."""
        (self._loggers.error_of(key) or self._replica.error).note(error, self._clock(), stage)


def _not_connected(name: str, server: _Server) -> str:
    return f"not connected to {name}: {server.why}" if server.why else f"not connected to {name}"
