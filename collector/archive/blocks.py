"""The blocks of an open cut while they are filled: messages in, and when the cut is closed, the bytes of each block.

Each entry of a message has one block. Rows and dead letters of a message are in the order of their positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast

from collector.archive.formats.dead import write_letters
from collector.archive.record import BlockKind
from collector.archive.rows import Row
from collector.model import Delivery, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import BinaryIO

    from collector.archive.compression import Compressed
    from collector.archive.cut import CutPolicy, OpenCut
    from collector.archive.formats import About, Format, Writer
    from collector.archive.reading import Slice
    from collector.archive.rows import Reading
    from collector.archive.spool import Spool

Entry: TypeAlias = "Row | Rejected"


class Blocks:
    """The blocks of one cut, by their numbers."""

    def __init__(self, form: Format, spool: Spool) -> None:
        """Make blocks of a format; the bytes are in files of `spool` until they are asked for."""
        self.size = spool.begin()
        self._form = form
        self._spool = spool
        self._files: dict[int, BinaryIO] = {}
        self._writers: dict[int, Writer] = {}

    def write(self, number: int, entries: Sequence[Entry], kind: BlockKind = BlockKind.ROWS) -> None:
        """Add entries to a block, in the order of the stream."""
        file = self._files.get(number)
        if file is None:
            file = self._files[number] = self._spool()
            if kind is not BlockKind.DEAD:
                self._writers[number] = self._form.open(file)
        if kind is BlockKind.DEAD:
            write_letters(cast("Compressed", file), cast("Sequence[Rejected]", entries))
        else:
            self._writers[number].write(cast("Sequence[Row]", entries))

    def finish(self, number: int, about: About, kind: BlockKind = BlockKind.ROWS) -> None:
        """Complete a block, also one without an entry."""
        if number not in self._files:
            self.write(number, [], kind)
        if (writer := self._writers.pop(number, None)) is not None:
            writer.finish(about)

    def content(self, number: int) -> bytes:
        """Return the bytes of a block that is complete."""
        file = self._files[number]
        file.seek(0)
        return file.read()

    def release(self, number: int) -> None:
        """Hold the bytes of a block no longer."""
        self._files.pop(number).close()

    def drop(self) -> None:
        """Hold nothing any more."""
        for writer in self._writers.values():
            writer.drop()
        for file in self._files.values():
            file.close()
        self._writers.clear()
        self._files.clear()


class Filling:
    """An open cut together with its blocks."""

    def __init__(self, cut: OpenCut, blocks: Blocks, policy: CutPolicy) -> None:
        self.cut = cut
        self.blocks = blocks
        self.raw_bytes = 0
        self.first_time_ns = 0
        """When the stream stored the first message of the cut; 0 before there is one."""
        self.last_time_ns = 0
        """When the stream stored the last message of the cut."""
        self._policy = policy

    def add(self, came: Slice, messages: Sequence[Delivery], reading: Reading, clock: tuple[float, float]) -> None:
        """Take messages that are new; `came` has the facts of them."""
        if not came.sequences:
            return
        self.raw_bytes += sum([len(frame[3]) for frame in came.frames])
        self.first_time_ns = self.first_time_ns or came.times_ns[0]
        self.last_time_ns = came.times_ns[-1]
        read = reading.read(messages)
        rows = read.rows
        if not read.rejects and [row.message for row in rows] == messages:  # each is one row
            entries: Sequence[Entry] = rows
            windows = self._windows(came.times_ns, None)
            blocks = self.cut.add(came.sequences, [row.key for row in rows], windows, clock=clock)
        else:
            entries, counts = merged(messages, rows, read.rejects)
            windows = self._windows(came.times_ns, counts)
            keys = [row.key if isinstance(row, Row) else BlockKind.DEAD for row in entries]
            blocks = self.cut.add(came.sequences, keys, windows, counts=counts, clock=clock)
        self._write(blocks, entries)

    def _windows(self, times_ns: Sequence[int], counts: Sequence[int] | None) -> int | list[int]:
        """Return the window of all messages, or else of each entry."""
        window_of = self._policy.window_of
        first = window_of(min(times_ns))
        if first == window_of(max(times_ns)):
            return first
        windows = map(window_of, times_ns)
        if counts is None:
            return list(windows)
        return [window for window, count in zip(windows, counts, strict=True) for _ in range(count)]

    def _write(self, blocks: Sequence[int], entries: Sequence[Entry]) -> None:
        if not entries:
            return
        if min(blocks) == max(blocks):
            parts: dict[int, Sequence[Entry]] = {blocks[0]: entries}
        else:
            parts = parted(zip(blocks, entries, strict=True))
        places = self.cut.places
        for number, part in parts.items():
            kind = places[number].key
            self.blocks.write(number, part, kind if isinstance(kind, BlockKind) else BlockKind.ROWS)


def messages_of(came: Slice, stream: str) -> list[Delivery]:
    """Return the messages of a slice."""
    facts = zip(came.frames, came.sequences, came.deliveries, came.times_ns, strict=True)
    return [
        Delivery(
            subject.decode(errors="replace"), reply.decode(), body, raw_headers, stream, sequence, delivered, time_ns
        )
        for (subject, reply, raw_headers, body), sequence, delivered, time_ns in facts
    ]


def parted(entries: Iterable[tuple[int, Entry]]) -> dict[int, Sequence[Entry]]:
    """Return the entries of each block."""
    parts: dict[int, list[Entry]] = {}
    for number, entry in entries:
        parts.setdefault(number, []).append(entry)
    return cast("dict[int, Sequence[Entry]]", parts)


def merged(
    messages: Sequence[Delivery], rows: Sequence[Row], rejects: Sequence[Rejected]
) -> tuple[list[Entry], list[int]]:
    """Return the entries of all messages in the order of the messages, and how many each message has."""
    entries: list[Entry] = []
    counts: list[int] = []
    row = reject = 0
    for message in messages:
        before = len(entries)
        row = _take(entries, rows, row, lambda one, of=message: one.message is of)
        end = len(entries)
        reject = _take(entries, rejects, reject, lambda one, of=message: one.delivery is of)
        if before < end < len(entries):
            entries[before:] = by_position(entries[before:])
        counts.append(len(entries) - before)
    return entries, counts


def by_position(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries of one message in the order of their positions: a record counts them so."""
    return sorted(entries, key=lambda one: one.position or 0)


def _take(entries: list[Entry], found: Sequence[Entry], start: int, belongs: Callable[..., bool]) -> int:
    end = start
    while end < len(found) and belongs(found[end]):
        end += 1
    entries += found[start:end]
    return end
