"""Which block each entry of a cut belongs to, in a compact form. Pure.

A message is a member of a cut when the owner held it. It brings one entry, or several, or none, and each entry is in
one block. Only whole columns are handled here, so a message costs some hundredths of a microsecond.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from itertools import accumulate, compress, pairwise
from operator import add, sub
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_BLOCKS = 65_536
_COLUMNS = "QQIH"
"""The kinds of the four columns: first sequences and lengths of runs, entries of messages, blocks of entries."""


class Members:
    """The messages of one cut as runs of sequences, and the number of a block for each of their entries."""

    __slots__ = ("blocks", "counts", "firsts", "lengths", "messages")

    def __init__(
        self,
        firsts: array[int] | None = None,
        lengths: array[int] | None = None,
        counts: array[int] | None = None,
        blocks: array[int] | None = None,
    ) -> None:
        self.firsts = array("Q") if firsts is None else firsts
        """The first sequence of each run, rising; neighbouring runs do not touch."""
        self.lengths = array("Q") if lengths is None else lengths
        """How many sequences each run has."""
        self.counts = array("I") if counts is None else counts
        """How many entries each message has; empty when each of them has exactly one."""
        self.blocks = array("H") if blocks is None else blocks
        """The number of the block of each entry, in the order of sequences and of positions."""
        self.messages = sum(self.lengths)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Members) and self._columns() == other._columns()

    __hash__ = None  # type: ignore[assignment] # it grows

    def _columns(self) -> tuple[array[int], ...]:
        return self.firsts, self.lengths, self.counts, self.blocks

    def add(self, sequences: Sequence[int], blocks: Iterable[int], counts: Sequence[int] | None = None) -> None:
        """Take messages with rising sequences above all earlier ones, and the block of each of their entries.

        `counts` has the number of entries of each message, when any of them has not exactly one.
        """
        if self.counts or (counts is not None and any(count != 1 for count in counts)):
            if not self.counts:
                self.counts = array("I", [1]) * self.messages
            self.counts.extend([1] * len(sequences) if counts is None else counts)
        self.messages += len(sequences)
        for first, length in runs_of(sequences):
            if self.firsts and first == self.firsts[-1] + self.lengths[-1]:
                self.lengths[-1] += length
            else:
                self.firsts.append(first)
                self.lengths.append(length)
        self.blocks.extend(blocks)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the last sequence of each run."""
        return ((first, first + length - 1) for first, length in zip(self.firsts, self.lengths, strict=True))

    def sequences(self) -> Iterator[int]:
        """Yield all sequences, rising."""
        for first, last in self.runs():
            yield from range(first, last + 1)

    def shares(self) -> Iterator[tuple[int, Sequence[int]]]:
        """Yield each sequence with the blocks of its entries, by position."""
        if not self.counts:
            yield from ((sequence, (block,)) for sequence, block in zip(self.sequences(), self.blocks, strict=True))
            return
        start = 0
        for sequence, count in zip(self.sequences(), self.counts, strict=True):
            yield sequence, self.blocks[start : start + count]
            start += count

    def fault(self, blocks: int) -> str:
        """Return how the columns contradict each other, or nothing."""
        if len(self.firsts) != len(self.lengths) or 0 in self.lengths:
            return f"{len(self.firsts)} runs with {len(self.lengths)} lengths"
        ends = list(map(add, self.firsts, self.lengths))
        if any(end >= first for end, first in zip(ends, self.firsts[1:], strict=False)):
            return "runs of sequences that overlap or touch"
        if self.counts and len(self.counts) != self.messages:
            return f"{self.messages} messages with {len(self.counts)} numbers of entries"
        entries = sum(self.counts) if self.counts else self.messages
        if entries != len(self.blocks):
            return f"{entries} entries, of which {len(self.blocks)} have a block"
        if self.blocks and max(self.blocks) >= blocks:
            return f"an entry in block {max(self.blocks)} of {blocks}"
        return ""

    # --- as bytes: differences of neighbours, each column split into planes of bytes, which deflate well

    def encode(self) -> bytes:
        """Return the columns as bytes; see `decode`."""
        ends = map(add, self.firsts, self.lengths)
        gaps = array("Q", map(sub, self.firsts, [0, *ends][: len(self.firsts)]))
        parts = [_planes(column) for column in (gaps, self.lengths, self.counts, self.blocks)]
        sizes = array("Q", map(len, parts))
        return b"".join([_little(sizes), *parts])

    @classmethod
    def decode(cls, encoded: bytes) -> Members:
        """Return the members that were encoded so. Raises ValueError for other bytes."""
        sizes = _from_little("Q", encoded[:32])
        places = list(accumulate(sizes, initial=32))
        if len(sizes) != len(_COLUMNS) or places[-1] != len(encoded):
            raise ValueError(f"{len(encoded)} bytes of members in place of {places[-1]}")
        gaps, lengths, counts, blocks = (
            _from_planes(kind, encoded[start:end])
            for kind, (start, end) in zip(_COLUMNS, pairwise(places), strict=True)
        )
        firsts = array("Q")
        end = 0
        for gap, length in zip(gaps, lengths, strict=True):
            firsts.append(end + gap)
            end += gap + length
        return cls(firsts, lengths, counts, blocks)


class Shares:
    """Finds the blocks of a message's entries by its sequence."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._before = list(accumulate(members.lengths, initial=0))
        self._starts = list(accumulate(members.counts, initial=0)) if members.counts else None

    def of(self, sequence: int) -> Sequence[int] | None:
        """Return the block of each entry of a message, by position; None when the message is no member."""
        members = self._members
        run = bisect_right(members.firsts, sequence) - 1
        if run < 0 or sequence >= members.firsts[run] + members.lengths[run]:
            return None
        place = self._before[run] + sequence - members.firsts[run]
        if self._starts is None:
            return members.blocks[place : place + 1]
        return members.blocks[self._starts[place] : self._starts[place + 1]]


def runs_of(sequences: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first sequence and the length of each run of rising sequences."""
    if not sequences:
        return
    count = len(sequences)
    if sequences[-1] - sequences[0] == count - 1:
        yield sequences[0], count
        return
    steps = map(sub, sequences[1:], sequences)
    starts = [0, *compress(range(1, count), (step - 1 for step in steps)), count]
    yield from ((sequences[start], end - start) for start, end in pairwise(starts))


def _little(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _from_little(kind: str, raw: bytes) -> array[int]:
    numbers = array(kind)
    if len(raw) % numbers.itemsize:
        raise ValueError(f"{len(raw)} bytes, which is no multiple of {numbers.itemsize}")
    numbers.frombytes(raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _planes(numbers: array[int]) -> bytes:
    raw = _little(numbers)
    return b"".join(raw[plane :: numbers.itemsize] for plane in range(numbers.itemsize))


def _from_planes(kind: str, planes: bytes) -> array[int]:
    size = array(kind).itemsize
    if len(planes) % size:
        raise ValueError(f"{len(planes)} bytes, which is no multiple of {size}")
    count = len(planes) // size
    raw = bytearray(len(planes))
    for plane in range(size):
        raw[plane::size] = planes[plane * count : (plane + 1) * count]
    return _from_little(kind, bytes(raw))
