"""The two sinks of an archived logger, as the owner of its archive sees them: which messages may be acked, and when.

In: what the owner receives and archives, and what the other destination has. Out: acks of messages that both have.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from collector.actors.feed import Feed
from collector.archive.gate import Gate
from collector.events import Answered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from anyio import Event

    from collector.actors.feed import Stream
    from collector.actors.moving import Shared
    from collector.archive.owning.source import Source
    from collector.jetstream.source import Attached
    from collector.model import Delivery
    from transfer.wire import LoggerSpec


class BothSinks:
    """The gate of one logger, and the feed of its other destination. See `Beside`."""

    def __init__(self, spec: LoggerSpec, shared: Shared, attached: Attached, stream: Stream) -> None:
        self._key = spec.key
        self._report = shared.report
        self._gate = Gate(0)
        self._source: Source | None = None
        self._kept: list[int] | None = None
        """Acks that wait for the end of a count; None while none is made."""
        self._feed = Feed(spec, shared, attached, stream, self)

    async def run(self, stopping: Event) -> None:
        """Store in the other destination until asked to stop."""
        try:
            await self._feed.run(stopping)
        finally:
            self._gate, self._source = Gate(0), None
            self._feed.rewind()

    @property
    def unacked(self) -> int:
        """See `Beside`."""
        return self._gate.unacked + len(self._kept or ())

    def rewind(self, cursor: int, source: Source) -> None:
        """See `Beside`."""
        self._gate, self._source, self._kept = Gate(cursor), source, None
        self._feed.rewind()

    async def came(self, messages: Sequence[Delivery], again: Sequence[int]) -> None:
        """See `Beside`."""
        if again:
            await self._ack(self._gate.again(again))
        if messages:
            self._gate.take([message.sequence for message in messages])
            await self._feed.offer(messages)

    async def archived(self, to: int) -> None:
        """See `Beside`."""
        both = self._gate.archived(to)
        await self._ack(both)
        if both:
            self._report(Answered(self._key, len(both)))

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """See `Beside`."""
        self._kept = kept = list[int]()
        try:
            yield
        finally:
            self._kept = None
        await self._ack(kept)

    @property
    def missing(self) -> list[int]:
        """See `HasArchived`."""
        return self._gate.missing

    async def written(self, sequences: Sequence[int]) -> int:
        """See `HasArchived`."""
        both = self._gate.written(sequences)
        await self._ack(both)
        return len(both)

    async def _ack(self, sequences: Sequence[int]) -> None:
        if self._kept is not None:
            self._kept += sequences
        elif self._source is not None and sequences:
            await self._source.ack(sequences)
