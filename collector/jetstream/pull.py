"""The pull subscription of one durable: what is asked for, what came, what JetStream says about it.

In: frames of one inbox. Out: deliveries in the order they came, and `Signal`s for what they do not say.
The requests are the documented ones (https://docs.nats.io/reference/reference-protocols/nats_api_reference,
`$JS.API.CONSUMER.MSG.NEXT`): `batch`, `max_bytes`, `expires`, `idle_heartbeat`. Every request has `max_bytes`, because
nats-server then says when a request is done ("Batch Completed") and how much of it was not used, so that what is
outstanding is known exactly while requests overlap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from anyio import Event, move_on_after

from collector.decoding.headers import field as header
from collector.decoding.headers import headers
from collector.flow.settlement import ACK, NAK
from collector.jetstream.certainty import Certainty
from collector.model import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collector.flow.in_hand import InHand
    from collector.flow.settlement import Answer
    from collector.jetstream.link import AnyFrame, Link, Subscribed

REQUEST_LIFETIME = 60.0
"""Seconds a request lives at the server."""
HEARTBEAT = 2.0
"""Seconds of silence after which the server says that a request is still alive."""
_CUT_TIMES = 3
"""Times that a message is asked for again because it came without its body."""
_MOST_CUT = 10_000
_LULL, _FLOWING = 0.02, 0.5
"""Seconds without a message after which nothing is under way, and seconds that this is waited for."""
_NANOSECONDS = 1_000_000_000
_ALONE = 2.5
"""Heartbeats that a request for a lone message lives: what it keeps from the others comes back soon when none comes."""
LARGEST = 64 * 1024 * 1024 + 64 * 1024
"""Bytes of the largest message that is asked for, its subject and headers included: nats-server's own limit of what may
wait for one client (`max_pending`)."""


class PullStatus(Enum):
    """What a message without a body means, by the server's own words (server/consumer.go)."""

    HEARTBEAT = auto()
    REQUEST_DONE = auto()
    REQUEST_EXPIRED = auto()
    NO_MESSAGES = auto()
    MESSAGE_TOO_LARGE = auto()
    DURABLE_DELETED = auto()
    DURABLE_IS_PUSH = auto()
    LEADER_CHANGED = auto()
    SERVER_STOPS = auto()
    LIMIT_EXCEEDED = auto()
    NOBODY_ANSWERS = auto()
    UNKNOWN = auto()


class Signal(Enum):
    """What the consumer has to act on."""

    RECHECK = auto()
    """Stream or durable may be gone or changed: look, re-create or wait."""
    SILENT = auto()
    """Neither a message nor a heartbeat for two heartbeats: the requests may be lost (nats.py#504)."""
    REFUSED = auto()
    """The server does not take our requests, or ends them again and again with nothing done: ask again later."""
    CUT = auto()
    """A message came without its body: the durable may deliver headers only."""


_BY_CODE = {
    "100": PullStatus.HEARTBEAT,
    "404": PullStatus.NO_MESSAGES,
    "408": PullStatus.REQUEST_EXPIRED,
    "503": PullStatus.NOBODY_ANSWERS,
}
_CONFLICTS = (
    ("batch completed", PullStatus.REQUEST_DONE),
    ("message size exceeds maxbytes", PullStatus.MESSAGE_TOO_LARGE),
    ("consumer deleted", PullStatus.DURABLE_DELETED),
    ("consumer is push based", PullStatus.DURABLE_IS_PUSH),
    ("leadership change", PullStatus.LEADER_CHANGED),
    ("server shutdown", PullStatus.SERVER_STOPS),
    ("exceeded max", PullStatus.LIMIT_EXCEEDED),
)
_SIGNALS = {
    PullStatus.DURABLE_DELETED: Signal.RECHECK,
    PullStatus.DURABLE_IS_PUSH: Signal.RECHECK,
    PullStatus.NOBODY_ANSWERS: Signal.RECHECK,
    PullStatus.LIMIT_EXCEEDED: Signal.REFUSED,
    PullStatus.UNKNOWN: Signal.REFUSED,
}


def read_status(raw_headers: bytes) -> tuple[PullStatus, str]:
    """Name the status of a header block `NATS/1.0 CODE text`; return it with the server's own line."""
    line = raw_headers.split(b"\r\n", 1)[0].decode("latin-1")
    _, _, words = line.partition(" ")
    code, _, text = words.partition(" ")
    if code == "409":
        said = text.lower()
        return next((status for start, status in _CONFLICTS if said.startswith(start)), PullStatus.UNKNOWN), words
    return _BY_CODE.get(code, PullStatus.UNKNOWN), words


def unused(raw_headers: bytes) -> tuple[int, int]:
    """Messages and bytes of an ended request that were never sent; zeros where the server does not say."""
    values = {b"nats-pending-messages": 0, b"nats-pending-bytes": 0}
    for line in raw_headers.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() in values and value.strip().isdigit():
            values[name.lower()] = int(value)
    return values[b"nats-pending-messages"], values[b"nats-pending-bytes"]


class Bare(Enum):
    """What a message without a body is, by its headers."""

    ENTRY = auto()
    """One that was published so."""
    CUT = auto()
    """One whose body the server has left out."""
    MARKER = auto()
    """The server's own note that the last message of a subject is gone; nobody has published it."""


def read_bare(raw_headers: bytes) -> Bare:
    """Tell what a message without a body is."""
    fields = headers(raw_headers)
    if header(fields, "Nats-Marker-Reason"):
        return Bare.MARKER
    size = header(fields, "Nats-Msg-Size")
    return Bare.CUT if size.isdecimal() and size.strip("0") else Bare.ENTRY


def read_delivery(frame: AnyFrame, head: str = "", stream: str = "") -> Delivery:
    """Read the reply subject `$JS.ACK.[domain.account.]stream.durable.delivered.sequence.sequence.time.pending[.x]`.

    One that begins with `head` is of `stream`. Raises ValueError when it is another kind of subject: then the message
    was not delivered by JetStream.
    """
    subject, encoded, raw_headers, body = frame
    reply = encoded.decode()
    before, *fields = reply.rsplit(".", 5)
    if before != head or not head:
        stream, fields = _read_reply(reply)
    return Delivery(subject.decode(), reply, body, raw_headers, stream, int(fields[1]), int(fields[0]), int(fields[3]))


def still_pending(delivery: Delivery) -> int:
    """Return how many messages had not been delivered to anybody when this one was."""
    return int(_read_reply(delivery.reply)[1][4])


def _read_reply(reply: str) -> tuple[str, list[str]]:
    """Return the stream, and the fields behind the durable. Raises ValueError."""
    fields = reply.split(".")
    if len(fields) >= 11:  # with domain and account hash: ADR-15
        del fields[2:4]
    if len(fields) < 9 or fields[0] != "$JS" or fields[1] != "ACK":
        message = f"expected a reply subject $JS.ACK.<stream>.<durable>.<five numbers>, got {reply!r}"
        raise ValueError(message)
    return fields[2], fields[4:]


class Asked(NamedTuple):
    """A request as it was made."""

    messages: int
    bytes: int
    number: int = 0
    early: float = -math.inf
    """Until when, by the clock, its end is one that the server made before its time."""


@dataclass(slots=True)
class Outstanding:
    """What was asked for and has not come: exact while every request ends with a word of the server."""

    messages: int = 0
    bytes: int = 0
    requests: dict[str, Asked] = field(default_factory=dict)

    def asked(self, request: str, messages: int, max_bytes: int, number: int = 0, early: float = -math.inf) -> None:
        """Count a request."""
        self.requests[request] = Asked(messages, max_bytes, number, early)
        self.messages += messages
        self.bytes += max_bytes

    def came(self, messages: int, size: int) -> None:
        """Count messages; what nobody asked for any more (see `forget`) counts for nothing."""
        self.messages = max(0, self.messages - messages)
        self.bytes = max(0, self.bytes - size)

    def ended(self, request: str, messages: int, max_bytes: int) -> None:
        """Count what an ended request leaves; a request that was forgotten counts for nothing."""
        if self.requests.pop(request, None) is None:
            return
        self.messages = max(0, self.messages - messages)
        self.bytes = max(0, self.bytes - max_bytes)
        if not self.requests:
            self.messages = self.bytes = 0

    def ended_at_once(self, request: str) -> None:
        """Count a request that the server refused, or that ended without a word about the rest."""
        if asked := self.requests.get(request):
            self.ended(request, asked.messages, asked.bytes)

    def forget(self) -> None:
        """Nothing of what was asked for is waited for any more."""
        self.requests.clear()
        self.messages = self.bytes = 0


class Pull:
    """The pull subscription of one durable, from `open` to `drain`. Not more comes than was asked for."""

    def __init__(
        self,
        link: Link,
        *,
        inbox: str,
        stream: str,
        durable: str,
        in_hand: InHand,
        clock: Callable[[], float],
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self.outstanding = Outstanding()
        self.too_small = 0
        """Bytes of the last request, if the next message is larger: ask for it alone, with more. 0 when it is not."""
        self.fruitless = 0
        """How often in a row the server has ended what was asked for before its time, and nothing came."""
        self.last_words = ""
        """What the server said when it last ended a request otherwise than by doing it."""
        self._link = link
        self._inbox = inbox
        self._stream = stream
        self._head = f"$JS.ACK.{stream}.{durable}"
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._in_hand = in_hand
        self._clock = clock
        self._certainty = Certainty(lambda: link.life, clock)
        self._life = link.life
        """Of the connection on which the outstanding requests were made."""
        self._heartbeat = heartbeat
        self._subscribed: Subscribed | None = None
        self._number = 0
        self._counted = 0
        """Requests up to this number had their part in `fruitless`: one event may end several."""
        self._last_size = 0
        """Bytes of the last message that was asked for alone."""
        self._deliveries: list[Delivery] = []
        self._taken_in_hand = 0
        self._aside: list[Answer] = []
        self._cut: dict[int, int] = {}
        """How often a message came without its body, by its sequence."""
        self._signals: set[Signal] = set()
        self._heard = clock()
        self.changed = Event()

    async def open(self) -> None:
        """Listen on the inbox, unless it does; nothing comes before `ask`. Raises `Unavailable` when refused."""
        if self._subscribed is None:
            self._subscribed = await self._link.subscribe(f"{self._inbox}.*", self.receive)

    async def open_anew(self) -> None:
        """Listen again, because the server may have ended the subscription: it does not say so to a new connection."""
        subscribed, self._subscribed = self._subscribed, None
        if subscribed is not None:
            await subscribed.drain()
        await self.open()

    async def ask(self, messages: int, max_bytes: int, expires: float = REQUEST_LIFETIME) -> None:
        """Ask for that many messages, and not more than that many bytes of them; requests add up.

        While a request is outstanding the server says when the durable is deleted. A time without one makes `unsure`.
        """
        self._forget_what_is_lost()
        self._number += 1
        request = f"{self._inbox}.{self._number}"
        now = self._clock()
        if not self.outstanding.requests:
            self._heard = now
            self._certainty.gap()
        self.outstanding.asked(request, messages, max_bytes, self._number, now + expires / 2)
        wanted = {
            "batch": messages,
            "max_bytes": max_bytes,
            "expires": int(expires * _NANOSECONDS),
            "idle_heartbeat": int(self._heartbeat * _NANOSECONDS),
        }
        await self._link.publish(self._next, msgspec.json.encode(wanted), request)

    @property
    def alone_bytes(self) -> int:
        """How much to ask for when the next message is too large: as much as the last such one took, or twice as much.

        How large it is nobody says beforehand, and `max_payload` may have been another when it was published.
        """
        like_the_last = self._last_size * 5 // 4
        return min(LARGEST, like_the_last if self.too_small < like_the_last else 2 * self.too_small)

    async def ask_for_one(self, max_bytes: int) -> None:
        """Ask for a lone message, because it is larger than what is free."""
        await self.ask(1, max_bytes, min(REQUEST_LIFETIME, _ALONE * self._heartbeat))

    def receive(self, frames: Sequence[AnyFrame]) -> None:
        """Take what the connection read; called from its reading loop. From here on deliveries are in hand."""
        self._heard = self._clock()
        before, size = self._received, 0
        for frame in frames:
            subject, reply, raw_headers, body = frame
            if reply.startswith(b"$JS.ACK."):
                try:
                    delivery = read_delivery(frame, self._head, self._stream)
                except ValueError:
                    continue  # anybody may publish to an inbox; an error here would end the reading of the connection
                if body or not raw_headers or not self._is_set_aside(delivery):
                    self._deliveries.append(delivery)
                size += len(subject) + len(reply) + len(raw_headers) + len(body)
            elif raw_headers and not body:
                self._count_came(before, size)
                before, size = self._received, 0
                self._handle_status(subject.decode("latin-1"), raw_headers)
        self._count_came(before, size)
        self._take_in_hand()

    def _count_came(self, before: int, size: int) -> None:
        if messages := self._received - before:
            if self.too_small:
                self.too_small, self._last_size = 0, size
            self.fruitless = 0
            self._counted = self._number
            self.outstanding.came(messages, size)
            self.changed.set()

    @property
    def _received(self) -> int:
        return len(self._deliveries) + len(self._aside)

    def _is_set_aside(self, delivery: Delivery) -> bool:
        """Keep what is no entry out of the way, to be answered by `answer_aside`.

        A publisher may have sent the header of a message that is cut. So one that comes cut again and again, although
        the durable was looked at in between, is taken as it is.
        """
        bare = read_bare(delivery.raw_headers)
        if bare is Bare.ENTRY:
            return False
        if bare is Bare.MARKER:
            self._aside.append((delivery.reply, ACK))
            return True
        times = self._cut.pop(delivery.sequence, 0) + 1
        if times > _CUT_TIMES:
            return False
        self._cut[delivery.sequence] = times
        if len(self._cut) > _MOST_CUT:
            del self._cut[next(iter(self._cut))]
        self._aside.append((delivery.reply, NAK))
        self._signals.add(Signal.CUT)
        self._certainty.doubt()
        return True

    # --- what is known of stream and durable

    @property
    def unsure(self) -> bool:
        """Whether stream and durable may have been made anew unnoticed since the last look, for what has come."""
        return not self._certainty.of_deliveries

    @property
    def may_answer(self) -> bool:
        """Whether an answer would reach the stream and the durable that its message came from."""
        watched = bool(self.outstanding.requests) and self._life == self._link.life
        return self._link.connected and self._certainty.of_answers(watched=watched)

    def begin_check(self) -> None:
        """Say that somebody begins to look at stream and durable; see `end_check`."""
        self._certainty.begin_check()

    def end_check(self) -> None:
        """Say that the stream is the same, and that the durable is there; what was heard meanwhile makes it unsure."""
        self._certainty.end_check()

    # --- answering

    async def answer(self, answers: Sequence[Answer]) -> int:
        """Send answers in order, when they may be sent; return how many of the last were not."""
        if not self.may_answer:
            return len(answers)
        return await self._link.answer(answers)

    @property
    def has_aside(self) -> bool:
        """Whether `answer_aside` has something to do."""
        return bool(self._aside)

    async def answer_aside(self) -> None:
        """Have what came cut delivered again, and what is no message be gone; call it after a look at the durable.

        To be delivered again harms nothing. What is to be gone waits until it may be answered.
        """
        may_answer, aside = self.may_answer, self._aside
        self._aside = [] if may_answer else [one for one in aside if one[1] == ACK]
        if answers := aside if may_answer else [one for one in aside if one[1] != ACK]:
            await self._link.answer(answers)

    def _take_in_hand(self) -> None:
        self._in_hand.take(self._deliveries[self._taken_in_hand :])
        self._taken_in_hand = len(self._deliveries)

    def _handle_status(self, request: str, raw_headers: bytes) -> None:
        self._certainty.watched()
        status, words = read_status(raw_headers)
        if status is PullStatus.HEARTBEAT:
            return  # nobody is woken: that it came is in the deadline
        self.changed.set()
        asked = self.outstanding.requests.get(request)
        if status in {PullStatus.REQUEST_DONE, PullStatus.REQUEST_EXPIRED, PullStatus.MESSAGE_TOO_LARGE}:
            rest = unused(raw_headers)
            self.outstanding.ended(request, *rest)
            if asked is not None:
                self._note_end(status, asked, rest, words)
            return
        self.last_words = words
        self.outstanding.ended_at_once(request)
        if status is PullStatus.DURABLE_DELETED:
            self._take_in_hand()
            self._in_hand.disown()
        if asked is not None:
            self._count_fruitless(status, asked, words)
        if signal := _SIGNALS.get(status):
            self._signals.add(signal)
            self._certainty.doubt()

    def _note_end(self, status: PullStatus, asked: Asked, rest: tuple[int, int], words: str) -> None:
        """Take note of how a request ended: by what it brought, at its time, or for no good."""
        if status is PullStatus.MESSAGE_TOO_LARGE:
            if rest != asked[:2]:
                return  # what there was room for has come
            grew, self.too_small = asked.bytes > self.too_small, asked.bytes
            if grew and asked.bytes < LARGEST:
                return  # the next one is larger, which is progress
        elif status is PullStatus.REQUEST_EXPIRED and self._clock() >= asked.early:
            self.too_small = self.fruitless = 0
            return
        self._count_fruitless(status, asked, words)

    def _count_fruitless(self, status: PullStatus, asked: Asked, words: str) -> None:
        """Count an end for no good, once for all requests that were outstanding. Twice in a row is a refusal."""
        if asked.number <= self._counted:
            return
        self._counted, self.last_words = self._number, words
        self.fruitless += 1
        if self.fruitless > 1:
            self._signals.add(_SIGNALS.get(status, Signal.REFUSED))
            self._certainty.doubt()

    def take(self) -> list[Delivery]:
        """Return what has come, in order, and be ready for the next `changed`."""
        deliveries, self._deliveries, self._taken_in_hand = self._deliveries, [], 0
        self.changed = Event()
        return deliveries

    def signals(self) -> set[Signal]:
        """Return what is to be acted on, once."""
        signals, self._signals = self._signals, set()
        if self._clock() >= self.deadline:
            self.outstanding.forget()
            if self._link.connected:
                signals.add(Signal.SILENT)
        return signals

    @property
    def deadline(self) -> float:
        """When silence becomes a signal, by the clock; never while nothing is asked for."""
        return self._heard + 2.5 * self._heartbeat if self.outstanding.requests else math.inf

    @property
    def can_ask(self) -> bool:
        """Whether a request would reach anybody; when it does again, `forget_requests` is called."""
        return self._link.connected

    def forget_requests(self) -> None:
        """Take note of a new connection: what was asked for on the old one is lost."""
        self._forget_what_is_lost()
        self.wake()

    def _forget_what_is_lost(self) -> None:
        """Forget what was asked for on a connection that is gone; it may be known before anybody says so."""
        if self._life != self._link.life:
            self._life = self._link.life
            self.outstanding.forget()
            self._heard = self._clock()

    def wake(self) -> None:
        """Make whoever waits for `changed` look again."""
        self.changed.set()

    async def drain(self) -> list[Delivery]:
        """End the subscription; return what had still come.

        What nats-server is just sending when a subscription ends counts as delivered, reaches nobody, and comes again
        only after ack wait. So what was asked for and comes at once is taken first, for half a second at most.
        """
        came = self.take()
        with move_on_after(_FLOWING):
            while self.outstanding.requests and self._link.connected:
                with move_on_after(_LULL) as lull:
                    await self.changed.wait()
                if lull.cancelled_caught:
                    break
                came += self.take()
        if self._subscribed is not None:
            await self._subscribed.drain()
        if self.outstanding.requests:
            self._certainty.watched()
        self.outstanding.forget()
        return came + self.take()
