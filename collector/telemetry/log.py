"""The log of the service: JSON lines in release mode, else readable ones; payloads and secrets never."""

from __future__ import annotations

import atexit
import logging
import sys
import time
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO, cast

import structlog

from collector import events
from collector.events import lifecycle, readings
from collector.telemetry.log_lines import Lines
from collector.telemetry.log_others import take_over
from collector.telemetry.sentences import alike
from collector.telemetry.suppression import Repeats

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from collector.telemetry.suppression import Repeated

_QUIET = 60.0
"""Seconds for which a warning is counted and not written again."""
_WHOSE = 3
"""Loggers that get a line each for a warning; further loggers with the same warning share one line."""
_STATES_QUIET = 2.0
"""Seconds for which a change of state of many loggers is counted."""
_STATES_WHOSE = 10
"""Loggers that get a line each for a change of state; further loggers share one line."""
_NAMED = 10
"""Loggers that a line for many of them names."""
_TROUBLE: Mapping[events.State | None, str] = {
    events.State.FAILING: "trying again",
    events.State.MISCONFIGURED: "waiting until somebody changes it",
    events.State.BACKING_OFF: "trying again",
}
"""States that are warnings, each with the action of the pipeline."""


def set_up(*, release: bool) -> None:
    """Make the log, and all words of Python and of libraries, go to standard error as lines of one form."""
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    colours = sys.stderr.isatty() if sys.stderr is not None else False
    render = structlog.processors.JSONRenderer() if release else structlog.dev.ConsoleRenderer(colors=colours)
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, render] if release else [*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if release else logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", LINES)),
    )
    take_over(release=release)
    atexit.register(LINES.finish)


def log_last_line(event: str, **facts: object) -> None:
    """Write how the process ends: an error when `facts` have an action. It is written when this returns."""
    log = structlog.get_logger()
    (log.error if "action" in facts else log.info)(event, **facts)
    LINES.finish()


def _written_again(lost: int) -> None:
    structlog.get_logger().warning("log lines lost", lines=lost, action="going on: standard error takes lines again")


LINES = Lines(lambda: sys.stderr, _written_again)


class EventLog:
    """Writes a line for an event: changes at info, trouble at warning, batches at debug, and no line for an entry.

    The same line for many loggers is one, with their number and some of their names. So is a line again and again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = structlog.get_logger()
        self._clock = clock
        self._bucket_trouble = ""
        self._said_states: dict[str, Hashable] = {}
        """The last state of each logger that was written or counted, with its reason."""
        self._repeats: Repeats[tuple[str, dict[str, object]]] = Repeats(_QUIET, _WHOSE)
        self._states: Repeats[tuple[str, dict[str, object]]] = Repeats(_STATES_QUIET, _STATES_WHOSE)
        self._saying: dict[type, Callable[[Any], None]] = {
            events.LoggerState: self._logger_state,
            events.BatchSettled: self._batch,
            lifecycle.ConnectionChanged: self._connection,
            events.Failed: self._failed,
            events.Retried: self._retried,
            events.Crashed: self._crashed,
            events.GivenUp: self._given_up,
            lifecycle.LoopLag: self._tick,
            events.Returned: self._returned,
            events.OwnershipChanged: self._ownership,
            lifecycle.Starting: self._starting,
            lifecycle.Listening: self._listening,
            lifecycle.Ready: self._ready,
            lifecycle.ReplicasChanged: self._replicas_changed,
            events.Mended: self._mended,
            lifecycle.ObserverFailed: self._observer_failed,
            readings.Declared: self._declared,
            lifecycle.Stopping: self._stopping,
        }

    def observe(self, event: events.Event) -> None:
        """Write about an event. The regular `LoopLag` is the time to write the lines that were counted."""
        say = self._saying.get(type(event))
        if say is not None:
            say(event)

    def _logger_state(self, event: events.LoggerState) -> None:
        """Write a state that is another one, or has another reason, than the last one of the logger."""
        self._tick()
        state = "gone" if event.state is None else event.state.value
        facts: dict[str, object] = {"logger": event.logger, "state": state}
        if event.why:
            facts["why"] = event.why
        if event.state in _TROUBLE:
            facts["action"] = _TROUBLE[event.state]
        key = (state, alike(event.why, event.logger))
        if self._is_said(event, key):
            return
        if self._states.is_first(key, ("logger", facts), self._clock(), event.logger):
            (self._log.warning if event.state in _TROUBLE else self._log.info)("logger", **facts)

    def _is_said(self, event: events.LoggerState, key: Hashable) -> bool:
        before = self._said_states.get(event.logger)
        if event.state is None:
            self._said_states.pop(event.logger, None)
        else:
            self._said_states[event.logger] = key
        return before == key

    def _failed(self, event: events.Failed) -> None:
        key = (event.stage, alike(event.error, event.logger), event.action)
        stage, action = event.stage.value, event.action
        self._warn(key, "failed", logger=event.logger or None, stage=stage, error=event.error, action=action)

    def _retried(self, event: events.Retried) -> None:
        key = (event.stage, alike(event.error, event.logger), "retry")
        facts = {"stage": event.stage.value, "error": event.error, "attempt": event.attempt}
        self._warn(key, "failed", logger=event.logger, **facts, action=f"trying again in {event.delay:.2g} s")

    def _crashed(self, event: events.Crashed) -> None:
        facts: dict[str, object] = {"attempt": event.attempt, "action": f"starting it again in {event.delay:.2g} s"}
        if event.state is not None:
            facts["state"] = event.state.value
            self._said_states.pop(event.logger or "", None)
        self._log.error("crashed", actor=event.actor, logger=event.logger, errors=list(event.errors), **facts)

    def _given_up(self, event: events.GivenUp) -> None:
        self._log.error("gave up", actor=event.actor, error=event.error, action="ending the process")

    def _returned(self, event: events.Returned) -> None:
        self._log.info("given back", logger=event.logger, messages=event.messages)

    def _ownership(self, event: events.OwnershipChanged) -> None:
        self._log.info("ownership", logger=event.logger, change=event.change.value, epoch=event.epoch)

    def _mended(self, event: events.Mended) -> None:
        key = ("mended", alike(event.what, event.logger))
        facts = {"what": event.what, "messages": event.messages}
        self._warn(key, "mended", logger=event.logger, **facts, action="going on with the durable as it is now")

    def _observer_failed(self, event: lifecycle.ObserverFailed) -> None:
        facts = {"observer": event.observer.value, "error": event.error}
        self._warn((event.observer, event.error), "observer failed", **facts, action="going on; it may show less")

    def _declared(self, event: readings.Declared) -> None:
        """Write that the bucket is well again; its trouble is reported as `Failed`."""
        if self._bucket_trouble and not event.trouble:
            self._log.info("bucket", state="as declared", action="following it again")
        self._bucket_trouble = event.trouble

    def _starting(self, event: lifecycle.Starting) -> None:
        self._log.info("starting", version=event.version, **event.settings)
        for sentence in event.ignored:
            self._log.warning("setting ignored", error=sentence, action="going on without it")

    def _listening(self, event: lifecycle.Listening) -> None:
        self._log.info("listening", address=f"http://{event.host}:{event.port}")

    def _ready(self, event: lifecycle.Ready) -> None:
        self._log.info("ready" if event.ready else "not ready")

    def _replicas_changed(self, event: lifecycle.ReplicasChanged) -> None:
        self._log.info("replicas", living=len(event.replicas), among_them=list(event.replicas[:_NAMED]))

    def _stopping(self, event: lifecycle.Stopping) -> None:
        for repeated in [*self._repeats.all(), *self._states.all()]:
            self._log_repeated(repeated)
        self._log.info("stopping", signal=event.signal)

    def _batch(self, event: events.BatchSettled) -> None:
        if self._says_batches:
            self._say_batch(event)
        if event.dead_letters:
            reasons = {reason.value: count for reason, count in event.dead_letters.items()}
            look = f"see collector dead-letters list {event.logger}"
            self._warn((event.logger, "dead"), "kept as dead letters", logger=event.logger, **reasons, action=look)

    @cached_property
    def _says_batches(self) -> bool:
        """Whether lines at debug are written: else nothing is done for them, as batches are many."""
        return bool(self._log.bind().is_enabled_for(logging.DEBUG))

    def _say_batch(self, event: events.BatchSettled) -> None:
        facts = {
            "logger": event.logger,
            "batch": event.batch,
            "trigger": event.trigger.value,
            "entries": event.entries,
            "written": event.written,
            "duplicates": event.duplicates,
            "seconds": round(event.write_seconds, 4),
        }
        if event.dropped:
            facts["dropped"] = dict(event.dropped)
        self._log.debug("batch written", **facts)

    def _connection(self, event: lifecycle.ConnectionChanged) -> None:
        if event.connected:
            self._log.info("connected", server=event.server, why=event.why)
        else:
            facts = {"server": event.server, "why": event.why}
            self._warn(
                (event.server, alike(event.why)), "connection", **facts, action="connecting again; nothing is lost"
            )

    def _warn(self, key: Hashable, text: str, **facts: object) -> None:
        """Write a warning, or count it when the same one was written a moment ago."""
        self._tick()
        if self._repeats.is_first(key, (text, facts), self._clock(), str(facts.get("logger") or "")):
            self._log.warning(text, **facts)

    def _tick(self, _: object = None) -> None:
        now = self._clock()
        for repeated in [*self._repeats.ended(now), *self._states.ended(now)]:
            self._log_repeated(repeated)

    def _log_repeated(self, repeated: Repeated[tuple[str, dict[str, object]]]) -> None:
        """Write how often a line was counted, and when it last was: its cause may be over by now."""
        text, facts = repeated.last
        now = self._clock()
        loggers = [logger for logger in repeated.kept if logger]
        facts = {name: fact for name, fact in facts.items() if name != "logger" or len(loggers) < 2}
        if len(loggers) > 1:
            facts |= {"loggers": len(loggers), "among_them": loggers[:_NAMED]}
        last_at = datetime.fromtimestamp(time.time() - (now - repeated.last_at), UTC)
        again = f"{repeated.more} more like it in {round(now - repeated.since)} s"
        say = self._log.info if text == "logger" else self._log.warning
        say("repeated", what=text, **facts, again=again, repeated=repeated.more, last_at=_iso(last_at))


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
