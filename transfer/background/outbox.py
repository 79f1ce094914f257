"""The queue between the threads that send and the thread of the sender: bounded by entries and by bytes.

An entry counts until it is confirmed or dropped. It is in one place: it waits, is on its way, is published, or is
dropped for one reason. Where entries of a logger are missing because the outbox had no room for them, a marker entry
says so in their place; `flush` waits for it as for an entry.

The room is shared by all loggers, so that a logger whose stream takes nothing leaves room for the others:
half of the room, at most, is on its way, apart from one small bundle of each logger. When the outbox is full, an entry
takes its room from the logger with the most waiting, and is itself dropped when its own logger is that one.
With `Overflow.BLOCK` nothing is taken away: an entry waits while its logger has as much room as is left for all.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from transfer.background.drops import Dropped
from transfer.background.lane import OBJECTS, Bundle, Lane, Limits, Queued, Room, first_number, room_of
from transfer.entries.stub import stub_of
from transfer.options import Overflow
from transfer.system.native import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT_FREE = 10
"""One part in so many is kept for important entries."""
_WINDOW = 256
"""Bundles on their way at a time. A logger with none on its way may always send one more."""
_LOOK = 1.0
"""Seconds between two looks of a thread that waits."""


class Outbox:
    """See above. Its lock is re-entrant: a signal handler or a finalizer may log while an entry is put in."""

    def __init__(self, overflow: Overflow, max_entries: int, max_bytes: int) -> None:
        self._overflow = overflow
        self._blocks = overflow is Overflow.BLOCK
        self._all = Room(max_entries, max_bytes)
        self._ordinary = Room(max_entries - max_entries // _KEPT_FREE, max_bytes - max_bytes // _KEPT_FREE)
        """The room of entries that are not important."""
        self._half = Room(max(1, self._ordinary.entries // 2), self._ordinary.bytes // 2)
        self._at_once = (self._half, self._half) if self._blocks else (self._ordinary, self._all)
        """The room that an entry finds free without a look at the others, by whether it is important."""
        self._begin()

    def _begin(self) -> None:
        self.published = 0
        self.dropped: Counter[Dropped] = Counter()
        self.first_drops: list[tuple[Dropped, str]] = []
        """A reason that has just occurred for the first time, and the key. `DropReport` takes it out and says it."""
        self.entries = self.bytes = 0
        self._sent_entries = self._sent_bytes = 0
        """The part of them that is on its way."""
        self._waiter = Waiter()
        self.lock = self._waiter.lock
        self._numbers = 0
        self._closed = False
        self._lanes: dict[str, Lane] = {}
        self._sent: dict[int, Bundle] = {}
        """The bundles that are being sent, by the number of their oldest entry."""
        self._wake: Callable[[], None] | None = None

    def forked(self) -> None:
        """Begin anew, in a child, with a lock that nobody holds: what waits is sent by the parent."""
        self._begin()

    def add(self, key: str, entry_id: bytes, body: bytes, *, important: bool, may_block: bool) -> None:
        """Put an entry in, at once or when there is room for it, or drop one."""
        if self.add_at_once(key, entry_id, body, important):
            return
        size, room = len(body) + OBJECTS, self._all if important else self._ordinary
        stub = stub_of(body) if size > room.bytes and not self._closed else None  # it takes its time: without the lock
        with self.lock:
            before = self.entries + self.dropped.total()
            try:
                why = self._make_room(key, size, room, may_block=may_block)
                if why is None:
                    self._put(key, entry_id, body, important)
                else:
                    self._count(why, key, 1)
                    if why is not Dropped.CLOSED:
                        self._mark(key, entry_id, stub, important=important)
            except BaseException:  # of a signal handler, or no stack is left
                self._count_anew(key, before)
                raise
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def add_at_once(self, key: str, entry_id: bytes, body: bytes, important: bool) -> bool:
        """Put an entry in where there is room without a look at the others; return whether it is in."""
        size, (entries, most) = len(body) + OBJECTS, self._at_once[important]
        with self.lock:
            if self.entries >= entries or self.bytes + size > most or self._closed:
                return False
            self._put(key, entry_id, body, important)
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()
        return True

    def _put(self, key: str, entry_id: bytes, body: bytes, important: bool) -> None:
        """Put an entry in. A signal handler may raise, or log, after each call: between the last two there is none."""
        lane = self._lanes.get(key) or self._lanes.setdefault(key, Lane(key))
        self._numbers = number = self._numbers + 1
        entry, queue, size = Queued(number, entry_id, body), lane.important if important else lane.ordinary, len(body)
        lane.entries += 1
        lane.bytes += size + OBJECTS
        self.entries += 1
        self.bytes += size + OBJECTS
        queue.append(entry)

    def _fits(self, size: int, room: Room) -> bool:
        return self.entries < room.entries and self.bytes + size <= room.bytes

    def _make_room(self, key: str, size: int, room: Room, *, may_block: bool) -> Dropped | None:
        """Return None when there is room for an entry now, else why the entry is dropped."""
        if size > room.bytes:
            return Dropped.CLOSED if self._closed else Dropped.TOO_LARGE
        if self._blocks and may_block:
            while not self._closed and not (self._fits(size, room) and self._leaves_room(key, room)):
                self._waiter.wait(_LOOK)
        if self._closed:
            return Dropped.CLOSED
        return None if self._fits(size, room) or self._take_away(key, size, room) else Dropped.OVERFLOW

    def _leaves_room(self, key: str, room: Room) -> bool:
        """Return whether a logger has less room than is left, or none: then a logger that comes later finds some."""
        lane = self._lanes.get(key)
        if lane is None or not lane.entries:
            return True
        return lane.entries < room.entries - self.entries and lane.bytes < room.bytes - self.bytes

    def _take_away(self, key: str, size: int, room: Room) -> bool:
        """Drop entries that wait, as many as make room for another one; return whether there is room now."""
        if self._blocks:
            return False
        missing = min(size, self.bytes + size - room.bytes)
        """Bytes to be made free. The tenth that is kept free may be taken; then the new entry just replaces others."""
        victim = self._who_gives_way(self._lanes.get(key), size, by_bytes=missing > 0)
        if victim is None:
            return False
        while True:
            gone = victim.give_up(oldest=self._overflow is Overflow.DROP_OLDEST)
            if gone is None:
                return False
            freed = room_of(gone)
            self.entries -= 1
            self.bytes -= freed
            self._count(Dropped.OVERFLOW, victim.key, 1)
            missing -= freed
            if missing <= 0:
                return True

    def _who_gives_way(self, lane: Lane | None, size: int, *, by_bytes: bool) -> Lane | None:
        """Return the logger that entries are taken from, None when the new entry is to be dropped.

        It has the most waiting, and more than the new entry's logger has also afterwards.
        """
        mine = 0 if lane is None else _waiting(lane, by_bytes=by_bytes)
        one = size if by_bytes else 1
        all_waiting = self.bytes - self._sent_bytes if by_bytes else self.entries - self._sent_entries
        if mine * (len(self._lanes) + (lane is None)) < all_waiting:  # a logger above the average is not worth a search
            most = max(list(self._lanes.values()), key=lambda other: _waiting(other, by_bytes=by_bytes))
            if mine + 2 * one <= _waiting(most, by_bytes=by_bytes):
                return most
        return lane if self._overflow is Overflow.DROP_OLDEST and mine >= one else None

    def _mark(self, key: str, entry_id: bytes, stub: bytes | None, *, important: bool) -> None:
        """Have a stub or a marker where an entry is missing. Keys without an end, of which none is sent, leave none."""
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= self._all.entries:
                return
            lane = self._lanes.setdefault(key, Lane(key))
        self._numbers += 1
        lane.miss(self._numbers, entry_id, stub, important=important)

    def _count(self, why: Dropped, key: str, entries: int) -> None:
        if entries and why not in self.dropped:
            self.dropped.setdefault(why, 0)
            self.first_drops.append((why, key))
        if entries:
            self.dropped[why] += entries

    def _count_anew(self, key: str, before: int) -> None:
        """Have the sums of what is there, after something has come between; an entry that is gone is dropped."""
        for lane in self._lanes.values():
            lane.count_anew()
        self.entries = sum(lane.entries for lane in self._lanes.values())
        self.bytes = sum(lane.bytes for lane in self._lanes.values())
        self._count(Dropped.OVERFLOW, key, max(0, before - self.entries - self.dropped.total()))

    def drop(self, why: Dropped, key: str) -> None:
        """Count an entry that never came in."""
        with self.lock:
            self._count(why, key, 1)

    # The sender's side.

    def look(self, wake: Callable[[], None], limits: Limits) -> int:
        """Return how many entries of one logger can be taken at best; when none can, `wake` is called once some can."""
        with self.lock:
            ready = [lane.length for lane in list(self._lanes.values()) if self._allowed(lane, limits)]
            largest = max(ready, default=0)
            # A lane is empty when something has come between before its first entry.
            for lane in [] if largest else list(self._lanes.values()):
                if not lane.length and not lane.on_their_way:
                    del self._lanes[lane.key]
            self._wake = None if largest else wake
            return largest

    def take(self, limits: Limits) -> list[Bundle]:
        """Take a bundle from each logger that may send one."""
        with self.lock:
            bundles = []
            for lane in list(self._lanes.values()):
                if allowed := self._allowed(lane, limits):
                    bundles.append(bundle := lane.take(*allowed))
                    self._send_off(bundle)
            return bundles

    def _allowed(self, lane: Lane, limits: Limits) -> Room | None:
        """Return the size of the next bundle of a logger, None when the logger has nothing waiting or has to wait.

        Each logger has fewer bundles on their way than are left of the window: so something is left for a logger that
        comes later, however many there are whose streams take nothing. The same of the room: see above.
        """
        if not lane.length or lane.on_their_way >= max(1, min(limits.bundles, _WINDOW - len(self._sent))):
            return None
        bundle = Room(min(limits.entries, self._half.entries), min(limits.bytes, self._half.bytes))
        entries = min(bundle.entries, lane.entries - lane.sent_entries)
        size = min(bundle.bytes, lane.bytes - lane.sent_bytes)
        if self._sent_entries + entries <= self._half.entries and self._sent_bytes + size <= self._half.bytes:
            return bundle
        if lane.on_their_way:
            return None
        part = 4 * len(self._lanes)
        return Room(max(1, min(bundle.entries, self._all.entries // part)), min(bundle.bytes, self._all.bytes // part))

    def _send_off(self, bundle: Bundle) -> None:
        self._sent[bundle.first] = bundle
        self._sent_entries += bundle.counted
        self._sent_bytes += bundle.size

    def _call_back(self, bundle: Bundle) -> bool:
        """Return whether a bundle was on its way, which it is no more."""
        if self._sent.pop(bundle.first, None) is None:
            return False
        self._sent_entries -= bundle.counted
        self._sent_bytes -= bundle.size
        bundle.lane.unbundle(bundle)
        return True

    def on_their_way(self) -> list[Bundle]:
        """Return what was taken and is not finished, for a sender that begins anew: as it was, or ids would lie."""
        with self.lock:
            return list(self._sent.values())

    def split(self, bundle: Bundle) -> list[Bundle]:
        """Return a bundle that is on its way as two that are, or nothing when it is on its way no more."""
        with self.lock:
            if not self._call_back(bundle):
                return []
            middle = len(bundle.entries) // 2
            front, back = bundle.entries[:middle], bundle.entries[middle:]
            second = first_number(back)
            if not second:  # markers alone
                self._numbers = second = self._numbers + 1
            parts = [bundle.lane.bundle(front, bundle.first), bundle.lane.bundle(back, second)]
            for part in parts:
                self._send_off(part)
            return parts

    def finish(self, bundle: Bundle, why: Dropped | None = None) -> None:
        """Count what is confirmed, or dropped for that reason; nothing when `close` has counted it already."""
        with self.lock:
            if not self._call_back(bundle):
                return
            lane = bundle.lane
            lane.entries -= bundle.counted
            lane.bytes -= bundle.size
            self.entries -= bundle.counted
            self.bytes -= bundle.size
            if why is None:
                self.published += bundle.counted
            else:
                self._count(why, lane.key, bundle.counted)
            if not lane.length and not lane.on_their_way:
                del self._lanes[lane.key]
            self._waiter.wake()
            wake = None
            if self._lanes:  # or there is nothing to be taken
                wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    # The end.

    @property
    def is_closed(self) -> bool:
        """Whether nothing is taken any more."""
        return self._closed

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is on its way, no marker either."""
        return not self._lanes

    def flush(self, timeout: float | None) -> bool:
        """Wait until everything that has come until now is confirmed or dropped; return whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.lock:
            last = self._numbers
            while self._oldest() <= last:
                left = _LOOK if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return False
                self._waiter.wait(min(left, _LOOK))
            return True

    def _oldest(self) -> int:
        """Return the number of the oldest that is neither confirmed nor dropped; what comes next when there is none."""
        waiting = [lane.oldest for lane in list(self._lanes.values()) if lane.length]
        return min([*self._sent, *waiting], default=self._numbers + 1)

    def close(self) -> int:
        """Take nothing more, count what is left as dropped, and return how many that are."""
        with self.lock:
            self._closed = True
            return self.clear()

    def clear(self) -> int:
        """Count what is left as dropped, and return how many that are."""
        with self.lock:
            left = self.entries
            self._count(Dropped.CLOSED, next(iter(self._lanes), ""), left)
            self.entries = self.bytes = self._sent_entries = self._sent_bytes = 0
            self._lanes.clear()
            self._sent.clear()
            self._waiter.wake()
            return left


def _waiting(lane: Lane, *, by_bytes: bool) -> int:
    return lane.bytes - lane.sent_bytes if by_bytes else lane.entries - lane.sent_entries
