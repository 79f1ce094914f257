"""The deliveries that the owner of a capture has received, and whether it holds all: repeats, gaps, the count. Pure.

These are rules 7, 8, 10 and 12 of docs/archive.md. Deliveries are handled by slices: all that came with one read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from collector.archive.record import Record
    from collector.jetstream.parser import AnyFrame

_SHORT, _WITH_DOMAIN = 9, 12
"""The fields of a reply subject, see `collector.flow.receipts`."""


class Slice(NamedTuple):
    """Deliveries that came together, in order, one list for each fact."""

    sequences: list[int]
    numbers: list[int]
    """The durable's own count of its deliveries: the consumer sequence."""
    times_ns: list[int]
    """When the stream stored each message."""
    deliveries: list[int]
    """How often each message was delivered, as the durable counts it."""
    frames: list[AnyFrame]

    def picked(self, places: Iterable[int]) -> Slice:
        """Return the deliveries at these places alone."""
        chosen = list(places)
        return Slice(
            [self.sequences[place] for place in chosen],
            [self.numbers[place] for place in chosen],
            [self.times_ns[place] for place in chosen],
            [self.deliveries[place] for place in chosen],
            [self.frames[place] for place in chosen],
        )


NOTHING = Slice([], [], [], [], [])


def read_slice(frames: Sequence[AnyFrame], stream: str, durable: str) -> Slice:
    """Read the facts of deliveries of one durable; frames that are no delivery of it are left out."""
    if not frames:
        return NOTHING
    named = [b"$JS", b"ACK", stream.encode(), durable.encode()]
    fields = b".".join([frame[1] for frame in frames]).split(b".")
    width = frames[0][1].count(b".") + 1
    if width in {_SHORT, _WITH_DOMAIN} and len(fields) == width * len(frames):
        start = 4 if width == _SHORT else 6
        heads = zip((0, 1, start - 2, start - 1), named, strict=True)
        if all(fields[place::width].count(head) == len(frames) for place, head in heads):
            try:
                return _read_columns([fields[start + offset :: width] for offset in range(4)], frames)
            except ValueError:
                pass  # somebody else published to the inbox
    if len(frames) == 1:
        return NOTHING
    slices = [read_slice([frame], stream, durable) for frame in frames]
    return Slice(
        [fact for one in slices for fact in one.sequences],
        [fact for one in slices for fact in one.numbers],
        [fact for one in slices for fact in one.times_ns],
        [fact for one in slices for fact in one.deliveries],
        [fact for one in slices for fact in one.frames],
    )


def pending_of(reply: bytes) -> int:
    """Return how many messages the durable had not delivered yet when it made a delivery."""
    fields = reply.split(b".")
    return int(fields[8 if len(fields) == _SHORT else 10])


def _read_columns(columns: list[list[bytes]], frames: Sequence[AnyFrame]) -> Slice:
    deliveries, sequences, numbers, times = columns
    first = deliveries.count(b"1") == len(deliveries)
    return Slice(
        list(map(int, sequences)),
        list(map(int, numbers)),
        list(map(int, times)),
        [1] * len(deliveries) if first else list(map(int, deliveries)),
        list(frames),
    )


class Doubt(StrEnum):
    """Why the owner cannot be sure to hold all that was delivered: it begins again at the end of the log."""

    GAP = "gap"
    """A consumer sequence is not its predecessor's plus one."""
    COUNT = "count"
    """The durable counts other deliveries than the owner."""
    RECONNECT = "reconnect"
    SILENCE = "silence"
    """Neither a message nor a heartbeat came in time."""
    REFUSED = "refused"
    """The server has ended or refused a pull request (409)."""
    STREAM = "stream"
    """The stream was removed or made anew, or went back, while the owner began."""
    RECORD = "record"
    """Another replica has created the record first."""


class Taken(NamedTuple):
    """The deliveries of a slice that count."""

    new: Slice
    archived: list[int]
    """Sequences at or below the cursor. Their messages are archived, so they are acked."""


@dataclass(frozen=True, slots=True)
class DurableFacts:
    """The part of CONSUMER.INFO that the count needs."""

    num_ack_pending: int
    number: int
    """`delivered.consumer_seq`."""
    sequence: int
    """`delivered.stream_seq`."""


class Reading:
    """The deliveries of one durable since its reset, or of a consumer without acks since it was made."""

    def __init__(self, cursor: int, *, beside: bool = False) -> None:
        """Begin behind the cursor; `beside` another sink, which may lack archived messages, below it too."""
        self.cursor = cursor
        """All up to this sequence is archived."""
        self.highest = 0 if beside else cursor
        """The highest sequence that was received, or the cursor."""
        self.number = 0
        """The consumer sequence of the last delivery."""
        self.held = 0
        """Messages that were received and are not settled."""
        self.doubt: Doubt | None = None

    def take(self, came: Slice) -> Taken:
        """Take deliveries in hand. After a doubt nothing counts, and nothing is taken any more."""
        if not self._links(came) and self.doubt is None:
            self.doubt = Doubt.GAP
        if self.doubt is not None or not came.sequences:
            return Taken(NOTHING, [])
        self.number = came.numbers[-1]
        new, archived = self._parted(came)
        if new.sequences:
            self.highest = max(self.highest, new.sequences[-1])
            self.held += len(new.sequences)
        return Taken(new, archived)

    def _links(self, came: Slice) -> bool:
        """Tell whether each consumer sequence follows its predecessor: on repeats too, for a lost one may be new."""
        return came.numbers == list(range(self.number + 1, self.number + 1 + len(came.numbers)))

    def _parted(self, came: Slice) -> tuple[Slice, list[int]]:
        """Part the messages above the highest one from repeats of archived messages; other repeats are held anyway."""
        sequences = came.sequences
        if sequences[0] > self.highest and all(map(lt, sequences, islice(sequences, 1, None))):
            return came, []
        highest, places, archived = self.highest, list[int](), list[int]()
        for place, sequence in enumerate(sequences):
            if sequence > highest:
                highest = sequence
                places.append(place)
            elif sequence <= self.cursor:
                archived.append(sequence)
        return came.picked(places), archived

    def settled(self, to: int, messages: int) -> None:
        """Move the cursor to the end of a cut whose blocks are all there, and forget its messages."""
        self.cursor = to
        self.highest = max(self.highest, to)
        self.held -= messages

    def agrees(self, facts: DurableFacts) -> bool:
        """Tell whether nobody else was given anything since the reset, and all that is not acked is in hand."""
        return facts.num_ack_pending == self.held and facts.number == self.number and facts.sequence >= self.highest


class Verdict(Enum):
    """The outcome of a comparison with the durable's count."""

    RIGHT = auto()
    AGAIN = auto()
    """Acks are still worked off, or deliveries are on their way: take what comes, and ask again after a pause."""
    DOUBT = auto()


class Count:
    """The count before one record: it is asked for again while the durable still works acks off."""

    def __init__(self, reading: Reading, tries: int = 4) -> None:
        """Ask `tries` times without any progress at most."""
        self._reading = reading
        self._tries = self._left = tries
        self._least: int | None = None

    def judge(self, facts: DurableFacts) -> Verdict:
        """Compare what the durable says now with what is in hand now."""
        if self._reading.agrees(facts):
            return Verdict.RIGHT
        if self._least is not None and facts.num_ack_pending < self._least:
            self._left = self._tries
        self._least = facts.num_ack_pending if self._least is None else min(self._least, facts.num_ack_pending)
        self._left -= 1
        if self._left > 0 and facts.number >= self._reading.number:
            return Verdict.AGAIN
        self._reading.doubt = Doubt.COUNT
        return Verdict.DOUBT


def cursor_after(last: Record | None) -> int:
    """Return where a new owner begins to read: behind the last record, or at the first message without one."""
    return last.to if last is not None else 0


def went_back(last: Record, last_sequence: int, time_at_cursor_ns: int | None) -> str:
    """Return how the stream contradicts the log, or nothing; the time is None when that message is not there."""
    if last_sequence < last.to:
        return f"its last sequence is {last_sequence}, and the log has archived up to {last.to}"
    if time_at_cursor_ns is not None and time_at_cursor_ns != last.to_time_ns:
        return f"message {last.to} was stored at {time_at_cursor_ns} ns, and the log has it from {last.to_time_ns} ns"
    return ""


def expired(cursor: int, first_sequence: int) -> int:
    """Return how many sequences behind the cursor had left the stream before anybody read them."""
    return max(0, first_sequence - cursor - 1)
