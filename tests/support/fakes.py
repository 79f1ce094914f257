"""What stands in for the outside in the tests of actors: scripted, behind the collector's own protocols."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from anyio import Event, wait_all_tasks_blocked
from bson import ObjectId

from collector.decoding.identity import Incarnation
from collector.flow.batching import BatchPolicy, OpenBatch
from collector.jetstream.parser import Frame
from collector.jetstream.source import Attached
from collector.model import Batch, Decoded, Delivery, Entry, Reason, Refusal, Rejected, Trigger
from collector.mongodb.listed import Collection
from collector.sinks import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collector import events
    from collector.jetstream.parser import AnyFrame, Receive

KEY = "system"
STREAM = "beta:logs:system"
ATTACHED = Attached(Incarnation(STREAM, "2024-05-06T07:08:09Z"), STREAM, STREAM, 30.0)
ANOTHER_LIFE = Attached(Incarnation(STREAM, "2025-01-01T00:00:00Z"), STREAM, STREAM, 30.0)
_E = TypeVar("_E")


def delivery(sequence: int, body: bytes = b"\x81\xa4data\x80", delivered: int = 1) -> Delivery:
    """Make a hand-over of a lone entry, by default one without any field."""
    reply = f"$JS.ACK.{STREAM}.{STREAM}.{delivered}.{sequence}.{sequence}.1714979289123456789.0"
    return Delivery("beta.logs.system", reply, body, b"", STREAM, sequence, delivered, 1_714_979_289_123_456_789)


def entry(of: Delivery, position: int | None = None, **fields: Any) -> Entry:
    """Make an entry as the codec does."""
    return Entry(of, position, {"_id": ATTACHED.incarnation.identity(of.sequence, position), **fields}, own_id=False)


def decoded(sequence: int, entries: int = 1, body: bytes = b"x") -> Decoded:
    """Make a delivery with that many entries; a bundle unless there is one."""
    of = delivery(sequence, body)
    positions: list[int | None] = [None] if entries == 1 else list(range(entries))
    return Decoded([of], [entry(of, position) for position in positions], [], of.size)


def together(*several: Decoded) -> Decoded:
    """Make what the codec makes of deliveries of one entry each that it opens together."""
    return Decoded(
        [one.deliveries[0] for one in several],
        [one.entries[0] for one in several],
        [],
        sum(one.size for one in several),
        sum(one.weight for one in several),
    )


def reject(of: Delivery, position: int | None = None, reason: Reason = Reason.MALFORMED) -> Rejected:
    """Make an entry that could not be opened."""
    return Rejected(of, position, ObjectId(), reason, "expected another one", of.body)


def open_batch(*several: Decoded, number: int = 1, limit: int | None = None) -> OpenBatch:
    """Make a draft, full unless there is a limit."""
    made = OpenBatch(number, BatchPolicy(limit or sum(len(one.entries) for one in several), 1 << 20))
    for one in several:
        made.add(one)
    return made


def unopened(of: Delivery) -> Decoded:
    """Make what the codec makes of a message that cannot be opened."""
    return Decoded([of], [], [reject(of)], of.size)


def batch(*several: Decoded, rejects: Sequence[Rejected] = (), number: int = 1) -> Batch:
    """Make a batch of whole deliveries."""
    return Batch(
        number,
        [delivery for one in several for delivery in one.deliveries],
        [entry for one in several for entry in one.entries],
        [*(reject for one in several for reject in one.rejects), *rejects],
        sum(delivery.size for one in several for delivery in one.deliveries),
        Trigger.ENTRIES,
    )


@dataclass
class Reports:
    """What was reported, to be looked at and waited for."""

    all: list[events.Event] = field(default_factory=list)
    _changed: Event = field(default_factory=Event)

    def __call__(self, event: events.Event) -> None:
        """Take a report."""
        self.all.append(event)
        self._changed.set()
        self._changed = Event()

    def of(self, kind: type[_E]) -> list[_E]:
        """Return the reports of one kind, in order."""
        return [event for event in self.all if isinstance(event, kind)]

    async def until(self, enough: Callable[[], object]) -> None:
        """Wait for reports until that is so."""
        while not enough():
            await self._changed.wait()


class FakeLink:
    """A connection to a JetStream that is played by the test."""

    def __init__(self) -> None:
        self.connected = True
        self.life = 0
        self.requests: list[tuple[str, dict[str, int]]] = []
        """The inbox subject and the body of each pull request."""
        self.answers: list[tuple[str, bytes]] = []
        self.drained = Event()
        self.let_drain = Event()
        self.let_drain.set()
        self.late: list[Frame] = []
        """What comes while the subscription drains."""
        self.receive: Receive = _nobody
        self.asked = Event()

    async def subscribe(self, subject: str, receive: Receive) -> FakeLink:
        """Listen."""
        self.inbox = subject.removesuffix(".*")
        self.receive = receive
        return self

    async def publish(self, subject: str, payload: bytes, reply: str) -> None:
        """Take a pull request."""
        assert subject == f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{STREAM}"
        self.requests.append((reply, msgspec.json.decode(payload)))
        self.asked.set()
        self.asked = Event()

    async def answer(self, answers: Sequence[tuple[str, bytes]]) -> int:
        """Take answers."""
        return self.answer_at_once(answers) or 0

    def answer_at_once(self, answers: Sequence[tuple[str, bytes]]) -> int | None:
        """Take answers; nothing has to be waited for."""
        if not self.connected:
            return len(answers)
        self.answers += answers
        return 0

    def wake(self) -> None:
        """Wake nobody: here nobody waits."""

    async def drain(self) -> None:
        """End the subscription, after what was still under way."""
        await self.let_drain.wait()
        if self.late:
            self.receive(self.late)
        self.receive = _nobody
        self.drained.set()

    # what the server does

    def connect_again(self) -> None:
        """Be a new connection, of which nobody has been told yet."""
        self.connected = True
        self.life += 1

    def deliver(self, *several: Delivery) -> None:
        """Send messages in one read."""
        self.receive([frame(one) for one in several])

    def say(self, status: str, number: int = -1, headers: str = "") -> None:
        """Say something about a request, by default about the last one."""
        request = self.requests[number][0]
        self.receive([Frame(request.encode(), b"", f"NATS/1.0 {status}\r\n{headers}\r\n".encode(), b"")])


def _nobody(frames: Sequence[AnyFrame]) -> None:
    """Pass over what comes without a subscription, as nats-py does."""


def frame(of: Delivery) -> Frame:
    """Return a delivery as it stands on the wire."""
    return Frame(of.subject.encode(), of.reply.encode(), of.raw_headers, of.body)


class FakeSource:
    """Streams and durables that are played by the test: attaches give what is in `next`, the last one for ever."""

    def __init__(self, *answers: Attached | Exception) -> None:
        self.answers: list[Attached | Exception] = list(answers) or [ATTACHED]
        self.looks = 0
        self.let_look = Event()
        self.let_look.set()

    def of(self, key: str) -> FakeSource:
        """See `Sources`."""
        assert key == KEY
        return self

    async def attach(self) -> Attached:
        """Attach."""
        self.looks += 1
        await self.let_look.wait()
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return found


class FakeCatalog:
    """Collections that are all of one kind."""

    def __init__(self, *, timeseries: bool) -> None:
        self._timeseries = timeseries

    async def read(self, *collections: str) -> list[Collection | None]:
        """Look."""
        series = Collection(kind="timeseries", time_field="timestamp", meta_field="metadata")
        entries = series if self._timeseries else Collection()
        return [entries, *(None for _ in collections[1:])]


class FakeSink:
    """A sink that is played by the test: each attempt does what is next in `script`, in the end all is stored."""

    def __init__(self, *script: Callable[[FakeWriting], None]) -> None:
        self.script = list(script)
        self.writes: list[list[Entry]] = []
        """What was left to write at each attempt."""
        self.let_write = Event()
        self.let_write.set()
        self.writing = Event()
        self.at_once = 0
        self.most_at_once = 0

    def begin(self, entries: Sequence[Entry]) -> FakeWriting:
        """Begin."""
        return FakeWriting(self, entries)


class FakeWriting:
    """A writing of a sink that is played by the test."""

    def __init__(self, sink: FakeSink, entries: Sequence[Entry]) -> None:
        self.written = Written()
        self.left = list(entries)
        self._sink = sink

    async def attempt(self) -> None:
        """Write what is left."""
        sink = self._sink
        sink.writes.append(list(self.left))
        sink.at_once += 1
        sink.most_at_once = max(sink.at_once, sink.most_at_once)
        sink.writing.set()
        try:
            await sink.let_write.wait()
        finally:
            sink.at_once -= 1
        play = sink.script.pop(0) if sink.script else all_stored
        play(self)


def all_stored(writing: FakeWriting) -> None:
    """Everything is new and stored."""
    writing.written.stored += len(writing.left)
    writing.left = []


def all_known(writing: FakeWriting) -> None:
    """Everything was stored before."""
    writing.written.duplicates += len(writing.left)
    writing.left = []


def fails(exc: Exception) -> Callable[[FakeWriting], None]:
    """Let the attempt raise."""

    def play(_: FakeWriting) -> None:
        raise exc

    return play


def refuses(*sequences: int) -> Callable[[FakeWriting], None]:
    """Entries of these messages can never be stored, the others are."""

    def play(writing: FakeWriting) -> None:
        bad = [one for one in writing.left if one.delivery.sequence in sequences]
        writing.written.refused += [Refusal(one, Reason.DOCUMENT_INVALID, "expected a better one") for one in bad]
        writing.left = [one for one in writing.left if one not in bad]
        all_stored(writing)

    return play


class FakeLetters:
    """Dead letters in a list; `script` makes the first stores fail."""

    def __init__(self, *script: Exception) -> None:
        self.script = list(script)
        self.stored: list[Rejected] = []

    async def store(self, rejects: Sequence[Rejected]) -> None:
        """Store."""
        if self.script:
            raise self.script.pop(0)
        self.stored += rejects


async def settled() -> None:
    """Wait until nothing moves; the end of a task is told in callbacks, which are no tasks."""
    for _ in range(10):
        await wait_all_tasks_blocked()
