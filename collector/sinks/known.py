"""The messages that are known to be in a logger's file, so that none is written twice. Pure.

A message is known by its sequence in one incarnation of the stream, and by the time when the stream stored it: a stream
that was brought back from an older copy, or that lost its last messages with the power, counts on from an older
sequence. Sequences are kept as ranges, which are few: most messages are neighbours. Lines that a crash left behind the
last checkpoint are known by their bytes, because the same delivery always has the same line.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from collector.model import Delivery, Entry

MOST_RANGES = 50_000
"""Ranges that are remembered, the highest ones: half of the messages in hand, for each other one may leave no line."""
MOST_LINES = 50_000
"""Lines that are remembered by their bytes, the last ones."""
MOST_COUNTS = 8
"""Counts that are remembered, the last ones."""
LINES_KEPT = 3600.0
"""Seconds of writing without a delivery of a remembered line, after which these lines are let go."""
_DIGEST = 12


class Ranges:
    """A set of whole numbers that are mostly neighbours. Of very many ranges the lowest are forgotten."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """Hold these ranges: each of a first and a last number, in ascending order and with gaps between them."""
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self._firsts.append(first)
            self._lasts.append(last)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number) - 1
        return place >= 0 and number <= self._lasts[place]

    @property
    def highest(self) -> int:
        """The highest number; 0 without any."""
        return self._lasts[-1] if self._lasts else 0

    def all(self) -> list[tuple[int, int]]:
        """Return the ranges."""
        return list(zip(self._firsts, self._lasts, strict=True))

    def forget_from(self, number: int) -> None:
        """Forget this number and all higher ones."""
        place = bisect_left(self._firsts, number)
        del self._firsts[place:], self._lasts[place:]
        if self.highest >= number:
            self._lasts[-1] = number - 1

    def add(self, numbers: Iterable[int]) -> None:
        """Add numbers, which may come in any order."""
        first = last = None
        for number in sorted(numbers):
            if last is None or number > last + 1:
                if first is not None and last is not None:
                    self._add(first, last)
                first = number
            last = number
        if first is not None and last is not None:
            self._add(first, last)
        if len(self._firsts) > MOST_RANGES:
            del self._firsts[:-MOST_RANGES], self._lasts[:-MOST_RANGES]

    def _add(self, first: int, last: int) -> None:
        """Join a range with all ranges that it touches."""
        begin = bisect_right(self._lasts, first - 2)  # the first range that ends at `first` - 1 or later
        end = bisect_right(self._firsts, last + 1)  # the first one that begins behind `last` + 1
        if begin < end:
            first, last = min(first, self._firsts[begin]), max(last, self._lasts[end - 1])
        self._firsts[begin:end], self._lasts[begin:end] = [first], [last]


@dataclass(slots=True)
class Count:
    """Sequences that a stream gave out while it counted on."""

    latest: int = 0
    """When the stream stored the latest of their messages, in nanoseconds since 1970."""
    sequences: Ranges = field(default_factory=Ranges)


class Checkpoint(msgspec.Struct, frozen=True):
    """The messages that were known of a file up to a place in it; lines behind the place have to be read back."""

    stream: str
    created: str
    """The creation time of the stream whose sequences these are."""
    offset: int
    began: float
    """When the file was begun, in seconds since 1970."""
    counts: list[tuple[int, list[tuple[int, int]]]]
    """The latest time and the ranges of sequences of each count."""
    lines: bytes


_decode = msgspec.json.Decoder(Checkpoint).decode


def read_checkpoint(text: bytes) -> Checkpoint | None:
    """Read a checkpoint; None when the text is something else."""
    try:
        found = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if len(found.lines) % _DIGEST == 0 else None


class Known:
    """The messages of one logger's file, and the lines in it whose messages are not known.

    Counts are in the order of their times. A message belongs to the first count that is not over at its time, and else
    to the last one. A message of a known sequence that is later than the last count begins another count.
    """

    def __init__(self, counts: Iterable[tuple[int, Iterable[tuple[int, int]]]] = (), lines: bytes = b"") -> None:
        """Begin with the counts and lines of a checkpoint."""
        self._counts = [Count(latest, Ranges(ranges)) for latest, ranges in counts] or [Count()]
        self.lines = lines
        """Their digests, sorted and in one piece: after a crash of very many loggers there are very many."""
        self._came_again = True
        self._came_at = 0.0

    def counts(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """Return the counts for a checkpoint."""
        return [(count.latest, count.sequences.all()) for count in self._counts]

    def read_back(self, digests: Iterable[bytes]) -> None:
        """Remember lines that are there; older ones are forgotten when they are too many together."""
        new = set(digests)
        known = {bytes(self.lines[at : at + _DIGEST]) for at in range(0, len(self.lines), _DIGEST)}
        if new:
            self._came_again = True
            self.lines = b"".join(sorted(new if len(new) + len(known) > MOST_LINES else new | known))

    def fresh(self, entries: Sequence[Entry], lines: Sequence[bytes]) -> list[int]:
        """Return the places of entries that the file does not have; of two deliveries of one message only the first."""
        self._begin_count(entries)
        highest = self._highest()
        handed_over: dict[tuple[int, int], Delivery] = {}
        found = []
        for place, entry in enumerate(entries):
            delivery = entry.delivery
            first = handed_over.setdefault((delivery.sequence, delivery.published_ns), delivery)
            if first is not delivery or (delivery.sequence <= highest and self._has(delivery)):
                continue
            if not self.lines or not self._was_read(lines[place]):
                found.append(place)
        return found

    def add(self, entries: Iterable[Entry]) -> None:
        """Note that the file has all entries of these messages that have a line."""
        deliveries = [entry.delivery for entry in entries]
        if len(self._counts) == 1:
            self._counts[0].sequences.add([one.sequence for one in deliveries])
        else:
            for one in deliveries:
                self._count_of(one.published_ns).sequences.add([one.sequence])
        last = self._counts[-1]
        last.latest = max([last.latest, *[one.published_ns for one in deliveries]])

    def look_at_lines(self, now: float) -> None:
        """Let go of the lines when no delivery of one has come for long; their messages were answered before."""
        if self._came_again:
            self._came_again, self._came_at = False, now
        elif now - self._came_at >= LINES_KEPT:
            self.lines = b""

    def _begin_count(self, entries: Iterable[Entry]) -> None:
        """Begin another count when the stream gave known sequences to later messages."""
        latest, highest = self._counts[-1].latest, self._highest()
        below = [entry.delivery for entry in entries if entry.delivery.sequence <= highest]
        again = [one.sequence for one in below if one.published_ns > latest]
        known = [sequence for sequence in again if any(sequence in count.sequences for count in self._counts)]
        if known:
            for count in self._counts:
                count.sequences.forget_from(min(known))
            self._counts.append(Count(latest))
            del self._counts[:-MOST_COUNTS]

    def _highest(self) -> int:
        return max([count.sequences.highest for count in self._counts])

    def _has(self, delivery: Delivery) -> bool:
        return delivery.sequence in self._count_of(delivery.published_ns).sequences

    def _count_of(self, published_ns: int) -> Count:
        for count in self._counts:
            if published_ns <= count.latest:
                return count
        return self._counts[-1]

    def _was_read(self, line: bytes) -> bool:
        wanted, lines = digest(line), self.lines
        at = bisect_left(range(len(lines) // _DIGEST), wanted, key=lambda place: _at(lines, place))
        found = _at(lines, at) == wanted
        self._came_again = self._came_again or found
        return found


def _at(digests: bytes, place: int) -> bytes:
    return digests[place * _DIGEST : (place + 1) * _DIGEST]


def digest(line: bytes) -> bytes:
    """Return the digest of a line."""
    return blake2b(line, digest_size=_DIGEST).digest()
