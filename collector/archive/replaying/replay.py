"""The replay: an archive in, messages into one stream out, in the order of the archived stream.

The cursor is the last place below which each message is confirmed. A kill costs only the messages behind it: they are
published again, and stored once by their identities.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio import current_time

from collector.archive.readers import Archived, Captured
from collector.archive.record import BlockKind
from collector.archive.replaying import Place
from collector.archive.replaying.entries import Bundles, NotReplayable
from collector.archive.replaying.order import Cuts
from collector.archive.times import time_text
from collector.errors import WrongReplay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from collector.archive.finding import FoundLog
    from collector.archive.record import Block, Record
    from collector.archive.replaying.raw import RawMessages
    from collector.archive.stores import Store
    from collector.jetstream.window import Outgoing

_TURNS = 200
"""Rows after which other tasks get a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The part of an archive that is replayed."""

    first: int = 1
    last: int | None = None
    since: str = ""
    """The least time at which the stream stored a message: RFC 3339 in UTC without its Z."""
    until: str = ""
    key: str | None = None

    def has(self, row: Archived | Captured) -> bool:
        """Tell whether a row is in the span of time."""
        time = row.time.removesuffix("Z")
        return self.since <= time and (not self.until or time < self.until)

    def blocks_of(self, record: Record, left: Left) -> list[Block]:
        """Return the blocks of a cut that may have wanted rows; count those that cannot be replayed."""
        blocks = []
        for block in record.blocks:
            if block.kind is BlockKind.DEAD:
                left.dead_letters += block.rows
            elif self.key is None or (block.kind is BlockKind.ROWS and block.key == self.key):
                blocks.append(block)
            elif block.kind is BlockKind.OTHER:
                left.of_unknown_key += block.rows
        return blocks


@dataclass(slots=True)
class Left:
    """Rows that were not replayed."""

    dead_letters: int = 0
    of_unknown_key: int = 0
    """Entries of `__other__`, whose keys a record does not have."""
    no_entries: int = 0
    """Rows that are no entry of a logger."""
    why: str = ""
    """Of the first of these."""

    def lines(self) -> list[str]:
        """Return sentences for people."""
        said = []
        if self.dead_letters:
            said.append(f"left: {self.dead_letters:,} dead letters, which are in blocks under _dead/")
        if self.of_unknown_key:
            said.append(f"left: {self.of_unknown_key:,} entries of __other__, whose keys the archive does not have")
        if self.no_entries:
            said.append(f"left: {self.no_entries:,} rows that are no entries; the first is {self.why}")
        return said


@dataclass(slots=True)
class Tally:
    """How far a replay is."""

    cut: int = 0
    left: Left = field(default_factory=Left)


class Sender(Protocol):
    """Takes messages, in order."""

    async def send(self, message: Outgoing) -> None:
        """Take a message when there is room."""


class Replay:
    """Reads an archive and hands its messages to a sender."""

    def __init__(
        self, store: Store, wanted: Wanted, start: Place, target: Bundles | RawMessages, sender: Sender
    ) -> None:
        """Begin behind a place."""
        self.tally = Tally()
        self._cuts = Cuts(store)
        self._store = store
        self._wanted = wanted
        self._start = start
        self._target = target
        self._sender = sender

    async def run(self, log: FoundLog, looked: Callable[[], Awaitable[None]]) -> None:
        """Replay the log to its end. `looked` is called now and then.

        Raises RecordDamaged, BlockUnreadable and WrongReplay, and the errors of the sender.
        """
        wanted = self._wanted
        before = ""
        async for record in log.records(self._store, max(wanted.first, self._start.cut), wanted.last):
            if wanted.until and before >= wanted.until:
                break
            before = time_of(record)
            self.tally.cut = record.number
            if before >= wanted.since:
                await self._replay_cut(record, looked)
        if isinstance(self._target, Bundles):
            await self._send(self._target.rest())

    async def _replay_cut(self, record: Record, looked: Callable[[], Awaitable[None]]) -> None:
        blocks = self._wanted.blocks_of(record, self.tally.left)
        text = record.making.get("text") == "true"
        with ExitStack() as stack:
            for number, row in enumerate(await self._cuts.rows(record, blocks, stack), 1):
                if number % _TURNS == 0:
                    await looked()
                place = Place(record.number, row.sequence, row.position)
                if place > self._start and self._wanted.has(row):
                    await self._send(self._messages(row, record.number, text=text))
        await looked()

    def _messages(self, row: Archived | Captured, cut: int, *, text: bool) -> Iterator[Outgoing]:
        target = self._target
        if isinstance(row, Captured):
            if isinstance(target, Bundles):
                raise WrongReplay("expected rows of entries, got raw messages among them: replay each kind alone")
            yield target.message(row, cut, text=text)
            return
        if not isinstance(target, Bundles):
            raise WrongReplay("expected raw messages, got rows of entries: give --to-logger in place of --to-stream")
        try:
            yield from target.add(row, cut)
        except NotReplayable as why:
            self.tally.left.no_entries += 1
            self.tally.left.why = self.tally.left.why or f"{row.sequence}/{row.position}: {why}"

    async def _send(self, messages: Iterator[Outgoing]) -> None:
        for message in messages:
            await self._sender.send(message)


class Paced:
    """A sender that sends at most some entries a second."""

    def __init__(self, sender: Sender, rate: float) -> None:
        self._sender = sender
        self._rate = rate
        self._next = current_time()

    async def send(self, message: Outgoing) -> None:
        """See `Sender`."""
        self._next = max(self._next, current_time())
        await anyio.sleep_until(self._next)
        self._next += message.entries / self._rate
        await self._sender.send(message)


class Counting:
    """A sender that publishes nothing."""

    def __init__(self, tally: Callable[[Outgoing, bool], None]) -> None:
        self._tally = tally

    async def send(self, message: Outgoing) -> None:
        """See `Sender`."""
        self._tally(message, False)


def time_of(record: Record) -> str:
    """Return when the stream stored the last message of a cut, as `Wanted` has it."""
    return time_text(record.to_time_ns).removesuffix("Z")
