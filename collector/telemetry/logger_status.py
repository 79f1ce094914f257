"""The loggers of a replica as it sees them: state, counts, lag and last error of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from collector import events
from collector.events import Stage, State
from collector.events.archiving import ArchiveGone, ArchiveSampled, ArchiveStored
from collector.events.readings import STALE_AFTER, Sampled
from collector.telemetry.failing import no_write_succeeds
from collector.telemetry.last_error import LastError, time_of_day
from collector.telemetry.rates import Counts, Rates
from collector.telemetry.restarts import AT_WORK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from collector.telemetry.restarts import Restarts

_MOVING = frozenset({State.RUNNING, State.FAILING, State.DRAINING})
"""States of a logger whose entries are being written."""
_WAITING = frozenset({State.BACKING_OFF, State.MISCONFIGURED})
"""States of a logger whose reason is an error."""


@dataclass(slots=True)
class Tally:
    """Counts of this process: `returned` in messages, all others in entries."""

    received: int = 0
    written: int = 0
    duplicates: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    returned: int = 0


@dataclass(slots=True)
class ArchiveStatus:
    """The archive of a logger, as this process has it: of another owner it knows nothing but `why` of the logger."""

    sampled: ArchiveSampled
    stored: ArchiveStored | None = None
    stored_at: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        sampled, stored = self.sampled, self.stored
        return {
            "is_owner": sampled.is_owner,
            "cursor": sampled.cursor if sampled.is_owner else None,
            "open_cut_age_seconds": round(sampled.open_cut_age, 1),
            "open_cut_bytes": sampled.open_cut_bytes,
            "unacked_messages": sampled.unacked_messages,
            "last_cut": None
            if stored is None
            else {
                "number": stored.number,
                "to": stored.to,
                "messages": stored.messages,
                "trigger": stored.trigger,
                "stored_at": self.stored_at,
            },
        }


@dataclass(slots=True)
class LoggerStatus:
    """One logger. Counts are entries since the start of this process."""

    state: State
    since: str = field(default_factory=time_of_day)
    why: str = ""
    lag_messages: int = 0
    oldest_message_age_seconds: float = 0.0
    lag_read: float | None = None
    in_hand_messages: int = 0
    in_hand_bytes: int = 0
    writes_in_progress: int = 0
    received: int = 0
    written: int = 0
    duplicates: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    home: bool = False
    """Whether the logger is at home on this replica."""
    error: LastError = field(default_factory=LastError)
    archive: ArchiveStatus | None = None

    def move(self, state: State, why: str, now: float) -> None:
        """Take in a state."""
        if self.state is not state:
            self.state, self.since = state, time_of_day()
        self.why = why
        if state in _WAITING and why:
            self.error.note(why, now)
        if state is State.RUNNING:
            self.error.recover()

    def sample(self, sampled: Sampled, now: float) -> None:
        """Take in a reading of the lag."""
        self.lag_messages = sampled.lag
        self.oldest_message_age_seconds = round(sampled.oldest_age_seconds, 3)
        self.lag_read = now

    def as_json(self, now: float) -> dict[str, Any]:
        """Return it as JSON values; a lag that is too old is unknown."""
        known = self.lag_read is not None and now - self.lag_read <= STALE_AFTER
        return {
            "state": self.state.value,
            "since": self.since,
            "why": self.why,
            "lag_messages": self.lag_messages if known else None,
            "oldest_message_age_seconds": self.oldest_message_age_seconds if known else None,
            "in_hand_messages": self.in_hand_messages,
            "in_hand_bytes": self.in_hand_bytes,
            "writes_in_progress": self.writes_in_progress,
            "received": self.received,
            "written": self.written,
            "duplicates": self.duplicates,
            "dead_lettered": self.dead_lettered,
            "dropped": self.dropped,
            "home": self.home,
            "archive": None if self.archive is None else self.archive.as_json(),
            **self.error.as_json(past=self.state in AT_WORK and self.error.is_past(now)),
        }


class Loggers:
    """Takes in the events of loggers. An event of a logger that is not there, or gone, is passed over."""

    def __init__(self, clock: Callable[[], float], restarts: Restarts) -> None:
        self._clock = clock
        self._restarts = restarts
        self._rates = Rates()
        self._all: dict[str, LoggerStatus] = {}
        self._failing: dict[str, float] = {}
        """Since when each failing logger fails."""
        self._moving = 0
        """How many loggers have a state in which entries are written."""
        self._last_success: float | None = None
        self.tally = Tally()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def taking(self) -> dict[type, Callable[[Any], None]]:
        """The methods that take in events, by the kind of event."""
        return {
            events.LoggerState: self.move,
            events.Returned: self._returned,
            events.Received: self._received,
            events.BatchSettled: self._batch_settled,
            events.SettledLater: self._settled,
            events.Unsettled: self._stored,
            events.Held: self._held,
            events.WritesInProgress: self._writes,
            events.HomeChanged: self._home_changed,
            Sampled: self._sampled,
            ArchiveSampled: self._archive_sampled,
            ArchiveStored: self._archive_stored,
            ArchiveGone: self._archive_gone,
        }

    def error_of(self, key: str) -> LastError | None:
        """Return the last error of a logger; None when the logger is not there."""
        logger = self._all.get(key)
        return None if logger is None else logger.error

    def mark(self, now: float) -> None:
        """Take note of the counts, now and then: rates are made of them."""
        self._rates.mark(now, self._counts)

    def _counts(self, key: str) -> Counts | None:
        logger = self._all.get(key)
        return None if logger is None else Counts(logger.received, logger.written)

    def given_up(self) -> list[str]:
        """Return the loggers whose pipelines crashed until they were parked."""
        return sorted(key for key in self._restarts.backing_off() if self._is_parked(key))

    def _is_parked(self, key: str) -> bool:
        logger = self._all.get(key)
        return logger is not None and logger.state is State.PARKED

    def failing(self) -> list[str]:
        """Return why no write of this replica succeeds, or nothing."""
        failing = self._failing
        if not no_write_succeeds(failing, self._moving, self._last_success):
            return []
        first = min(failing, key=lambda key: (failing[key], key))
        return [f"no write succeeds, {first}: {self._all[first].why}"]

    def keys(self) -> list[str]:
        """Return the keys of all loggers in order."""
        return sorted(self._all)

    @property
    def in_hand(self) -> tuple[int, int]:
        """The messages and bytes in hand of all loggers together."""
        loggers = self._all.values()
        return sum([one.in_hand_messages for one in loggers]), sum([one.in_hand_bytes for one in loggers])

    @property
    def homes(self) -> int:
        """How many loggers are at home on this replica."""
        return sum([one.home for one in self._all.values()])

    def as_json(self, now: float, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return loggers by key as JSON values; one that is gone is left out."""
        return {key: self._logger(key, logger, now) for key in keys if (logger := self._all.get(key)) is not None}

    def _logger(self, key: str, logger: LoggerStatus, now: float) -> dict[str, Any]:
        received, written = self._rates.of(key, now, Counts(logger.received, logger.written))
        restarts, backoff = self._restarts.of_logger(key)
        return {
            **logger.as_json(now),
            "received_per_second": received,
            "written_per_second": written,
            "restarts": restarts,
            "backoff": backoff.as_json(now) if backoff else None,
        }

    def move(self, event: events.LoggerState) -> None:
        """Take in the state of a logger."""
        key, state, known = event.logger, event.state, self._all.get(event.logger)
        self._moving += (state in _MOVING) - (known is not None and known.state in _MOVING)
        if state is None:
            self._restarts.forget(key)
            self._failing.pop(key, None)
            self._all.pop(key, None)
            return
        if state in AT_WORK:
            self._restarts.at_work(key)
        logger = self._all[key] = known or LoggerStatus(state)
        now = self._clock()
        logger.move(state, event.why, now)
        if state is State.FAILING:
            self._failing.setdefault(key, now)
        else:
            self._failing.pop(key, None)

    def _returned(self, event: events.Returned) -> None:
        self.tally.returned += event.messages

    def _received(self, event: events.Received) -> None:
        if (logger := self._all.get(event.logger)) is not None:
            self._begin_rate(event.logger, logger)
            logger.received += event.entries
            self.tally.received += event.entries
            if logger.error.stage is Stage.PULL:
                logger.error.recover()

    def _batch_settled(self, event: events.BatchSettled) -> None:
        self._settled(event)
        if (logger := self._all.get(event.logger)) is not None and event.dropped:
            for counted in (logger, self.tally):
                counted.dropped += sum(event.dropped.values())

    def _settled(self, event: events.BatchSettled | events.SettledLater) -> None:
        if (logger := self._all.get(event.logger)) is not None:
            self._last_success = self._clock()
            logger.error.recover()
            self._stored(event)

    def _stored(self, event: events.BatchSettled | events.SettledLater | events.Unsettled) -> None:
        if (logger := self._all.get(event.logger)) is None:
            return
        self._begin_rate(event.logger, logger)
        dead = event.dead_letters.total()
        for counted in (logger, self.tally):
            counted.written += event.written
            counted.duplicates += event.duplicates
            counted.dead_lettered += dead

    def _begin_rate(self, key: str, logger: LoggerStatus) -> None:
        self._rates.begin(key, Counts(logger.received, logger.written))

    def _held(self, event: events.Held) -> None:
        if (logger := self._all.get(event.logger)) is not None:
            logger.in_hand_messages, logger.in_hand_bytes = event.messages, event.bytes

    def _writes(self, event: events.WritesInProgress) -> None:
        if (logger := self._all.get(event.logger)) is not None:
            logger.writes_in_progress = event.writes

    def _home_changed(self, event: events.HomeChanged) -> None:
        if (logger := self._all.get(event.logger)) is not None:
            logger.home = event.here

    def _sampled(self, event: Sampled) -> None:
        if (logger := self._all.get(event.logger)) is not None:
            logger.sample(event, self._clock())

    def _archive_sampled(self, event: ArchiveSampled) -> None:
        if (logger := self._all.get(event.logger)) is not None:
            archive = logger.archive = logger.archive or ArchiveStatus(event)
            archive.sampled = event

    def _archive_stored(self, event: ArchiveStored) -> None:
        self._last_success = self._clock()
        if (logger := self._all.get(event.logger)) is not None and logger.archive is not None:
            logger.archive.stored, logger.archive.stored_at = event, time_of_day()

    def _archive_gone(self, event: ArchiveGone) -> None:
        if (logger := self._all.get(event.logger)) is not None:
            logger.archive = None
