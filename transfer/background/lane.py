"""The queue of one logger inside the outbox: its entries in order, and a gap wherever entries are missing. Pure."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from transfer.entries.entry import encode_entry, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

OBJECTS = 200
"""Bytes of memory that an entry takes beside its body."""
_STUBS = 100
"""A lane with more waiting gets a gap instead of a stub: the memory of stubs is not counted."""


class Room(NamedTuple):
    """A number of entries and a number of bytes."""

    entries: int
    bytes: int


class Limits(NamedTuple):
    """How much the sender takes: bundles of one logger on their way, entries and bytes of one bundle."""

    bundles: int
    entries: int
    bytes: int


class Queued(msgspec.Struct, frozen=True, gc=False):
    """One encoded entry that waits or is on its way."""

    number: int
    """Entries are counted from 1 in the order in which they come; a marker has 0."""
    id: bytes
    body: bytes


@dataclass(slots=True)
class Gap:
    """Entries that are missing at one place of a lane."""

    number: int
    """The place of the gap, in the order of the entries' numbers."""
    entries: int
    since: int
    until: int
    """Nanoseconds since 1970."""

    def add(self) -> None:
        """Count one more entry, which is missing from now on."""
        self.entries += 1
        self.until = time.time_ns()

    def join(self, other: Gap) -> Gap:
        """Return one gap for two that lie side by side."""
        since, until = min(self.since, other.since), max(self.until, other.until)
        return Gap(min(self.number, other.number), self.entries + other.entries, since, until)

    def sent(self) -> Queued:
        """Make the marker, the entry that says how many entries are missing."""
        since, until = (_clock(moment) for moment in (self.since, self.until))
        data = {
            "msg": f"{self.entries:,} entries dropped between {since} and {until}",
            "level": "WARNING",
            "logger": "transfer",
            "dropped": self.entries,
        }
        entry_id = new_id()
        return Queued(0, entry_id, encode_entry(data, self.until, None, entry_id))


class Stub(NamedTuple):
    """The short entry that stands for one that was too large for the outbox. It takes no room there, as a marker."""

    number: int
    entry: Queued

    def sent(self) -> Queued:
        """Return the short entry."""
        return self.entry


Waiting = Queued | Gap | Stub


class Bundle(NamedTuple):
    """Entries of one logger that are sent together."""

    lane: Lane
    entries: list[Queued]
    first: int
    """The number of the oldest entry or gap in the bundle. No other bundle has it."""
    counted: int
    """The number of entries that take room in the outbox: markers and stubs take none."""
    size: int
    """The bytes of the outbox that the entries take."""


class Lane:
    """The entries of one logger. A lane exists while any entry or gap of its logger waits or is on its way."""

    __slots__ = ("bytes", "entries", "important", "key", "on_their_way", "ordinary", "sent_bytes", "sent_entries")

    def __init__(self, key: str) -> None:
        self.key = key
        self.ordinary: deque[Waiting] = deque()
        self.important: deque[Waiting] = deque()
        self.entries = self.bytes = 0
        """The room that the lane takes in the outbox."""
        self.on_their_way = self.sent_entries = self.sent_bytes = 0
        """Bundles that are on their way, and the part of the room that is theirs."""

    @property
    def length(self) -> int:
        """The number of entries, gaps and stubs that wait."""
        return len(self.ordinary) + len(self.important)

    @property
    def oldest(self) -> int:
        """The number of the first entry or gap that waits. The lane is not empty."""
        return self._next()[0].number

    def _next(self) -> deque[Waiting]:
        """Return the queue whose first entry is the older one."""
        ordinary, important = self.ordinary, self.important
        if not important or (ordinary and ordinary[0].number < important[0].number):
            return ordinary
        return important

    def miss(self, number: int, entry_id: bytes, stub: bytes | None, *, important: bool) -> None:
        """Put a stub, or a gap, in the place of an entry that the outbox did not take."""
        queue = self.important if important else self.ordinary
        if stub is not None and self.length < _STUBS:
            queue.append(Stub(number, Queued(0, entry_id, stub)))
        elif queue and isinstance(gap := queue[-1], Gap):
            gap.add()
        else:
            queue.append(_gap_at(number))

    def give_up(self, *, oldest: bool) -> Queued | None:
        """Put a gap in the place of the oldest or the newest entry that waits, and return that entry.

        Important entries are given up when no ordinary one waits. Returns None when no entry waits.
        """
        for queue in (self.ordinary, self.important):
            gone = _cut(queue, oldest=oldest)
            if gone is not None:
                freed = room_of(gone)  # now: a signal handler that puts an entry in meanwhile changes the sum
                self.entries -= 1
                self.bytes -= freed
                return gone
        return None

    def count_anew(self) -> None:
        """Have the sums of what is there."""
        waiting = [room_of(one) for one in (*self.ordinary, *self.important) if isinstance(one, Queued)]
        self.entries, self.bytes = self.sent_entries + len(waiting), self.sent_bytes + sum(waiting)

    def take(self, max_entries: int, max_bytes: int) -> Bundle:
        """Return the oldest entries as one bundle that is on its way, markers among them. The lane is not empty."""
        entries: list[Queued] = []
        first, size = self.oldest, 0
        while len(entries) < max_entries:
            queue = self._next() if self.important else self.ordinary
            if not queue:
                break
            one = queue[0]
            entry = one if type(one) is Queued else one.sent()  # type: ignore[union-attr]
            size += len(entry.body)
            if entries and size > max_bytes:
                break
            queue.popleft()
            entries.append(entry)
        return self.bundle(entries, first)

    def bundle(self, entries: list[Queued], first: int) -> Bundle:
        """Return a bundle, and count it as on its way."""
        sizes = [len(entry.body) + OBJECTS for entry in entries if entry.number]
        bundle = Bundle(self, entries, first, len(sizes), sum(sizes))
        self.on_their_way += 1
        self.sent_entries += bundle.counted
        self.sent_bytes += bundle.size
        return bundle

    def unbundle(self, bundle: Bundle) -> None:
        """Count a bundle as no longer on its way."""
        self.on_their_way -= 1
        self.sent_entries -= bundle.counted
        self.sent_bytes -= bundle.size


def room_of(entry: Queued) -> int:
    """Return how many bytes of the outbox an entry takes."""
    return len(entry.body) + OBJECTS


def first_number(entries: Sequence[Queued]) -> int:
    """Return the number of the first entry that is no marker, 0 when all are markers."""
    return next((entry.number for entry in entries if entry.number), 0)


def _cut(queue: deque[Waiting], *, oldest: bool) -> Queued | None:
    pop, push = (queue.popleft, queue.appendleft) if oldest else (queue.pop, queue.append)
    gap: Gap | None = None
    gone: Queued | None = None
    while queue and gone is None:
        one = pop()
        if isinstance(one, Queued):
            gone = one
        gap = _joined(gap, one)
    while queue and isinstance(queue[0 if oldest else -1], Gap):
        gap = _joined(gap, pop())
    if gap is not None:
        push(gap)
    return gone


def _joined(gap: Gap | None, one: Waiting) -> Gap:
    other = one if isinstance(one, Gap) else _gap_at(one.number)
    return other if gap is None else gap.join(other)


def _gap_at(number: int) -> Gap:
    now = time.time_ns()
    return Gap(number, 1, now, now)


def _clock(moment: int) -> str:
    seconds, rest = divmod(moment, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1_000_000:03}Z"
