"""The rules of docs/archive.md as the service has them, and each of them switched off: for the simulation alone.

The decisions are the service's own code, or a subclass that leaves one out. The order of the owner's steps is mirrored
by `model_owner.py`, and a store by `model_store.py`; both are switched off there, by the names below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.archive.log import Log
from collector.archive.reading import Count, Reading, Verdict
from tests.simulation.archive.world import Unknown

if TYPE_CHECKING:
    from collector.archive.reading import DurableFacts, Slice
    from collector.archive.record import Record


class Rules:
    """All of them."""

    has_lease = True
    """Rule 1."""
    overwrites_records = False
    """Rule 2."""
    plans_first = True
    """Rule 3."""
    names_members = True
    """Rule 3: the record says which entry is in which block."""
    overwrites_blocks = False
    """Rule 4."""
    one_open_cut = True
    """Rule 5."""
    settles_last = True
    """Rule 6."""
    dead_letters_in_record = True
    """Rule 11."""
    drops_repeats = True
    """Rule 8, as far as the order of a cut goes; see `reading`."""
    begins_at_log = True
    """Rule 10: the cursor is the end of the log, and the last cut is completed."""
    stops_when_back = True
    """Rule 12."""
    log: type[Log] = Log
    reading: type[Reading] = Reading
    count: type[Count] = Count


class WithoutLease(Rules):
    """Rule 1 off: all replicas are owners at once. That is safe, and may go on without end."""

    has_lease = False


class RecordsAreReplaced(Rules):
    """Rule 2 off: a record is written whether or not there is one with its number."""

    overwrites_records = True


class BlocksFirst(Rules):
    """Rule 3 off: blocks are put under names of their own, and then listed in the record."""

    plans_first = False


class IntervalOnly(Rules):
    """Rule 3 off in another way: the record names the interval, and the key function of its reader divides it."""

    names_members = False


class BlocksAreReplaced(Rules):
    """Rule 4 off: a block is written whether or not it is there."""

    overwrites_blocks = True


class NextCutTooEarly(Rules):
    """Rule 5 off: the next record is created before all blocks of the last one are there."""

    one_open_cut = False


class SettlesEarly(Rules):
    """Rule 6 off: messages are acked when the record is there."""

    settles_last = False


class _Trusting(Count):
    def judge(self, facts: DurableFacts) -> Verdict:
        del facts
        return Verdict.RIGHT


class WithoutCount(Rules):
    """Rule 7 off: gaps are looked for, but nobody compares with the durable's count before a record."""

    count = _Trusting


class _Unlinked(Reading):
    def _links(self, came: Slice) -> bool:
        del came
        return True


class WithoutCountAndGaps(Rules):
    """Rule 7 off altogether: neither a count nor a gap is looked at."""

    count = _Trusting
    reading = _Unlinked


class _NumbersAlone(Reading):
    def agrees(self, facts: DurableFacts) -> bool:
        return facts.number == self.number


class CountWithoutPending(Rules):
    """Rule 7 off in another way: only the number of deliveries is compared, not that of messages in hand."""

    reading = _NumbersAlone


class _Repeating(Reading):
    def _parted(self, came: Slice) -> tuple[Slice, list[int]]:
        new, _ = super()._parted(came)
        places = [place for place, one in enumerate(came.sequences) if one <= self.cursor or one in new.sequences]
        return came.picked(places), []


class RepeatsAreNew(Rules):
    """Rule 8 off: a sequence that is not above the cursor is taken again."""

    drops_repeats = False
    reading = _Repeating


class _Hopeful(Log):
    async def create(self, record: Record) -> bool:
        try:
            return await super().create(record)
        except Unknown:
            return True


class UnknownIsOurs(Rules):
    """Rule 9 off: a record whose creation has an unknown result counts as ours."""

    log = _Hopeful


class BeginsAtTheDurable(Rules):
    """Rule 10 off: a new owner takes whatever the durable delivers, also what the log has archived."""

    begins_at_log = False


class DeadLettersApart(Rules):
    """Rule 11 off: a dead letter is put when its message comes, and is in no record."""

    dead_letters_in_record = False


class KeepsGoing(Rules):
    """Rule 12 off: a stream that went back is read on behind the cursor."""

    stops_when_back = False


OFF: dict[str, type[Rules]] = {
    "2": RecordsAreReplaced,
    "3": BlocksFirst,
    "3-members": IntervalOnly,
    "4": BlocksAreReplaced,
    "5": NextCutTooEarly,
    "6": SettlesEarly,
    "7": WithoutCountAndGaps,
    "7-count": WithoutCount,
    "8": RepeatsAreNew,
    "9": UnknownIsOurs,
    "10": BeginsAtTheDurable,
    "11": DeadLettersApart,
    "12": KeepsGoing,
}
"""By the name of a rule, and of a way to break it."""
