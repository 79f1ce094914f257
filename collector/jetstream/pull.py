"""The pull subscription of one durable: requests, deliveries, and the statuses of JetStream.

In: frames of one inbox. Out: deliveries in the order in which they came, and `Signal`s for the consumer.
The requests are the documented ones (https://docs.nats.io/reference/reference-protocols/nats_api_reference,
`$JS.API.CONSUMER.MSG.NEXT`): `batch`, `max_bytes`, `expires`, `idle_heartbeat`. Every request has `max_bytes`, because
nats-server then reports when a request is done ("Batch Completed") and how much of it was not used. So the outstanding
messages and bytes are known exactly while requests overlap.
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
"""Seconds of silence after which the server sends a heartbeat for a request."""
_CUT_TIMES = 3
"""How often a message is asked for again because it came without its body."""
_MOST_CUT = 10_000
_LULL = 0.02
"""Seconds without a message after which we assume that no message is in flight."""
_FLOWING = 0.5
"""Seconds that a drain waits for such a lull at most."""
_NANOSECONDS = 1_000_000_000
_ALONE = 2.5
"""Heartbeats that a request for a lone message lives: if none comes, its bytes return to the other loggers soon."""
LARGEST = 64 * 1024 * 1024 + 64 * 1024
"""Bytes of the largest message that is asked for, with subject and headers: nats-server lets no more bytes wait for one
client (`max_pending`)."""


class PullStatus(Enum):
    """The meaning of a status message, by its code and text in nats-server (server/consumer.go)."""

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
    """A state of the pull that the consumer has to act on."""

    RECHECK = auto()
    """Stream or durable may be gone or changed: check, re-create or wait."""
    SILENT = auto()
    """Neither a message nor a heartbeat for two heartbeats: the requests may be lost (nats.py#504)."""
    REFUSED = auto()
    """The server refuses our requests, or ends them again and again without a message: ask again later."""
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
        text = text.lower()
        return next((status for start, status in _CONFLICTS if text.startswith(start)), PullStatus.UNKNOWN), words
    return _BY_CODE.get(code, PullStatus.UNKNOWN), words


def unused(raw_headers: bytes) -> tuple[int, int]:
    """Return the messages and bytes of an ended request that were not sent; 0 where the server does not tell."""
    values = {b"nats-pending-messages": 0, b"nats-pending-bytes": 0}
    for line in raw_headers.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() in values and value.strip().isdigit():
            values[name.lower()] = int(value)
    return values[b"nats-pending-messages"], values[b"nats-pending-bytes"]


class Bare(Enum):
    """The kind of a message without a body, by its headers."""

    ENTRY = auto()
    """The message was published without a body."""
    CUT = auto()
    """The server has left the body out."""
    MARKER = auto()
    """The server's own note that the last message of a subject is gone; no publisher sent it."""


def read_bare(raw_headers: bytes) -> Bare:
    """Return the kind of a message without a body."""
    fields = headers(raw_headers)
    if header(fields, "Nats-Marker-Reason"):
        return Bare.MARKER
    size = header(fields, "Nats-Msg-Size")
    return Bare.CUT if size.isdecimal() and size.strip("0") else Bare.ENTRY


def read_delivery(frame: AnyFrame, head: str = "", stream: str = "") -> Delivery:
    """Read the reply subject `$JS.ACK.[domain.account.]stream.durable.delivered.sequence.sequence.time.pending[.x]`.

    A reply subject that begins with `head` is of `stream`. Raises ValueError for another kind of subject: then the
    message was not delivered by JetStream.
    """
    subject, encoded, raw_headers, body = frame
    reply = encoded.decode()
    before, *fields = reply.rsplit(".", 5)
    if before != head or not head:
        stream, fields = _read_reply(reply)
    return Delivery(subject.decode(), reply, body, raw_headers, stream, int(fields[1]), int(fields[0]), int(fields[3]))


def still_pending(delivery: Delivery) -> int:
    """Return how many messages were not delivered yet at the time of this delivery."""
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
    """An outstanding request as it was made."""

    messages: int
    bytes: int
    number: int = 0
    early: float = -math.inf
    """The time until which its end is early: before it, the server has ended the request for another reason."""


@dataclass(slots=True)
class Outstanding:
    """The messages and bytes that were asked for and have not come: exact while a status ends every request."""

    messages: int = 0
    bytes: int = 0
    requests: dict[str, Asked] = field(default_factory=dict)

    def asked(self, request: str, messages: int, max_bytes: int, number: int = 0, early: float = -math.inf) -> None:
        """Count a request."""
        self.requests[request] = Asked(messages, max_bytes, number, early)
        self.messages += messages
        self.bytes += max_bytes

    def came(self, messages: int, size: int) -> None:
        """Count messages that came; messages of forgotten requests (see `forget`) never make it negative."""
        self.messages = max(0, self.messages - messages)
        self.bytes = max(0, self.bytes - size)

    def ended(self, request: str, messages: int, max_bytes: int) -> None:
        """Take out the unused rest of an ended request; a forgotten request is ignored."""
        if self.requests.pop(request, None) is None:
            return
        self.messages = max(0, self.messages - messages)
        self.bytes = max(0, self.bytes - max_bytes)
        if not self.requests:
            self.messages = self.bytes = 0

    def ended_at_once(self, request: str) -> None:
        """Take out a request that the server refused, or that ended without a count of the rest."""
        if asked := self.requests.get(request):
            self.ended(request, asked.messages, asked.bytes)

    def forget(self) -> None:
        """Drop all outstanding requests."""
        self.requests.clear()
        self.messages = self.bytes = 0


class Pull:
    """The pull subscription of one durable, from `open` to `drain`. Never more messages come than were asked for."""

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
        """Bytes of the last request if the next message is larger, else 0: then that message is asked for alone."""
        self.fruitless = 0
        """How often in a row the server has ended the requests early without a message."""
        self.last_words = ""
        """The server's status line when it last ended a request without fulfilling it."""
        self._link = link
        self._inbox = inbox
        self._stream = stream
        self._head = f"$JS.ACK.{stream}.{durable}"
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._in_hand = in_hand
        self._clock = clock
        self._certainty = Certainty(lambda: link.life, clock)
        self._life = link.life
        """The connection on which the outstanding requests were made."""
        self._heartbeat = heartbeat
        self._subscribed: Subscribed | None = None
        self._number = 0
        self._counted = 0
        """Requests up to this number are counted in `fruitless`: one event may end several requests."""
        self._last_size = 0
        """Bytes of the last message that was asked for alone."""
        self._deliveries: list[Delivery] = []
        self._taken_in_hand = 0
        self._aside: list[Answer] = []
        self._cut: dict[int, int] = {}
        """How often each message came without its body, by sequence."""
        self._signals: set[Signal] = set()
        self._heard = clock()
        self.changed = Event()

    async def open(self) -> None:
        """Subscribe to the inbox, unless that is done; no message comes before `ask`. Raises `Unavailable`."""
        if self._subscribed is None:
            self._subscribed = await self._link.subscribe(f"{self._inbox}.*", self.receive)

    async def open_anew(self) -> None:
        """Subscribe again: the server may have ended the subscription, and does not tell that to a new connection."""
        subscribed, self._subscribed = self._subscribed, None
        if subscribed is not None:
            await subscribed.drain()
        await self.open()

    async def ask(self, messages: int, max_bytes: int, expires: float = REQUEST_LIFETIME) -> None:
        """Ask for at most `messages` messages with at most `max_bytes` bytes; requests add up.

        Only an outstanding request is told by the server that the durable was deleted. A time without one makes the
        pull `unsure`.
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
        """Bytes to ask for when the next message is too large: a quarter more than the last such one, or twice as much.

        The server does not tell the size beforehand, and `max_payload` may have been another one at the publishing.
        """
        like_the_last = self._last_size * 5 // 4
        return min(LARGEST, like_the_last if self.too_small < like_the_last else 2 * self.too_small)

    async def ask_for_one(self, max_bytes: int) -> None:
        """Ask for a lone message, because it is larger than an ordinary request."""
        await self.ask(1, max_bytes, min(REQUEST_LIFETIME, _ALONE * self._heartbeat))

    def receive(self, frames: Sequence[AnyFrame]) -> None:
        """Take the frames of one read; called from the reading loop. From here on the deliveries are in hand."""
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
        """Set a message that is no entry aside, to be answered by `answer_aside`; return whether it was.

        A publisher may send the header of a cut message itself. So a message that comes cut again and again, although
        the durable was checked in between, is taken as it is.
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

    # --- whether stream and durable are the same

    @property
    def unsure(self) -> bool:
        """Whether stream and durable may have been made anew unnoticed since the last check, before the deliveries."""
        return not self._certainty.of_deliveries

    @property
    def may_answer(self) -> bool:
        """Whether an answer would reach the stream and the durable that its message came from."""
        watched = bool(self.outstanding.requests) and self._life == self._link.life
        return self._link.connected and self._certainty.of_answers(watched=watched)

    def begin_check(self) -> None:
        """Begin a check of stream and durable; see `end_check`."""
        self._certainty.begin_check()

    def end_check(self) -> None:
        """End a check that found the same stream and the durable; a status that came meanwhile makes it unsure."""
        self._certainty.end_check()

    # --- answering

    async def answer(self, answers: Sequence[Answer]) -> int:
        """Send answers in order, if they may be sent; return how many of the last were not sent."""
        if not self.may_answer:
            return len(answers)
        return await self._link.answer(answers)

    @property
    def has_aside(self) -> bool:
        """Whether messages wait for `answer_aside`."""
        return bool(self._aside)

    async def answer_aside(self) -> None:
        """Let cut messages be delivered again, and remove markers; call it after a check of the durable.

        A second delivery is harmless, so a nak is sent always. An ack waits until it may be sent.
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
            return  # the consumer is not woken: the heartbeat has moved the deadline
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
        """Note how a request ended: fulfilled, at its time, or early and without a message."""
        if status is PullStatus.MESSAGE_TOO_LARGE:
            if rest != asked[:2]:
                return  # the messages that fit have come
            grew, self.too_small = asked.bytes > self.too_small, asked.bytes
            if grew and asked.bytes < LARGEST:
                return  # the next one is larger, which is progress
        elif status is PullStatus.REQUEST_EXPIRED and self._clock() >= asked.early:
            self.too_small = self.fruitless = 0
            return
        self._count_fruitless(status, asked, words)

    def _count_fruitless(self, status: PullStatus, asked: Asked, words: str) -> None:
        """Count an early end, once for all requests that were outstanding. Two in a row are a refusal."""
        if asked.number <= self._counted:
            return
        self._counted, self.last_words = self._number, words
        self.fruitless += 1
        if self.fruitless > 1:
            self._signals.add(_SIGNALS.get(status, Signal.REFUSED))
            self._certainty.doubt()

    def take(self) -> list[Delivery]:
        """Return the deliveries that have come, in order, and renew `changed`."""
        deliveries, self._deliveries, self._taken_in_hand = self._deliveries, [], 0
        self.changed = Event()
        return deliveries

    def signals(self) -> set[Signal]:
        """Return the signals to act on, each once."""
        signals, self._signals = self._signals, set()
        if self._clock() >= self.deadline:
            self.outstanding.forget()
            if self._link.connected:
                signals.add(Signal.SILENT)
        return signals

    @property
    def deadline(self) -> float:
        """When silence becomes a signal, by the clock; infinite while no request is outstanding."""
        return self._heard + 2.5 * self._heartbeat if self.outstanding.requests else math.inf

    @property
    def can_ask(self) -> bool:
        """Whether a request would reach the server; after a reconnect `forget_requests` is called."""
        return self._link.connected

    def forget_requests(self) -> None:
        """Drop the requests of the old connection, because the connection is a new one."""
        self._forget_what_is_lost()
        self.wake()

    def _forget_what_is_lost(self) -> None:
        """Drop requests whose connection is gone; this may be noticed before `forget_requests` is called."""
        if self._life != self._link.life:
            self._life = self._link.life
            self.outstanding.forget()
            self._heard = self._clock()

    def wake(self) -> None:
        """Wake the tasks that wait for `changed`."""
        self.changed.set()

    async def drain(self) -> list[Delivery]:
        """End the subscription; return the deliveries that had still come.

        A message that nats-server is sending when the subscription ends counts as delivered, reaches nobody, and comes
        again only after the ack wait. So messages in flight are awaited first, for half a second at most.
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
