"""The log of the service: JSON lines in release mode, else readable ones; payloads and secrets never."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import structlog

from collector import events

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_QUIET = 10.0
"""Seconds for which the same warning is counted and not said again."""


def set_up(*, release: bool) -> None:
    """Make the log write to standard error."""
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    colours = sys.stderr.isatty()
    render = structlog.processors.JSONRenderer() if release else structlog.dev.ConsoleRenderer(colors=colours)
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, render] if release else [*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if release else logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # what it says is an event here


class EventLog:
    """Writes a line for what happened: changes at info, trouble at warning, batches at debug, nothing for an entry."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = structlog.get_logger()
        self._clock = clock
        self._said: dict[Hashable, float] = {}
        self._kept_quiet: Counter[Hashable] = Counter()

    def observe(self, event: events.Event) -> None:
        """Write about an event, or not."""
        match event:
            case events.BatchSettled():
                self._batch(event)
            case events.LoggerState(logger, state, why):
                name = "gone" if state is None else state.value
                self._log.info("logger", logger=logger, state=name, **({"why": why} if why else {}))
            case events.Connection():
                self._connection(event)
            case events.Failed():
                key = (event.logger, event.stage, event.failure)
                facts = {"stage": event.stage.value, "error": event.error, "action": event.action}
                self._warn(key, "failed", logger=event.logger or None, **facts)
            case events.Retried():
                key = (event.logger, event.stage, "retry")
                facts = {"stage": event.stage.value, "error": event.error, "attempt": event.attempt}
                self._warn(key, "trying again", logger=event.logger, **facts, seconds=round(event.delay, 2))
            case events.Crashed():
                facts = {"actor": event.actor, "logger": event.logger, "errors": list(event.errors)}
                self._log.error("crashed", **facts, attempt=event.attempt, restart_in=round(event.delay, 2))
            case events.Returned():
                self._log.info("given back", logger=event.logger, messages=event.messages)
            case events.Listening():
                self._log.info("listening", address=f"http://{event.host}:{event.port}")
            case events.Stopping():
                self._log.info("stopping", signal=event.signal)
            case events.Ready():
                self._log.info("ready" if event.ready else "not ready")
            case _:
                pass

    def _batch(self, event: events.BatchSettled) -> None:
        facts = {
            "logger": event.logger,
            "batch": event.batch,
            "trigger": event.trigger.value,
            "entries": event.entries,
            "written": event.written,
            "duplicates": event.duplicates,
            "seconds": round(event.write_seconds, 4),
        }
        self._log.debug("batch written", **facts)
        if event.dead_letters:
            reasons = {reason.value: count for reason, count in event.dead_letters.items()}
            self._warn((event.logger, "dead"), "kept as dead letters", logger=event.logger, **reasons)

    def _connection(self, event: events.Connection) -> None:
        if event.connected:
            self._log.info("connected", server=event.server, why=event.why)
        else:
            self._warn((event.server, event.why), "connection", server=event.server, why=event.why)

    def _warn(self, key: Hashable, text: str, **facts: object) -> None:
        """Say it, unless the same was said a moment ago; then it is counted and said with the next."""
        now = self._clock()
        if now - self._said.get(key, -_QUIET) < _QUIET:
            self._kept_quiet[key] += 1
            return
        self._said[key] = now
        repeated = self._kept_quiet.pop(key, 0)
        self._log.warning(text, **facts, **({"repeated": repeated} if repeated else {}))
