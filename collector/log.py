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
        self._saying: dict[type, Callable[[Any], None]] = {
            events.LoggerState: self._logger_state,
            events.BatchSettled: self._batch,
            events.Connection: self._connection,
            events.Failed: self._failed,
            events.Retried: self._retried,
            events.Crashed: self._crashed,
            events.Returned: self._returned,
            events.OwnershipChanged: self._ownership,
            events.Listening: self._listening,
            events.Ready: self._ready,
            events.Mended: self._mended,
            events.Stopping: self._stopping,
        }

    def observe(self, event: events.Event) -> None:
        """Write about an event, or not."""
        say = self._saying.get(type(event))
        if say is not None:
            say(event)

    def _logger_state(self, event: events.LoggerState) -> None:
        state = "gone" if event.state is None else event.state.value
        self._log.info("logger", logger=event.logger, state=state, **({"why": event.why} if event.why else {}))

    def _failed(self, event: events.Failed) -> None:
        key = (event.logger, event.stage, event.failure, event.action)
        stage, action = event.stage.value, event.action
        self._warn(key, "failed", logger=event.logger or None, stage=stage, error=event.error, action=action)

    def _retried(self, event: events.Retried) -> None:
        key = (event.logger, event.stage, "retry")
        facts = {"stage": event.stage.value, "error": event.error, "seconds": round(event.delay, 2)}
        self._warn(key, "trying again", logger=event.logger, attempt=event.attempt, **facts)

    def _crashed(self, event: events.Crashed) -> None:
        facts = {"attempt": event.attempt, "restart_in": round(event.delay, 2)}
        self._log.error("crashed", actor=event.actor, logger=event.logger, errors=list(event.errors), **facts)

    def _returned(self, event: events.Returned) -> None:
        self._log.info("given back", logger=event.logger, messages=event.messages)

    def _ownership(self, event: events.OwnershipChanged) -> None:
        self._log.info("ownership", logger=event.logger, change=event.change.value, epoch=event.epoch)

    def _mended(self, event: events.Mended) -> None:
        key = (event.logger, "mended", event.what)
        self._warn(key, "mended", logger=event.logger, what=event.what, messages=event.messages)

    def _listening(self, event: events.Listening) -> None:
        self._log.info("listening", address=f"http://{event.host}:{event.port}")

    def _ready(self, event: events.Ready) -> None:
        self._log.info("ready" if event.ready else "not ready")

    def _stopping(self, event: events.Stopping) -> None:
        self._log.info("stopping", signal=event.signal)

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
