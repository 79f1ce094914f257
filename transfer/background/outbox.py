"""What waits to be sent: bounded by entries and bytes, filled by any thread, emptied by the sender's.

An entry counts until it is confirmed or dropped. It is in one place: it waits, is on its way, is published, or is
dropped for one reason. Where entries of a logger are missing because the outbox had no room for them, a marker entry
says so in their place; `flush` waits for it as for an entry.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from transfer.entries.entry import encode_entry, new_id
from transfer.entries.stub import stub_of
from transfer.options import Overflow
from transfer.system.native import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

_OBJECTS = 200
"""Bytes that an entry takes beside its body."""
_STUBS = 100
"""Of a logger with more waiting, an entry that is too large leaves a marker: stubs take memory that is not counted."""
_KEPT_FREE = 10
"""One part in so many is kept for important entries."""
_WINDOW = 256
"""Bundles on their way at a time. A logger with none on its way may always send one more."""
_LOOK = 1.0
"""Seconds between two looks of a thread that waits."""


class Dropped(StrEnum):
    """Why an entry was not sent, or not confirmed: a closed list."""

    OVERFLOW = "overflow"
    INVALID_KEY = "invalid_key"
    TOO_LARGE = "too_large"
    """For a message of this NATS, or for the queue."""
    UNKNOWN_LOGGER = "unknown_logger"
    REFUSED = "refused"
    """By JetStream, for good."""
    CLOSED = "closed"
    """Sent after the end, or still unconfirmed at it."""


class Queued(NamedTuple):
    """One entry that waits."""

    number: int
    """Counted from 1 in the order of coming; 0 for a marker."""
    id: bytes
    body: bytes


@dataclass(slots=True)
class Gap:
    """Entries that are missing at one place."""

    number: int
    """In one order with those of entries."""
    entries: int
    since: int
    until: int
    """Nanoseconds since 1970."""

    def add(self) -> None:
        """Count one more, that is missing just now."""
        self.entries += 1
        self.until = time.time_ns()


class Stub(NamedTuple):
    """What is left of an entry that was too large for the queue. It is counted as little as a marker is."""

    number: int
    entry: Queued


class Lane:
    """The entries of one logger, in order. It is there while anything of that logger is."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.waiting: deque[Queued | Gap | Stub] = deque()
        self.on_their_way = 0
        """Bundles."""

    def drop_newest(self, number: int) -> None:
        """Have a gap of this number behind what waits, or a larger one."""
        if self.waiting and isinstance(gap := self.waiting[-1], Gap):
            gap.add()
        else:
            now = time.time_ns()
            self.waiting.append(Gap(number, 1, now, now))

    def drop_oldest(self) -> Queued | None:
        """Have a gap before what waits, or a larger one; return what is missing now, None when no entry waits."""
        gap: Gap | None = None
        gone: Queued | None = None
        while self.waiting and gone is None:
            first = self.waiting.popleft()
            if isinstance(first, Stub):
                now = time.time_ns()
                first = Gap(first.number, 1, now, now)
            if isinstance(first, Gap):
                gap = first if gap is None else Gap(gap.number, gap.entries + first.entries, gap.since, first.until)
            else:
                gone = first
        if gone is not None:
            now = time.time_ns()
            gap = gap or Gap(gone.number, 0, now, now)
            gap.add()
        if gap is not None:
            self.waiting.appendleft(gap)
        return gone


class Bundle(NamedTuple):
    """Entries of one logger that are sent together."""

    lane: Lane
    entries: list[Queued]
    first: int
    """The number of the oldest of them, of an entry or of a gap. No other bundle has it."""


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
        self.first_drops: list[tuple[Dropped, str]] = []
        """A reason that has just occurred for the first time, and the key; whoever says so takes it out."""
        self.entries = 0
        self.bytes = 0
        self._waiter = Waiter()
        self.lock = self._waiter.lock
        self._numbers = 0
        self._closed = False
        self._lanes: dict[str, Lane] = {}
        self._sent: dict[int, Bundle] = {}
        """What is on its way, by the number of its oldest."""
        self._wake: Callable[[], None] | None = None

    def forked(self) -> None:
        """Begin anew, in a child, with a lock that nobody holds: what waits is sent by the parent."""
        self._begin()

    def add(self, key: str, entry_id: bytes, body: bytes, *, important: bool, may_block: bool) -> None:
        """Put an entry in, or drop one."""
        size = len(body) + _OBJECTS
        is_too_large = size > self._room(important=important)[1]
        stub = stub_of(body) if is_too_large and not self._closed else None  # it takes its time: not under the lock
        with self.lock:
            why = None
            if self._closed or not self._fits(size, important=important):
                why = self._make_room(key, size, important=important, may_block=may_block)
            if why is None:
                self._numbers = number = self._numbers + 1
                lane = self._lanes.get(key)
                if lane is None:
                    lane = self._lanes[key] = Lane(key)
                lane.waiting.append(Queued(number, entry_id, body))
                self.entries += 1
                self.bytes += size
            else:
                self._count(why, key, 1)
                if why is not Dropped.CLOSED:
                    self._mark(key, entry_id, stub)
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def _room(self, *, important: bool) -> tuple[int, int]:
        if important:
            return self._max_entries, self._max_bytes
        return self._max_entries - self._max_entries // _KEPT_FREE, self._max_bytes - self._max_bytes // _KEPT_FREE

    def _fits(self, size: int, *, important: bool) -> bool:
        entries, room = self._room(important=important)
        return self.entries < entries and self.bytes + size <= room

    def _make_room(self, key: str, size: int, *, important: bool, may_block: bool) -> Dropped | None:
        """Return None when there is room now, else why the entry is dropped."""
        if size > self._room(important=important)[1]:
            return Dropped.CLOSED if self._closed else Dropped.TOO_LARGE
        while not self._closed and not self._fits(size, important=important):
            if self._overflow is Overflow.BLOCK and may_block:
                self._waiter.wait(_LOOK)
            elif not self._drop_oldest(key):
                return Dropped.OVERFLOW
        return Dropped.CLOSED if self._closed else None

    def _drop_oldest(self, key: str) -> bool:
        lane = self._lanes.get(key) if self._overflow is Overflow.DROP_OLDEST else None
        gone = lane.drop_oldest() if lane is not None else None
        if gone is None:
            return False
        self._forget([gone])
        self._count(Dropped.OVERFLOW, key, 1)
        return True

    def _mark(self, key: str, entry_id: bytes, stub: bytes | None) -> None:
        """Have a stub or a marker where an entry is missing. Keys without an end, of which none is sent, leave none."""
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= self._max_entries:
                return
            lane = self._lanes[key] = Lane(key)
        self._numbers += 1
        if stub is None or len(lane.waiting) >= _STUBS:
            lane.drop_newest(self._numbers)
        else:
            lane.waiting.append(Stub(self._numbers, Queued(0, entry_id, stub)))

    def _forget(self, entries: list[Queued]) -> int:
        """Give back the room of entries, and return how many they are."""
        counted = [len(entry.body) + _OBJECTS for entry in entries if entry.number]
        self.entries -= len(counted)
        self.bytes -= sum(counted)
        self._waiter.wake()
        return len(counted)

    def _count(self, why: Dropped, key: str, entries: int) -> None:
        if entries and why not in self.dropped:
            self.first_drops.append((why, key))
        if entries:
            self.dropped[why] += entries

    def drop(self, why: Dropped, key: str) -> None:
        """Count an entry that never came in."""
        with self.lock:
            self._count(why, key, 1)

    # The sender's side.

    def look(self, wake: Callable[[], None], most: int) -> int:
        """Return how many entries of one logger can be taken at best; when none can, `wake` is called once some can."""
        with self.lock:
            ready = [len(lane.waiting) for lane in self._lanes.values() if self._may_send(lane, most)]
            largest = max(ready, default=0)
            self._wake = None if largest else wake
            return largest

    def _may_send(self, lane: Lane, most: int) -> bool:
        """Return whether one more bundle of a logger may go.

        Each logger has less on its way than is left of the window: so something is left for a logger that comes later,
        however many there are whose streams take nothing.
        """
        return lane.on_their_way < max(1, min(most, _WINDOW - len(self._sent)))

    def take(self, most: int, max_entries: int, max_bytes: int) -> list[Bundle]:
        """Take a bundle from each logger that may send one; no logger has more than `most` on their way."""
        with self.lock:
            waiting = [lane for lane in self._lanes.values() if lane.waiting]
            return [self._take(lane, max_entries, max_bytes) for lane in waiting if self._may_send(lane, most)]

    def _take(self, lane: Lane, max_entries: int, max_bytes: int) -> Bundle:
        entries: list[Queued] = []
        first, size = lane.waiting[0].number, 0
        while lane.waiting and len(entries) < max_entries:
            next_one = lane.waiting[0]
            entry = next_one.entry if isinstance(next_one, Stub) else next_one
            entry = _marker(entry) if isinstance(entry, Gap) else entry
            size += len(entry.body)
            if entries and size > max_bytes:
                break
            lane.waiting.popleft()
            entries.append(entry)
        return self._send_off(Bundle(lane, entries, first))

    def _send_off(self, bundle: Bundle) -> Bundle:
        bundle.lane.on_their_way += 1
        self._sent[bundle.first] = bundle
        return bundle

    def on_their_way(self) -> list[Bundle]:
        """Return what was taken and is not finished, for a sender that begins anew: as it was, or ids would lie."""
        with self.lock:
            return list(self._sent.values())

    def split(self, bundle: Bundle) -> list[Bundle]:
        """Return a bundle that is on its way as two that are, or nothing when it is on its way no more."""
        with self.lock:
            if self._sent.pop(bundle.first, None) is None:
                return []
            bundle.lane.on_their_way -= 1
            middle = len(bundle.entries) // 2
            front, back = bundle.entries[:middle], bundle.entries[middle:]
            second = next((entry.number for entry in back if entry.number), 0)
            if not second:  # markers alone
                self._numbers = second = self._numbers + 1
            parts = Bundle(bundle.lane, front, bundle.first), Bundle(bundle.lane, back, second)
            return [self._send_off(part) for part in parts]

    def finish(self, bundle: Bundle, why: Dropped | None = None) -> None:
        """Count what is confirmed, or dropped for that reason; nothing when `close` has counted it already."""
        with self.lock:
            if self._sent.pop(bundle.first, None) is None:
                return
            counted = self._forget(bundle.entries)
            if why is None:
                self.published += counted
            else:
                self._count(why, bundle.lane.key, counted)
            lane = bundle.lane
            lane.on_their_way -= 1
            if not lane.waiting and not lane.on_their_way:
                del self._lanes[lane.key]
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
        waiting = [lane.waiting[0].number for lane in self._lanes.values() if lane.waiting]
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
            self.entries = self.bytes = 0
            self._lanes.clear()
            self._sent.clear()
            self._waiter.wake()
            return left


def _marker(gap: Gap) -> Queued:
    """Make the entry that says what is missing."""
    since, until = (_clock(moment) for moment in (gap.since, gap.until))
    data = {
        "msg": f"{gap.entries:,} entries dropped between {since} and {until}",
        "level": "WARNING",
        "logger": "transfer",
        "dropped": gap.entries,
    }
    entry_id = new_id()
    return Queued(0, entry_id, encode_entry(data, gap.until, None, entry_id))


def _clock(moment: int) -> str:
    seconds, rest = divmod(moment, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1_000_000:03}Z"
