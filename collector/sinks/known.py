"""The messages that are known to be in a logger's file, so that none is written twice. Pure.

A message is known by its sequence in one incarnation of the stream. Sequences are kept as ranges, which are few: most
messages are neighbours. Lines that a crash left behind the last checkpoint are known by their bytes, because the same
delivery always has the same line.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from collector.model import Entry

MOST_RANGES = 2000
"""Ranges that are remembered, the highest ones. With several replicas the messages of the others are gaps."""
MOST_LINES = 50_000
"""Lines that are remembered by their bytes, the last ones."""
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

    def all(self) -> list[tuple[int, int]]:
        """Return the ranges."""
        return list(zip(self._firsts, self._lasts, strict=True))

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


class Checkpoint(msgspec.Struct, frozen=True):
    """The messages that were known of a file up to a place in it; lines behind the place have to be read back."""

    stream: str
    created: str
    """The creation time of the stream whose sequences these are."""
    offset: int
    began: float
    """When the file was begun, in seconds since 1970."""
    sequences: list[tuple[int, int]]
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
    """The messages of one logger's file, and the lines in it whose messages are not known."""

    def __init__(self, sequences: Iterable[tuple[int, int]] = (), lines: bytes = b"") -> None:
        """Begin with the sequences and lines of a checkpoint."""
        self.sequences = Ranges(sequences)
        self.lines = lines
        """Their digests, sorted and in one piece: after a crash of very many loggers there are very many."""

    def read_back(self, digests: Iterable[bytes]) -> None:
        """Remember lines that are there; older ones are forgotten when they are too many together."""
        new = set(digests)
        known = {bytes(self.lines[at : at + _DIGEST]) for at in range(0, len(self.lines), _DIGEST)}
        if new:
            self.lines = b"".join(sorted(new if len(new) + len(known) > MOST_LINES else new | known))

    def fresh(self, entries: Sequence[Entry], lines: Sequence[bytes]) -> list[int]:
        """Return the places of entries that the file does not have; of two deliveries of one message only the first."""
        handed_over: dict[int, str] = {}
        found = []
        for place, entry in enumerate(entries):
            delivery = entry.delivery
            first = handed_over.setdefault(delivery.sequence, delivery.reply)
            if first != delivery.reply or delivery.sequence in self.sequences:
                continue
            if not self.lines or not self._was_read(lines[place]):
                found.append(place)
        return found

    def add(self, entries: Iterable[Entry]) -> None:
        """Note that the file has all entries of these messages that have a line."""
        self.sequences.add({entry.delivery.sequence for entry in entries})

    def _was_read(self, line: bytes) -> bool:
        wanted, lines = digest(line), self.lines
        at = bisect_left(range(len(lines) // _DIGEST), wanted, key=lambda place: _at(lines, place))
        return _at(lines, at) == wanted


def _at(digests: bytes, place: int) -> bytes:
    return digests[place * _DIGEST : (place + 1) * _DIGEST]


def digest(line: bytes) -> bytes:
    """Return the digest of a line."""
    return blake2b(line, digest_size=_DIGEST).digest()
