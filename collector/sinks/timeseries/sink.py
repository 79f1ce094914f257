"""Writing into a time-series collection, each entry once, by its one owner: rules 3-5, 8, 11, 12 of docs/timeseries.md.

Each insert has a session and a number. MongoDB applies the same number once, and refuses a number of an earlier epoch.
Nothing here decides by a clock.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pymongo.errors import OperationFailure

from collector.errors import CollectionChanged, SinkUnavailable
from collector.events import Suspected
from collector.mongodb.errors import describe_failure
from collector.sinks import Written
from collector.sinks.mongodb import commands
from collector.sinks.outcomes import (
    UNENCODABLE,
    document_at_fault,
    halves,
    is_elsewhere,
    outcomes,
    refusal_of_command,
    without_unencodable,
)
from collector.sinks.timeseries.horizon import hashable
from collector.sinks.timeseries.ownership import write_number

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence

    from collector.events import Report
    from collector.model import Entry
    from collector.sinks.timeseries.horizon import Horizon
    from collector.sinks.timeseries.ownership import Tenure

_HISTORY_LOST = 217
"""IncompleteTransactionHistory: the number was used, but the session no longer knows its result."""


class Store(Protocol):
    """The database, as the owner of a time-series logger needs it."""

    async def stored(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return the entries that are stored; the read sees all writes before the fence. Raises SinkUnavailable."""

    async def raise_mark(self, mark: int) -> None:
        """Make the mark at least this, durably. Raises SinkUnavailable."""

    async def insert(self, slot: int, number: int, entries: Sequence[Entry], *, again: bool) -> Mapping[str, Any]:
        """Insert under this number, durably; return the reply.

        `again` says that the number was sent before: then the reply alone does not mean that it is durable (rule 11).
        Raises OwnershipLost when the number is refused, SinkUnavailable when the result is unknown, and
        OperationFailure. For a document that cannot be encoded it raises bson's error, and sends nothing.
        """


class TimeSeriesSink:
    """Writes entries of one logger for as long as its tenure lasts, at most `tenure.slots` batches at a time."""

    def __init__(self, key: str, store: Store, tenure: Tenure, horizon: Horizon, report: Report) -> None:
        self.key = key
        self.store = store
        self.tenure = tenure
        self.horizon = horizon
        self.report = report
        self._free = [Slot(number) for number in range(tenure.slots)]

    def begin(self, entries: Sequence[Entry]) -> TimeSeriesWriting:
        """See `Sink`. Entries of deliveries that are suspects are looked up first."""
        return TimeSeriesWriting(self, entries)

    def take_slot(self) -> Slot:
        """Return a session that no other batch writes through until it is given back. Raises SinkUnavailable."""
        if not self._free:  # a batch that was given up without a result keeps its slot: the next fence ends its write
            raise SinkUnavailable("every session waits for the result of a write")
        return self._free.pop()

    def give_back(self, slot: Slot) -> None:
        """Let the next batch write through this slot."""
        self._free.append(slot)

    def report_suspects(self, suspects: Sequence[Entry]) -> None:
        """Report the suspects that were looked up, but not the entries of a failed command."""
        if suspects:
            known = self.horizon.suspects
            reasons = Counter(known[entry.delivery.reply] for entry in suspects if entry.delivery.reply in known)
            self.report(Suspected(self.key, reasons))


@dataclass(slots=True)
class Slot:
    """A session of the owner, and how many numbers of the epoch were used in it; number 0 was the fence."""

    index: int
    used: int = 0


@dataclass(frozen=True, slots=True)
class _Step:
    """The entries of one command; its suspects are looked up before."""

    fresh: Sequence[Entry]
    suspects: Sequence[Entry]
    failed: bool = False
    """Whether the suspects were in a command that failed: those that are found were stored by that command."""


@dataclass(slots=True)
class _Command:
    """An insert whose result is not known yet: it is sent again under its number until the result is known."""

    number: int
    entries: Sequence[Entry]
    sent: bool = False


class TimeSeriesWriting:
    """The writing of one batch into a time-series collection, by numbered inserts.

    Besides the errors of `Writing` it raises OwnershipLost, after which no delivery in hand may be answered, and
    CollectionChanged when the collection is another one than was inspected.
    """

    def __init__(self, sink: TimeSeriesSink, entries: Sequence[Entry]) -> None:
        self.written = Written()
        self._sink = sink
        self._steps = _steps(entries, sink.horizon.suspects)
        self._slot: Slot | None = None
        self._command: _Command | None = None

    async def attempt(self) -> None:
        """See `Writing`. A command that may have arrived is sent again under the same number."""
        slot = self._slot = self._slot or self._sink.take_slot()
        while self._command or self._steps:
            if self._command is None:
                missing = await self._prepare(self._steps[0])
                del self._steps[0]
                if missing:
                    slot.used += 1
                    self._command = _Command(write_number(self._sink.tenure.epoch, slot.used), missing)
            else:
                await self._send(slot.index, self._command)
        self._sink.give_back(slot)
        self._slot = None

    async def _prepare(self, step: _Step) -> Sequence[Entry]:
        """Look the suspects up, and raise the mark above the entries that are not stored; return these entries."""
        missing, stored = step.fresh, 0
        if step.suspects:
            found = {id(entry) for entry in await self._sink.store.stored(step.suspects)}
            missing = [*step.fresh, *(entry for entry in step.suspects if id(entry) not in found)]
            stored = len(found)
        tenure = self._sink.tenure
        mark = tenure.mark_needed(max((entry.delivery.sequence for entry in missing), default=0))
        if mark is not None:
            await self._sink.store.raise_mark(mark)
            tenure.raised(mark)
        if step.failed:
            self.written.stored += stored
        else:
            self.written.duplicates += stored
        self._sink.report_suspects(step.suspects)
        return missing

    async def _send(self, slot: int, command: _Command) -> None:
        """Send a command until its result is known, and keep what it leaves to be written."""
        group, again = command.entries, command.sent
        command.sent = True
        try:
            reply = await self._sink.store.insert(slot, command.number, group, again=again)
        except UNENCODABLE as exc:
            refused, groups = without_unencodable(group, exc)
            self.written.refused += refused
            self._steps[:0] = [_Step(left, ()) for left in groups]
        except OperationFailure as exc:
            self._steps[:0] = self._after_failure(group, exc)
        else:
            self._steps[:0] = self._count(group, reply)
        self._command = None

    def _after_failure(self, group: Sequence[Entry], exc: OperationFailure) -> list[_Step]:
        """Return the steps after a command that failed as a whole: its entries are looked up, for it may have begun."""
        if exc.code == _HISTORY_LOST:
            return [_Step((), group, failed=True)]
        if is_elsewhere(exc):
            raise CollectionChanged(f"the collection of {self._sink.key}") from exc
        if not document_at_fault(exc):
            raise SinkUnavailable(describe_failure(exc), ambiguous=True) from exc
        if len(group) > 1:
            return [_Step((), half, failed=True) for half in halves(group)]
        self.written.refused.append(refusal_of_command(group[0], exc))
        return []

    def _count(self, group: Sequence[Entry], reply: Mapping[str, Any]) -> list[_Step]:
        """Count the known outcomes, and return the next steps: an entry is refused only when it was alone (rule 12)."""
        found = outcomes(group, reply)
        if found.elsewhere:
            raise CollectionChanged(f"the collection of {self._sink.key}")
        if found.later:
            raise SinkUnavailable(found.error, ambiguous=True)
        if found.duplicates or found.doubtful:
            raise CollectionChanged(f"the collection of {self._sink.key}")
        self.written.stored += found.stored
        if len(group) == 1:
            self.written.refused += found.refused
            return []
        suspected = [refusal.entry for refusal in found.refused]
        return [_Step((), part, failed=True) for part in halves(suspected) if part]


def _steps(entries: Sequence[Entry], suspects: Collection[str]) -> list[_Step]:
    """Arrange entries in steps so that a suspect is never in one command with another of the same identity."""
    if not suspects:
        return [_Step(group, ()) for group in commands(entries)]
    fresh = [entry for entry in entries if entry.delivery.reply not in suspects]
    rounds: list[list[Entry]] = [[]]
    seen: Counter[Hashable] = Counter()
    for entry in entries:
        if entry.delivery.reply in suspects:
            identity = hashable(entry.document["_id"])
            if seen[identity] == len(rounds):
                rounds.append([])
            rounds[seen[identity]].append(entry)
            seen[identity] += 1
    steps = [_Step(group, ()) for group in commands(fresh)]
    return steps + [_Step((), group) for copies in rounds for group in commands(copies)]
