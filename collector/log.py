"""The log of the service: JSON lines in release mode, else readable ones; payloads and secrets never."""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import structlog

from collector import events
from collector.repeats import Repeats

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from collector.repeats import Repeated

_QUIET = 60.0
"""Seconds for which the same warning is counted and not said again."""
_NUMBERS = re.compile(r"[0-9]+")


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
        self._repeats: Repeats[tuple[str, dict[str, object]]] = Repeats(_QUIET)
        self._saying: dict[type, Callable[[Any], None]] = {
            events.LoggerState: self._logger_state,
            events.BatchSettled: self._batch,
            events.Connection: self._connection,
            events.Failed: self._failed,
            events.Retried: self._retried,
            events.Crashed: self._crashed,
            events.GivenUp: self._given_up,
            events.LoopLag: self._tick,
            events.Returned: self._returned,
            events.OwnershipChanged: self._ownership,
            events.Starting: self._starting,
            events.Listening: self._listening,
            events.Ready: self._ready,
            events.Mended: self._mended,
            events.Stopping: self._stopping,
        }

    def observe(self, event: events.Event) -> None:
        """Write about an event, or not; the regular `LoopLag` is also the time to say what was kept quiet."""
        say = self._saying.get(type(event))
        if say is not None:
            say(event)

    def _logger_state(self, event: events.LoggerState) -> None:
        state = "gone" if event.state is None else event.state.value
        self._log.info("logger", logger=event.logger, state=state, **({"why": event.why} if event.why else {}))

    def _failed(self, event: events.Failed) -> None:
        key = (event.logger, event.stage, _like(event.error), event.action)
        stage, action = event.stage.value, event.action
        self._warn(key, "failed", logger=event.logger or None, stage=stage, error=event.error, action=action)

    def _retried(self, event: events.Retried) -> None:
        key = (event.logger, event.stage, _like(event.error), "retry")
        facts = {"stage": event.stage.value, "error": event.error, "attempt": event.attempt}
        self._warn(key, "failed", logger=event.logger, **facts, action=f"trying again in {event.delay:.2g} s")

    def _crashed(self, event: events.Crashed) -> None:
        facts = {"attempt": event.attempt, "action": f"starting it again in {event.delay:.2g} s"}
        self._log.error("crashed", actor=event.actor, logger=event.logger, errors=list(event.errors), **facts)

    def _given_up(self, event: events.GivenUp) -> None:
        self._log.error("gave up", actor=event.actor, error=event.error, action="ending the process")

    def _returned(self, event: events.Returned) -> None:
        self._log.info("given back", logger=event.logger, messages=event.messages)

    def _ownership(self, event: events.OwnershipChanged) -> None:
        self._log.info("ownership", logger=event.logger, change=event.change.value, epoch=event.epoch)

    def _mended(self, event: events.Mended) -> None:
        key = (event.logger, "mended", event.what)
        facts = {"what": event.what, "messages": event.messages}
        self._warn(key, "mended", logger=event.logger, **facts, action="delivering again whatever waits")

    def _starting(self, event: events.Starting) -> None:
        self._log.info("starting", version=event.version, **event.settings)
        for sentence in event.ignored:
            self._log.warning("setting ignored", error=sentence, action="going on without it")

    def _listening(self, event: events.Listening) -> None:
        self._log.info("listening", address=f"http://{event.host}:{event.port}")

    def _ready(self, event: events.Ready) -> None:
        self._log.info("ready" if event.ready else "not ready")

    def _stopping(self, event: events.Stopping) -> None:
        for repeated in self._repeats.all():
            self._say_repeated(repeated)
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
            look = f"see collector dead-letters list {event.logger}"
            self._warn((event.logger, "dead"), "kept as dead letters", logger=event.logger, **reasons, action=look)

    def _connection(self, event: events.Connection) -> None:
        if event.connected:
            self._log.info("connected", server=event.server, why=event.why)
        else:
            facts = {"server": event.server, "why": event.why}
            self._warn((event.server, event.why), "connection", **facts, action="connecting again; nothing is lost")

    def _warn(self, key: Hashable, text: str, **facts: object) -> None:
        """Say it, unless the same was said a moment ago; then it is counted, and said when that moment is over."""
        self._tick()
        if self._repeats.is_first(key, (text, facts), self._clock()):
            self._log.warning(text, **facts)

    def _tick(self, _: object = None) -> None:
        for repeated in self._repeats.ended(self._clock()):
            self._say_repeated(repeated)

    def _say_repeated(self, repeated: Repeated[tuple[str, dict[str, object]]]) -> None:
        text, facts = repeated.last
        seconds = round(self._clock() - repeated.since)
        again = f"and {repeated.more} more like it in {seconds} s"
        self._log.warning(text, **facts, again=again, repeated=repeated.more)


def _like(error: str) -> str:
    """Return what is the same in errors that are alike: all but the numbers."""
    return _NUMBERS.sub("#", error)
