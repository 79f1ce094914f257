"""The outbox in any order of everything that may be done with it: each entry is in one place, each gap has a marker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from transfer.background.drops import Dropped
from transfer.background.lane import Limits
from transfer.background.outbox import Outbox
from transfer.options import Overflow

if TYPE_CHECKING:
    from transfer.background.lane import Bundle

ENTRIES, BYTES = 20, 6000
MARKED = (Dropped.OVERFLOW, Dropped.TOO_LARGE)
ID = b"x" * 12


def missing(bundle: Bundle) -> int:
    """Return how many entries the markers of a bundle say are missing."""
    markers = [msgspec.msgpack.decode(entry.body)["data"] for entry in bundle.entries if not entry.number]
    return sum(marker["dropped"] for marker in markers)


class Life(RuleBasedStateMachine):
    """One outbox, and a second account of what was done with it."""

    overflow = Overflow.DROP_NEWEST

    def __init__(self) -> None:
        super().__init__()
        self.box = Outbox(self.overflow, ENTRIES, BYTES)
        self.begin()

    def begin(self) -> None:
        """Have nothing, as after a fork."""
        self.came = self.refused = self.marked = self.lost_gaps = 0
        self.closed = False
        self.on_their_way: list[Bundle] = []
        self.stale: list[Bundle] = []
        self.flushes: list[int] = []

    @rule(
        key=st.sampled_from("abcd"), size=st.integers(0, 800) | st.just(5500) | st.just(9000), important=st.booleans()
    )
    def add(self, key: str, size: int, important: bool) -> None:
        """Put an entry in. Whoever would wait does not: there is one thread here."""
        closed = self.box.dropped[Dropped.CLOSED]
        self.box.add(key, ID, b"x" * size, important=important, may_block=False)
        self.came += 1
        if self.closed:
            assert self.box.dropped[Dropped.CLOSED] == closed + 1

    @rule(key=st.text(max_size=3))
    def refuse(self, key: str) -> None:
        """Drop one that never came in."""
        self.box.drop(Dropped.INVALID_KEY, key)
        self.refused += 1

    @rule(most=st.integers(1, 4), entries=st.integers(1, 6), size=st.integers(1, 2000))
    def take(self, most: int, entries: int, size: int) -> None:
        """Take what is ready."""
        limits = Limits(most, entries, size)
        ready = self.box.look(lambda: None, limits)
        taken = self.box.take(limits)
        assert bool(taken) == bool(ready)
        for bundle in taken:
            assert 0 < len(bundle.entries) <= entries
            self.marked += missing(bundle)
        self.on_their_way += taken

    @rule(place=st.integers(0, 5), why=st.sampled_from([None, None, Dropped.UNKNOWN_LOGGER, Dropped.REFUSED]))
    def finish(self, place: int, why: Dropped | None) -> None:
        """Have a bundle confirmed, or dropped."""
        if place < len(self.on_their_way):
            self.stale.append(bundle := self.on_their_way.pop(place))
            self.box.finish(bundle, why)

    @rule(place=st.integers(0, 5))
    def split(self, place: int) -> None:
        """Have two of one."""
        if place < len(self.on_their_way) and len(self.on_their_way[place].entries) > 1:
            bundle = self.on_their_way.pop(place)
            parts = self.box.split(bundle)
            assert [entry for part in parts for entry in part.entries] == bundle.entries
            self.on_their_way += parts

    @rule(place=st.integers(0, 5))
    def finish_late(self, place: int) -> None:
        """Have a confirmation come twice, or after the end."""
        if place < len(self.stale):
            before = (self.box.entries, self.box.bytes, self.box.published, dict(self.box.dropped))
            self.box.finish(self.stale[place])
            assert (self.box.entries, self.box.bytes, self.box.published, dict(self.box.dropped)) == before

    @rule()
    def flush(self) -> None:
        """Have all of it be over or not; markers are part of it."""
        assert self.box.flush(0) == (not self.on_their_way and not self.waiting())

    @rule()
    def flush_all(self) -> None:
        """Send everything: then `flush` says so, and markers say what is missing."""
        for bundle in self.on_their_way:
            self.box.finish(bundle)
        while bundles := self.box.take(Limits(64, 1000, 1 << 20)):
            for bundle in bundles:
                self.marked += missing(bundle)
                self.box.finish(bundle)
        self.stale += self.on_their_way
        self.on_their_way = []
        assert self.box.flush(0)
        assert self.box.is_idle
        assert (self.box.entries, self.box.bytes) == (0, 0)
        assert self.marked + self.lost_gaps == sum(self.box.dropped[why] for why in MARKED)

    @rule(for_good=st.booleans())
    def close(self, for_good: bool) -> None:
        """End, or drop what is left."""
        self.lost_gaps += sum(gap.entries for gap in self.waiting() if not hasattr(gap, "id"))
        left = self.box.entries
        assert (self.box.close() if for_good else self.box.clear()) == left
        self.closed = self.closed or for_good
        self.stale += self.on_their_way
        self.on_their_way = []
        assert self.box.is_idle
        assert self.box.flush(0)

    @rule()
    def fork(self) -> None:
        """Be a child."""
        self.box.forked()
        self.begin()
        assert self.box.is_idle

    def waiting(self) -> list[Any]:
        """Return what waits, gaps too."""
        return [one for lane in self.box._lanes.values() for one in (*lane.ordinary, *lane.important)]

    @invariant()
    def each_entry_is_in_one_place(self) -> None:
        """See the name."""
        box = self.box
        waiting = [one for one in self.waiting() if hasattr(one, "id")]
        sent = [entry for bundle in box.on_their_way() for entry in bundle.entries if entry.number]
        assert box.entries == len(waiting) + len(sent)
        assert box.bytes == sum(len(entry.body) + 200 for entry in [*waiting, *sent])
        assert box.entries == sum(lane.entries for lane in box._lanes.values())
        assert box.bytes == sum(lane.bytes for lane in box._lanes.values())
        assert box._sent_entries == len(sent) == sum(lane.sent_entries for lane in box._lanes.values())
        assert box._sent_bytes == sum(lane.sent_bytes for lane in box._lanes.values())
        assert 0 <= box.entries <= ENTRIES
        assert 0 <= box.bytes <= BYTES
        assert box.entries + box.published + box.dropped.total() == self.came + self.refused
        assert sorted(bundle.first for bundle in box.on_their_way()) == sorted(b.first for b in self.on_their_way)

    @invariant()
    def no_lane_is_there_for_nothing(self) -> None:
        """See the name."""
        assert all(lane.length or lane.on_their_way for lane in self.box._lanes.values())
        assert sum(lane.on_their_way for lane in self.box._lanes.values()) == len(self.on_their_way)

    @invariant()
    def each_reason_is_told_once(self) -> None:
        """See the name."""
        assert {why for why, _ in self.box.first_drops} == {why for why, count in self.box.dropped.items() if count}
        assert len(self.box.first_drops) == len({why for why, _ in self.box.first_drops})


class LifeThatDropsTheOldest(Life):
    """The other way to drop."""

    overflow = Overflow.DROP_OLDEST


class LifeThatBlocks(Life):
    """Where nobody may wait it drops the newest."""

    overflow = Overflow.BLOCK


TestDropNewest = Life.TestCase
TestDropOldest = LifeThatDropsTheOldest.TestCase
TestBlock = LifeThatBlocks.TestCase
TestDropNewest.settings = TestDropOldest.settings = TestBlock.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None
)
