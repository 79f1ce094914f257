"""Where entries go: the protocols of a destination, of its sink, and of what a sink says about each entry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from anyio import Event, Semaphore

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from collector.flow.settler import Settler
    from collector.jetstream.source import Attached
    from collector.model import Decoded, Delivery, Entry, Refusal, Rejected
    from transfer.wire import LoggerSpec


@dataclass(slots=True)
class Written:
    """What became of entries."""

    stored: int = 0
    duplicates: int = 0
    """Were stored already, by an earlier delivery of the same entry. What a command had stored whose result was unknown
    counts as stored, and once."""
    refused: list[Refusal] = field(default_factory=list)
    deferred: list[Entry] = field(default_factory=list)
    """Are stored later, by a sink that answers for them then: see `LaterAnswers`. All entries of a delivery that the
    sink takes are deferred, or none."""


class Writing(Protocol):
    """The writing of one batch, over as many attempts as it takes."""

    written: Written
    """What is known so far; of every entry when an attempt has returned."""

    async def attempt(self) -> None:
        """Write what is not known to be written, durably, in no order. Trying again stores nothing twice.

        Raises SinkUnavailable when something is left: then attempt again, later. It is never cut by a cancellation: it
        ends within the sink's write timeout, for each command that it takes.
        """


class Sink(Protocol):
    """What the writer needs of a place to write to."""

    def begin(self, entries: Sequence[Entry]) -> Writing:
        """Return the writing of these entries; nothing is sent before its first attempt."""


class LaterAnswers(Protocol):
    """Answers JetStream for entries that a sink has deferred.

    Such a sink keeps the receipts and nothing else of deliveries, and bounds how many it defers. Where an admission is
    in front of it, the sink lets go of what it has deferred.
    """

    async def run(self, settler: Settler, ending: Event) -> None:
        """Settle what was deferred when it is stored, until `ending` is set; then store and settle all that is left.

        It runs beside the writer. After `ending` nothing more is deferred. It is cancelled when that takes too long:
        what is not settled then is given back.
        """


class DeadLetterSink(Protocol):
    """Where dead letters go."""

    async def store(self, rejects: Sequence[Rejected]) -> None:
        """Store them durably, each once. Raises SinkUnavailable."""


class Admission(Protocol):
    """Decides which deliveries may be written now, and which have to wait for another one."""

    def admitted(self, decoded: Decoded) -> list[Decoded]:
        """Judge deliveries, once and as they were received; return those that may be written now."""

    def released(self) -> list[Decoded]:
        """Return the deliveries that had to wait, and need not any more."""

    def settled(self, deliveries: Collection[Delivery], entries: Iterable[Entry]) -> None:
        """Let go of deliveries whose result is known; `entries` are all of theirs."""


class PassAll:
    """The admission of a sink that may write every delivery at any time."""

    def admitted(self, decoded: Decoded) -> list[Decoded]:
        """Let it pass."""
        return [decoded]

    def released(self) -> list[Decoded]:
        """Return nothing: no delivery waits."""
        return []

    def settled(self, deliveries: Collection[Delivery], entries: Iterable[Entry]) -> None:
        """Keep nothing."""


PASS_ALL = PassAll()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An open destination: where the entries of one logger go, and until when."""

    sink: Sink
    letters: DeadLetterSink
    write_slots: Semaphore
    """Writes that are under way at a time, of all loggers that share what the sink writes through."""
    admission: Admission = PASS_ALL
    later: LaterAnswers | None = None
    """Answers for the entries that the sink defers."""
    leaving: Event = field(default_factory=Event)
    """Set when the pipeline has to write what it holds, close the destination and open it again."""
    lost: Event = field(default_factory=Event)
    """Set when the pipeline has to drop what it holds without an answer: another replica has it."""
    stood_by: bool = False
    """Whether the opening waited for other replicas, for any time: then the stream may be another one."""
    keeps_alive: bool = True
    """Whether JetStream is told, three times in each ack wait, that all messages in hand are being worked on."""
    risks: str = ""
    """What may happen to entries here; an operator reads it beside the state of the logger."""


class Destination(Protocol):
    """Where the entries of a logger go, by its spec."""

    def opened(self, attached: Attached, stopping: Event) -> AbstractAsyncContextManager[Target | None]:
        """Prepare the place for a stream, and give it up at the end of the block.

        It waits and tries again for as long as it takes. It gives None when it was asked to stop before it was ready.
        Raises nothing of its own. It swallows OwnershipLost and CollectionChanged out of the block: then the pipeline
        begins again.
        """


class Destinations(Protocol):
    """Tells where loggers go."""

    def of(self, spec: LoggerSpec) -> Destination:
        """Return the destination of one logger. Nothing is opened."""
