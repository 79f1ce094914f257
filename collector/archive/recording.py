"""The recorder of one capture: reports its events and numbers as those of its logger, for metrics, status and log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import sleep

from collector.archive.record import BlockKind
from collector.archive.told import (
    CutCompleted,
    CutStored,
    Doubted,
    MessagesExpired,
    Owning,
    StoredBlock,
    StoreFailed,
    Waiting,
)
from collector.errors import RecordDamaged, StreamWentBack
from collector.events import Failed, Failure, LoggerState, Stage, State
from collector.events.archiving import ArchiveCounted, Archived, ArchiveSampled, ArchiveStored, ArchiveTrouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.archive.told import Facts, Told
    from collector.events import Report

PERIOD = 5.0
"""Seconds between two reports of the numbers."""
_ROWS = {
    BlockKind.ROWS: (Archived.ROWS,),
    BlockKind.OTHER: (Archived.ROWS, Archived.OVERFLOW_ROWS),
    BlockKind.DEAD: (Archived.DEAD_LETTERS,),
}
"""The counters of the rows of a block."""


class Recorder:
    """Reports the events of a capture, its state, and now and then its numbers."""

    def __init__(self, key: str, report: Report, *, window: float, risks: str = "") -> None:
        """Report those of logger `key`. `risks` are those of the stream, which are said while all is well."""
        self._key = key
        self._report = report
        self._window = window
        self._risks = risks
        self._failing = False
        self._repeats = 0

    def tell(self, event: Told) -> None:
        """Report an event."""
        self._count(event)
        match event:
            case Waiting(why, owned):
                if owned:
                    self._report(ArchiveTrouble(self._key))
                self._state(State.STANDBY if owned else State.BACKING_OFF, why)
            case Owning():
                self._report(ArchiveTrouble(self._key))
                self._state(State.RUNNING, self._risks)
            case CutStored(number=number, to=to, messages=messages, trigger=trigger):
                self._report(ArchiveStored(self._key, number, to, messages, trigger.value))
                if self._failing:
                    self._failing = False
                    self._state(State.RUNNING, self._risks)
            case StoreFailed(error, reason):
                self._failing = True
                self._state(State.MISCONFIGURED if reason == "refused" else State.FAILING, error)
            case Doubted(why, messages):
                error = f"{why}: the durable gave messages to another one, or may have; {messages} are read again"
                self._report(Failed(self._key, Stage.PULL, Failure.UNAVAILABLE, error, "resetting the durable"))
            case _:
                pass

    def ended(self, error: Exception) -> None:
        """Report that the capture has ended by an error: nothing is archived until somebody has looked."""
        if isinstance(error, (StreamWentBack, RecordDamaged)):
            self._report(ArchiveTrouble(self._key, str(error)))
        self._state(State.MISCONFIGURED, str(error))

    def sample(self, facts: Facts) -> None:
        """Report the numbers of this moment; those of a process that is not the owner say nothing."""
        if repeats := facts.repeats - self._repeats:
            self._repeats = facts.repeats
            self._add({Archived.REPEATS: repeats})
        if not facts.is_owner:
            self.rest()
            return
        sampled = ArchiveSampled(
            logger=self._key,
            is_owner=True,
            cursor=facts.cursor,
            lag_messages=facts.lag_messages,
            oldest_message_age=facts.oldest_message_age,
            open_cut_age=facts.open_cut_age,
            open_cut_bytes=facts.open_cut_bytes,
            keys=facts.open_cut_keys,
            unacked_messages=facts.held_messages,
            window=self._window,
        )
        self._report(sampled)

    def rest(self) -> None:
        """Report the numbers of a process that does not read."""
        self._report(ArchiveSampled(logger=self._key, is_owner=False, window=self._window))

    async def watch(self, facts: Callable[[], Facts]) -> None:
        """Report the numbers again and again, until cancelled."""
        try:
            while True:
                self.sample(facts())
                await sleep(PERIOD)
        finally:
            self.rest()

    def _state(self, state: State, why: str = "") -> None:
        self._report(LoggerState(self._key, state, why))

    # --- counts

    def _count(self, event: Told) -> None:
        match event:
            case StoredBlock():
                self._count_block(event)
            case CutStored():
                self._add({Archived.RAW_BYTES: event.raw_bytes})
                self._add({Archived.CUTS: 1}, event.trigger.value)
            case CutCompleted():
                self._add({Archived.COMPLETED_BLOCKS: event.blocks, Archived.EXPIRED_MESSAGES: event.expired})
            case MessagesExpired():
                self._add({Archived.EXPIRED_MESSAGES: event.messages})
            case StoreFailed():
                self._add({Archived.STORE_FAILURES: 1}, event.reason)
            case Doubted():
                self._add({Archived.RESETS: 1}, event.why)
            case Owning():
                self._add({Archived.TENURES: 1})
            case _:
                pass

    def _count_block(self, event: StoredBlock) -> None:
        counts = {}
        if not event.error:
            counts = {Archived.BLOCKS: 1, Archived.STORED_BYTES: event.bytes}
            counts |= dict.fromkeys(_ROWS[event.kind], event.rows)
        self._report(ArchiveCounted(self._key, counts, seconds=event.seconds))

    def _add(self, counts: dict[Archived, int], label: str = "") -> None:
        self._report(ArchiveCounted(self._key, counts, label))
