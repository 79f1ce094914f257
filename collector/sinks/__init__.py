"""The protocols of a destination, of its sink, and of the outcomes that a sink reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from collector.runtime.latch import Latch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from anyio import Event, Semaphore

    from collector.flow.settler import Settler
    from collector.jetstream.source import Attached
    from collector.model import Decoded, Delivery, Entry, Refusal, Rejected
    from transfer.wire import LoggerSpec


@dataclass(slots=True)
class Written:
    """The known outcomes of the entries of a batch."""

    stored: int = 0
    duplicates: int = 0
    """Entries that an earlier delivery had stored. An entry that was stored by a command with an unknown result counts
    as stored, once."""
    refused: list[Refusal] = field(default_factory=list)
    deferred: list[Entry] = field(default_factory=list)
    """Entries that the sink stores and answers for later, see `LaterAnswers`. Of a delivery, the sink defers either all
    entries that it takes or none."""


class Writing(Protocol):
    """The writing of one batch, over as many attempts as it takes."""

    written: Written
    """The outcomes so far; when an attempt has returned, they are complete."""

    async def attempt(self) -> None:
        """Write the entries without an outcome, durably, in no order. A further attempt stores no entry twice.

        Raises SinkUnavailable when entries are left: then attempt again, later. A cancellation never cuts the attempt;
        each of its commands ends within the sink's write timeout.
        """


class Sink(Protocol):
    """A place that the writer writes to."""

    def begin(self, entries: Sequence[Entry]) -> Writing:
        """Return the writing of these entries; no entry is sent before its first attempt."""


class LaterAnswers(Protocol):
    """Answers JetStream for entries that a sink has deferred.

    The sink keeps only the receipts of deliveries, and limits how many it defers. Where its target has an admission,
    the sink calls `settled` of it for deferred deliveries.
    """

    async def run(self, settler: Settler, ending: Event) -> None:
        """Settle deferred deliveries when they are stored; when `ending` is set, store and settle the rest, and return.

        It runs beside the writer, which defers no delivery after `ending`. When it takes too long it is cancelled, and
        the unsettled deliveries are given back.
        """


class DeadLetterSink(Protocol):
    """A store of dead letters."""

    async def store(self, rejects: Sequence[Rejected]) -> None:
        """Store rejects as dead letters, durably, each once. Raises SinkUnavailable."""


class Admission(Protocol):
    """Decides which deliveries may be written now, and which have to wait for another one."""

    def admitted(self, decoded: Decoded) -> list[Decoded]:
        """Judge deliveries, once and in the order of their receipt; return those that may be written now."""

    def released(self) -> list[Decoded]:
        """Return the deliveries that need not wait any longer."""

    def settled(self, deliveries: Collection[Delivery], entries: Iterable[Entry]) -> None:
        """Forget deliveries whose outcomes are known; `entries` are all entries of these deliveries."""

    @property
    def holds(self) -> bool:
        """Whether deliveries wait, so that `released` has to be asked after a settlement."""


class PassAll:
    """The admission of a sink that may write every delivery at any time."""

    def admitted(self, decoded: Decoded) -> list[Decoded]:
        """Return the deliveries at once."""
        return [decoded]

    def released(self) -> list[Decoded]:
        """Return an empty list: no delivery waits."""
        return []

    def settled(self, deliveries: Collection[Delivery], entries: Iterable[Entry]) -> None:
        """Do nothing: no delivery is remembered."""

    @property
    def holds(self) -> bool:
        """Return False: no delivery waits."""
        return False


PASS_ALL = PassAll()

Slots: TypeAlias = "AbstractAsyncContextManager[object, bool | None]"
"""Each entering of it takes a slot, and waits for a free one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An open destination of one logger, with the events that end it."""

    sink: Sink
    dead_letters: DeadLetterSink
    write_slots: Slots
    """Limits the writes that run at the same time, over all loggers that share the sink's connections. Of a file,
    which takes one batch at a time, only one batch holds such a slot."""
    letter_slots: Semaphore
    """Limits the stores of dead letters at the same time, over all loggers that share the place of the dead letters.
    While that place is down, a sink elsewhere has all its write slots."""
    admission: Admission = PASS_ALL
    later: LaterAnswers | None = None
    """Answers for the entries that the sink defers."""
    leaving: Event = field(default_factory=Latch)
    """Set when the pipeline has to drain, close the destination and open it again."""
    lost: Event = field(default_factory=Latch)
    """Set when the pipeline has to drop its deliveries without an answer, because another replica owns the logger."""
    stood_by: bool = False
    """Whether the opening stood by for another replica: then the stream may be another one now."""
    keeps_alive: bool = True
    """Whether in progress is sent for all deliveries in hand, three times in each ack wait."""
    risks: str = ""
    """The risks for entries as a sentence; operators read it beside the state of the logger."""


class Destination(Protocol):
    """The place where one logger's entries are stored, by its spec."""

    def opened(self, attached: Attached, stopping: Event) -> AbstractAsyncContextManager[Target | None]:
        """Prepare the place for the entries of a stream, and give it up at the end of the block.

        The preparation is tried again for as long as it takes; the block gets None when it was asked to stop before.
        OwnershipLost and CollectionChanged end the block and are not raised further: then the pipeline begins again.
        """


class Destinations(Protocol):
    """Returns the destinations of loggers."""

    def of(self, spec: LoggerSpec) -> Destination:
        """Return the destination of one logger, not opened yet."""
