"""What waits to be sent: bounded by entries and bytes, filled by any thread, emptied by the sender's.

An entry counts until it is confirmed or dropped. What is dropped is counted by reason; where entries of a logger are
missing because the outbox was full, a marker entry says so in their place.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum
from threading import Condition, RLock
from typing import TYPE_CHECKING, NamedTuple

from transfer.entry import encode_entry, new_id

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ENTRIES = 10_000
MAX_BYTES = 16 * 1024 * 1024
_OBJECTS = 200
"""Bytes that an entry takes beside its body."""
_KEPT_FREE = 10
"""One part in so many is kept for important entries."""


class Overflow(StrEnum):
    """What becomes of an entry for which there is no room."""

    DROP_NEWEST = "drop_newest"
    DROP_OLDEST = "drop_oldest"
    BLOCK = "block"
    """Whoever sends waits."""


class Dropped(StrEnum):
    """Why an entry was not sent, or not confirmed: a closed list."""

    OVERFLOW = "overflow"
    INVALID_KEY = "invalid_key"
    TOO_LARGE = "too_large"
    """For a message of this NATS."""
    UNKNOWN_LOGGER = "unknown_logger"
    REFUSED = "refused"
    """By JetStream, for good."""
    CLOSED = "closed"
    """Sent after the end, or still unconfirmed at it."""


class Entry(NamedTuple):
    """One entry that waits."""

    number: int
    """Counted from 1 in the order of coming; 0 for a marker."""
    id: bytes
    body: bytes


@dataclass(slots=True)
class Gap:
    """Entries that are missing at one place."""

    entries: int
    since: int
    until: int
    """Nanoseconds since 1970."""

    def add(self) -> None:
        """Count one more, that is missing just now."""
        self.entries += 1
        self.until = time.time_ns()


class Lane:
    """The entries of one logger, in order."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.waiting: deque[Entry | Gap] = deque()
        self.on_their_way = 0
        """Bundles."""

    def drop_newest(self) -> None:
        """Have a gap behind what waits, or a larger one."""
        if self.waiting and isinstance(gap := self.waiting[-1], Gap):
            gap.add()
        else:
            now = time.time_ns()
            self.waiting.append(Gap(1, now, now))

    def drop_oldest(self) -> Entry | None:
        """Have a gap before what waits, or a larger one; return what is missing now, None when nothing waits."""
        gap: Gap | None = None
        gone: Entry | None = None
        while self.waiting and gone is None:
            first = self.waiting.popleft()
            if isinstance(first, Gap):
                gap = first if gap is None else Gap(gap.entries + first.entries, gap.since, first.until)
            else:
                gone = first
        if gone is not None:
            now = time.time_ns()
            gap = gap or Gap(0, now, now)
            gap.add()
        if gap is not None:
            self.waiting.appendleft(gap)
        return gone


class Bundle(NamedTuple):
    """Entries of one logger that are sent together."""

    lane: Lane
    entries: list[Entry]
    first: int
    """The number of the oldest of them that is counted."""


class Outbox:
    """See above. Its lock is re-entrant: a signal handler or a finalizer may log while an entry is put in."""

    def __init__(self, overflow: Overflow, max_entries: int, max_bytes: int) -> None:
        self._overflow = overflow
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._begin()

    def _begin(self) -> None:
        self.published = 0
        self.dropped: Counter[Dropped] = Counter()
        self.entries = 0
        self.bytes = 0
        self.lock = RLock()
        self._changed = Condition(self.lock)
        self._waiters = 0
        self._accepted = 0
        self._closed = False
        self._lanes: dict[str, Lane] = {}
        self._sent: set[int] = set()
        self._wake: Callable[[], None] | None = None

    def forked(self) -> None:
        """Begin anew, in a child, with a lock that nobody holds: what waits is sent by the parent."""
        self._begin()

    def add(self, key: str, entry_id: bytes, body: bytes, *, important: bool, may_block: bool) -> None:
        """Put an entry in, or drop one."""
        size = len(body) + _OBJECTS
        with self.lock:
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = Lane(key)
            while not self._fits(size, important=important) and not self._closed:
                if not self._make_room(lane, may_block=may_block):
                    lane.drop_newest()
                    self.dropped[Dropped.OVERFLOW] += 1
                    return
            if self._closed:
                self.dropped[Dropped.CLOSED] += 1
                return
            self._accepted = number = self._accepted + 1
            lane.waiting.append(Entry(number, entry_id, body))
            self.entries += 1
            self.bytes += size
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def _fits(self, size: int, *, important: bool) -> bool:
        entries, room = self._max_entries, self._max_bytes
        if not important:
            entries, room = entries - entries // _KEPT_FREE, room - room // _KEPT_FREE
        return self.entries < entries and self.bytes + size <= room

    def _make_room(self, lane: Lane, *, may_block: bool) -> bool:
        if self._overflow is Overflow.BLOCK and may_block:
            self._wait(None)
            return True
        if self._overflow is Overflow.DROP_OLDEST and (gone := lane.drop_oldest()):
            self._forget([gone])
            self.dropped[Dropped.OVERFLOW] += 1
            return True
        return False

    def _wait(self, timeout: float | None) -> None:
        self._waiters += 1
        try:
            self._changed.wait(timeout)
        finally:
            self._waiters -= 1

    def _forget(self, entries: list[Entry]) -> None:
        counted = [len(entry.body) + _OBJECTS for entry in entries if entry.number]
        self.entries -= len(counted)
        size = sum(counted)
        self.bytes -= size
        if self._waiters:
            self._changed.notify_all()

    def drop(self, why: Dropped) -> None:
        """Count an entry that never came in."""
        with self.lock:
            self.dropped[why] += 1

    # The sender's side.

    def look(self, wake: Callable[[], None], most: int) -> int:
        """Return how many entries of one logger can be taken at best; when none can, `wake` is called once some can."""
        with self.lock:
            ready = [len(lane.waiting) for lane in self._lanes.values() if lane.on_their_way < most]
            largest = max(ready, default=0)
            self._wake = None if largest else wake
            return largest

    def take(self, most: int, max_entries: int, max_bytes: int) -> list[Bundle]:
        """Take a bundle from each logger that has less than `most` on their way."""
        with self.lock:
            ready = [lane for lane in self._lanes.values() if lane.waiting and lane.on_their_way < most]
            return [self._take(lane, max_entries, max_bytes) for lane in ready]

    def _take(self, lane: Lane, max_entries: int, max_bytes: int) -> Bundle:
        entries: list[Entry] = []
        size = 0
        while lane.waiting and len(entries) < max_entries:
            next_one = lane.waiting[0]
            entry = _marker(next_one) if isinstance(next_one, Gap) else next_one
            size += len(entry.body)
            if entries and size > max_bytes:
                break
            lane.waiting.popleft()
            entries.append(entry)
        first = next((entry.number for entry in entries if entry.number), 0)
        lane.on_their_way += 1
        if first:
            self._sent.add(first)
        return Bundle(lane, entries, first)

    def finish(self, bundle: Bundle, why: Dropped | None = None) -> None:
        """Count what is confirmed, or dropped for that reason."""
        with self.lock:
            counted = len([entry for entry in bundle.entries if entry.number])
            if why is None:
                self.published += counted
            else:
                self.dropped[why] += counted
            bundle.lane.on_their_way -= 1
            self._sent.discard(bundle.first)
            self._forget(bundle.entries)
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    # The end.

    def flush(self, timeout: float | None) -> bool:
        """Wait until everything that has come until now is confirmed or dropped; return whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.lock:
            last = self._accepted
            while self._oldest() <= last:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._wait(left)
            return True

    def _oldest(self) -> int:
        """Return the number of the oldest entry that is neither confirmed nor dropped."""
        numbers = list(self._sent)
        for lane in self._lanes.values():
            numbers += [next((entry.number for entry in lane.waiting if isinstance(entry, Entry)), self._accepted + 1)]
        return min(numbers, default=self._accepted + 1)

    def refuse(self) -> None:
        """Take nothing more."""
        with self.lock:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> int:
        """Take nothing more, count what is left as dropped, and return how many that are."""
        self.refuse()
        with self.lock:
            left, self.entries = self.entries, 0
            if left:
                self.dropped[Dropped.CLOSED] += left
            self._lanes.clear()
            self._sent.clear()
            self.bytes = 0
            self._changed.notify_all()
            return left


def _marker(gap: Gap) -> Entry:
    """Make the entry that says what is missing."""
    since, until = (_clock(moment) for moment in (gap.since, gap.until))
    data = {
        "msg": f"{gap.entries:,} entries dropped between {since} and {until}",
        "level": "WARNING",
        "logger": "transfer",
        "dropped": gap.entries,
    }
    entry_id = new_id()
    return Entry(0, entry_id, encode_entry(data, gap.until, None, entry_id))


def _clock(moment: int) -> str:
    seconds, rest = divmod(moment, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1_000_000:03}Z"
