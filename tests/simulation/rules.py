"""The rules of docs/timeseries.md as the service has them, and each of them switched off: for the simulation alone.

The decisions are the service's own code, or a subclass that leaves one out. What lives in its calls to MongoDB is
mirrored by the models, and switched off there: `fences`, `reads_mark_first`, `sees_failed`, `has_barrier`,
`compares_elections`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from collector.errors import OwnershipLost, SinkUnavailable
from collector.events import Suspicion
from collector.sinks.timeseries.horizon import Horizon
from collector.sinks.timeseries.ownership import Tenure, write_number
from collector.sinks.timeseries.sink import TimeSeriesSink, TimeSeriesWriting, _Command

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from collector.events import Report
    from collector.model import Decoded, Delivery, Entry
    from collector.sinks.timeseries.sink import Store


class Rules:
    """All of them."""

    fences = True
    """Rule 2: a new owner writes once in each session before anything else."""
    reads_mark_first = False
    """Rule 5 switched off in one of its ways: the mark is read before the fence."""
    sees_failed = True
    """Part of rule 8: a look-up after a command that failed sees what that command wrote (its operation time)."""
    has_barrier = True
    """Rule 11: nothing is answered after a repeated number before a barrier that waits for the majority."""
    compares_elections = True
    """Part of rule 11: the barrier is passed on the primary that the repeated number was sent to."""
    tenure: type[Tenure] = Tenure
    horizon: type[Horizon] = Horizon
    sink: type[TimeSeriesSink] = TimeSeriesSink

    def make_sink(self, store: Store, tenure: Tenure, horizon: Horizon, report: Report) -> TimeSeriesSink:
        """Return the sink of one tenure."""
        return self.sink("logger", store, tenure, horizon, report)


class WithoutFence(Rules):
    """Rule 2 off: the claim alone says who writes."""

    fences = False


class _Deaf(TimeSeriesWriting):
    async def attempt(self) -> None:
        with suppress(OwnershipLost):
            await super().attempt()


class _DeafSink(TimeSeriesSink):
    def begin(self, entries: Sequence[Entry]) -> TimeSeriesWriting:
        return _Deaf(self, entries)


class RefusedIsWritten(Rules):
    """Rule 3 off: what is refused is taken for written, and acked."""

    sink = _DeafSink


class _Renumbering(TimeSeriesWriting):
    async def attempt(self) -> None:
        try:
            await super().attempt()
        except SinkUnavailable:
            if self._command is not None and self._slot is not None:
                self._slot.used += 1
                number = write_number(self._sink.tenure.epoch, self._slot.used)
                self._command = _Command(number, self._command.entries)
            raise


class _RenumberingSink(TimeSeriesSink):
    def begin(self, entries: Sequence[Entry]) -> TimeSeriesWriting:
        return _Renumbering(self, entries)


class NewNumber(Rules):
    """Rule 4 off: after an unknown result the command goes under a new number."""

    sink = _RenumberingSink


class _Unmarked(Tenure):
    def mark_needed(self, sequence: int) -> None:
        """Need none for any sequence."""
        del sequence


class WithoutMark(Rules):
    """Rule 5 off: the mark is never raised."""

    tenure = _Unmarked


class MarkBeforeFence(Rules):
    """Rule 5 off in another way: a new owner reads the mark before its fence."""

    reads_mark_first = True


class _Still(Horizon):
    def _judge(self, delivery: Delivery) -> Suspicion | None:
        mark = self.highest
        suspicion = super()._judge(delivery)
        self.highest = mark
        return suspicion


class HorizonStands(Rules):
    """Rule 6 off: the horizon is the mark as it was read, and does not move."""

    horizon = _Still


class _Falling(Horizon):
    def _judge(self, delivery: Delivery) -> Suspicion | None:
        suspicion = super()._judge(delivery)
        self.highest = delivery.sequence
        return suspicion


class HorizonFalls(Rules):
    """Rule 6 off in another way: the horizon is what was received last."""

    horizon = _Falling


class _Counting(Horizon):
    def _judge(self, delivery: Delivery) -> Suspicion | None:
        suspicion = super()._judge(delivery)
        first = suspicion is Suspicion.BELOW_HORIZON and delivery.num_delivered == 1
        return None if first else suspicion


class CountsAreBelieved(Rules):
    """Rule 6 off in another way: a message that is delivered for the first time, as its durable says, is new."""

    horizon = _Counting


class _Impatient(Horizon):
    def admit(self, decoded: Decoded) -> bool:
        admitted = super().admit(decoded)
        if not admitted:
            decoded, suspicion = self._waiting.pop()
            self.suspects[decoded.deliveries[0].reply] = suspicion
        return True


class CopiesDoNotWait(Rules):
    """Rule 7 off: a copy of what is in hand is written at once, as a suspect."""

    horizon = _Impatient


class _Hoarding(Horizon):
    def released(self) -> list[Decoded]:
        return []


class CopiesWaitForever(Rules):
    """Rule 7 off in another way: a copy that waited for the first is never let go."""

    horizon = _Hoarding


class _SequencesOnly(Horizon):
    def _enter(self, decoded: Decoded, identities: list[Hashable], suspicion: Suspicion | None) -> None:
        super()._enter(decoded, identities, suspicion)
        self._identities.clear()


class IdentitiesNotCompared(Rules):
    """Rule 9 off in another way: only sequences are in hand, not identities."""

    horizon = _SequencesOnly


class _Trusting(Horizon):
    def _enter(self, decoded: Decoded, identities: list[Hashable], suspicion: Suspicion | None) -> None:
        super()._enter(decoded, identities, suspicion)
        self.suspects.pop(decoded.deliveries[0].reply, None)


class WithoutLookUp(Rules):
    """Rule 8 off: suspects are not looked up."""

    horizon = _Trusting


class LookUpTooEarly(Rules):
    """Rule 8 off in another way: after a lost history the look-up may come before the majority has the write."""

    sees_failed = False


class _Republished(Horizon):
    def _judge(self, delivery: Delivery) -> Suspicion | None:
        suspicion = super()._judge(delivery)
        return None if suspicion is Suspicion.REPUBLISHED else suspicion


class RepublishedNotJudged(Rules):
    """Rule 9 off: what was published again is taken for new."""

    horizon = _Republished


class WithoutBarrier(Rules):
    """Rule 11 off: the answer to a repeated number is believed, though the majority may not have the write."""

    has_barrier = False


class AnyPrimaryWillDo(Rules):
    """Rule 11 off in another way: the barrier may be passed on another primary than the number was repeated on."""

    compares_elections = False


OFF: dict[str, type[Rules]] = {
    "2": WithoutFence,
    "3": RefusedIsWritten,
    "4": NewNumber,
    "5": WithoutMark,
    "5-early": MarkBeforeFence,
    "6": HorizonStands,
    "6-falls": HorizonFalls,
    "6-counts": CountsAreBelieved,
    "7": CopiesDoNotWait,
    "7-forever": CopiesWaitForever,
    "8": WithoutLookUp,
    "8-early": LookUpTooEarly,
    "9": RepublishedNotJudged,
    "9-hand": IdentitiesNotCompared,
    "11": WithoutBarrier,
    "11-primary": AnyPrimaryWillDo,
}
"""By the name of a rule, and of a way to break it."""
