"""Receiving and answering many messages at once on a nats-py connection.

nats-py spends about 11 µs on each message that is received and acked. Here one read of the socket becomes one list of
frames for each subscription, and all answers of a batch become one buffer. That needs names which nats-py calls
private; they are used in this file only and `tests/jetstream/test_link.py` fails when they change. `PlainLink`
does the same with nats-py's public means alone, and `open_link` falls back to it when the private names are not there.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import nats.errors
from anyio import Lock, lowlevel
from nats.errors import ProtocolError
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from transfer.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

_DRAIN_TIMEOUT = 3
"""Seconds that a server may take to answer the end of a subscription."""
_CHECKPOINT_EVERY = 64  # nats-py's publish() never yields
_MAX_LINE = 1024 * 1024  # the INFO of a large cluster names all its servers; no line is longer than this
_PRIVATE_NAMES = ("_ps", "_send_command", "_flush_pending", "_process_msg")
_NO_HEADERS = b""
# https://docs.nats.io/reference/reference-protocols/nats-protocol, written as nats-server writes it
# A field is anything up to the next space: of a single byte sre looks for in a tight loop. Without a reply there is a
# number where the reply would be, and then the end of the line. $JS.API.CONSUMER.RESET answers with an empty reply.
_PLAIN = re.compile(rb"MSG ([^ ]+) (\d+) (?:(\d+)|([^ ]*) (\d+))\r\n")
_HEADED = re.compile(rb"HMSG ([^ ]+) (\d+) (?:(\d+) (\d+)|([^ ]*) (\d+) (\d+))\r\n")


class Frame(NamedTuple):
    """One message as it stood on the wire. Where there are very many, plain tuples of these four stand for it."""

    subject: bytes
    reply: bytes
    raw_headers: bytes
    """From `NATS/1.0` to the empty line, empty when there are none."""
    body: bytes


AnyFrame: TypeAlias = "tuple[bytes, bytes, bytes, bytes]"
Receive: TypeAlias = "Callable[[Sequence[AnyFrame]], None]"


class Subscribed(Protocol):
    """A subscription that is open."""

    async def drain(self) -> None:
        """End it: after this no frame comes any more, and none that the server had sent by then is lost.

        It ends by itself when the server does not answer in time.
        """


class Link(Protocol):
    """What the collector needs of a NATS connection to move many messages."""

    @property
    def connected(self) -> bool:
        """Whether there is a server at the other end now."""

    @property
    def life(self) -> int:
        """The number of the connection: another one as soon as `connected` is true again after it was not."""

    async def subscribe(self, subject: str, receive: Receive) -> Subscribed:
        """Hand every frame to `receive`, in order; it is called from the reading loop and must not block or raise.

        Raises `Unavailable` with the server's word when it takes no more subscriptions, or not this one.
        """

    async def publish(self, subject: str, payload: bytes, reply: str) -> None:
        """Send one message."""

    async def answer(self, answers: Sequence[tuple[str, bytes]]) -> int:
        """Publish each payload to its reply subject, in order; return how many of the last were not sent.

        Without a connection nothing is sent, also not on the next one: the same subjects may mean other messages there.
        """


def open_link(connection: Client) -> Link:
    """Make the fast link, or the plain one when nats-py's inner names are not what this file knows."""
    known = all(hasattr(connection, name) for name in _PRIVATE_NAMES)
    if known and type(connection._ps) is Parser:  # noqa: SLF001 - see the module's docstring
        return BulkLink(connection)
    return PlainLink(connection)


class PlainLink:
    """The link by public means of nats-py only."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection

    @property
    def connected(self) -> bool:
        """See `Link`."""
        return self._connection.is_connected

    @property
    def life(self) -> int:
        """See `Link`. nats-py counts a reconnect in the same step in which it is connected."""
        return self._connection.stats["reconnects"]

    async def subscribe(self, subject: str, receive: Receive) -> Subscribed:
        """See `Link`. Headers that came more than once are seen once: nats-py keeps a dict of them."""

        async def receive_one(message: Msg) -> None:
            receive([_frame_of(message)])

        return await self._connection.subscribe(subject, cb=receive_one, pending_msgs_limit=0, pending_bytes_limit=0)

    async def publish(self, subject: str, payload: bytes, reply: str) -> None:
        """See `Link`."""
        await self._connection.publish(subject, payload, reply=reply)

    async def answer(self, answers: Sequence[tuple[str, bytes]]) -> int:
        """See `Link`."""
        life = self.life
        for count, (reply, payload) in enumerate(answers):
            if count % _CHECKPOINT_EVERY == 0:
                await lowlevel.checkpoint()
            if not self.connected or self.life != life:
                return len(answers) - count
            await self._connection.publish(reply, payload)
        return 0


def _frame_of(message: Msg) -> Frame:
    raw = _NO_HEADERS
    if message.headers:
        status = message.headers.get("Status", "")
        lines = [f"NATS/1.0 {status} {message.headers.get('Description', '')}".rstrip()]
        lines += [f"{name!s}: {value}" for name, value in message.headers.items() if name not in _STATUS_HEADERS]
        raw = "\r\n".join([*lines, "", ""]).encode()
    return Frame(message.subject.encode(), message.reply.encode(), raw, message.data)


_STATUS_HEADERS = frozenset({"Status", "Description"})


class BulkLink(PlainLink):
    """The link with a parser of its own and joined answers."""

    def __init__(self, connection: Client) -> None:
        super().__init__(connection)
        self._parser = BulkParser(connection)
        self._one_at_a_time = Lock()
        connection._ps = self._parser  # noqa: SLF001 - see the module's docstring

    async def subscribe(self, subject: str, receive: Receive) -> Subscribed:
        """See `Link`."""
        # With a future nats-py starts no task and no iterator; the parser takes the frames before it is looked at.
        subscription = await self._connection.subscribe(subject, future=asyncio.Future())
        self._parser.receivers[subscription._id] = receive  # noqa: SLF001
        subscribed = _BulkSubscribed(self._connection, self._parser, subscription)
        if (refusal := await self._refusal(subject)) is not None:
            await subscribed.drain()
            raise Unavailable(f"expected a subscription, to hear the messages of this logger, but {refusal}")
        return subscribed

    async def _refusal(self, subject: str) -> str | None:
        """Return what the server says against a subscription that was just sent: its answer to PING comes after that.

        While it does not answer nothing is known; then silence tells.
        """
        connection = self._connection
        async with self._one_at_a_time:  # the server does not say which one is beyond the limit
            before = getattr(connection, "last_refusal", None)
            with suppress(nats.errors.Error, OSError):
                # nats-py writes PING past what is still to be written, so also past SUB
                await connection._flush_pending(force_flush=True)  # noqa: SLF001
                if connection.is_connected:
                    await connection.flush(_DRAIN_TIMEOUT)
            said = getattr(connection, "last_refusal", None)
        if said is None or said is before or not (subject in said.words or said.words.startswith("max")):
            return None
        return str(said)

    async def answer(self, answers: Sequence[tuple[str, bytes]]) -> int:
        """See `Link`."""
        if not answers:
            return 0  # CPython 3.12's writelines() never gets rid of an empty buffer: the loop spins, closing hangs
        connection, life = self._connection, self.life
        if not connection.is_connected:
            return len(answers)
        await connection._send_command(joined(answers))  # noqa: SLF001
        await connection._flush_pending()  # noqa: SLF001
        if (self.connected, self.life) != (True, life):
            return len(answers)  # nobody knows how many the old connection took; to be answered twice harms nothing
        connection.stats["out_msgs"] += len(answers)
        return 0


def joined(answers: Sequence[tuple[str, bytes]]) -> bytes:
    """Return the commands that publish each payload to its reply subject; most often it is the same for all."""
    replies, payloads = zip(*answers, strict=True)
    if payloads.count(payloads[0]) < len(payloads):
        return b"".join([joined((answer,)) for answer in answers])
    end = f" {len(payloads[0])}\r\n{payloads[0].decode()}\r\n"
    return f"PUB {f'{end}PUB '.join(replies)}{end}".encode()


class _BulkSubscribed:
    def __init__(self, connection: Client, parser: BulkParser, subscription: Subscription) -> None:
        self._connection = connection
        self._parser = parser
        self._subscription = subscription

    async def drain(self) -> None:
        """See `Subscribed`: what the server sent before it saw UNSUB comes before its answer to PING."""
        try:
            if not self._connection.is_closed and not self._connection.is_draining:
                await self._subscription.unsubscribe()
                if self._connection.is_connected:
                    # as above: also past UNSUB
                    await self._connection._flush_pending(force_flush=True)  # noqa: SLF001
                    await self._connection.flush(_DRAIN_TIMEOUT)
        except (nats.errors.Error, OSError):
            pass  # the server does not answer: what it had sent comes again after ack wait
        finally:
            self._parser.receivers.pop(self._subscription._id, None)  # noqa: SLF001


class BulkParser(Parser):
    """nats-py's parser, with the frames of some subscriptions taken out on the way, a list for each read."""

    def __init__(self, connection: Client) -> None:
        self.receivers: dict[int, Receive] = {}
        self._life = 0
        super().__init__(connection)

    def reset(self) -> None:
        """Forget what is half read: the connection is a new one."""
        super().reset()
        self._life += 1
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 0

    async def parse(self, data: bytes = b"") -> None:
        """Take the whole frames out of what was read and keep the rest for the next read."""
        self._chunks.append(data)
        self._have += len(data)
        if self._have < self._need:  # a large message in many reads is put together once, not at every read
            return
        buffer = data if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks, self._have, self._need = [], 0, 0
        rest = await self._take_frames(buffer)
        if rest:
            self._chunks, self._have = [rest], len(rest)

    async def _take_frames(self, buffer: bytes) -> bytes:  # noqa: C901 - the hot path: one loop, no calls
        """Return what is left over; set `_need` when it is known how long the first unfinished frame is."""
        taken: dict[int, list[AnyFrame]] = {}
        life, start, end = self._life, 0, len(buffer)
        digits, frames = b"", None  # of the frame before: most come for the same subscription
        while start < end:
            if found := _PLAIN.match(buffer, start):
                subject, sid_digits, unanswered_size, reply, size = found.groups()
                headers, body_start = _NO_HEADERS, found.end()
                body_end = body_start + int(size or unanswered_size)
            elif found := _HEADED.match(buffer, start):
                subject, sid_digits, first_size, second_size, reply, headers_size, size = found.groups()
                headers_start = found.end()
                body_start = headers_start + int(headers_size or first_size)
                body_end = headers_start + int(size or second_size)
                headers = buffer[headers_start:body_start]
            else:
                line_end = buffer.find(b"\r\n", start) + 2
                if line_end < 2:
                    break
                await self._hand_over(taken)  # what came before a PONG is there before whoever waits for it goes on
                digits = b""
                await self._handle_line(buffer[start:line_end])
                if self._life != life:  # that line was the end of the connection
                    return b""
                start = line_end
                continue
            if body_end + 2 > end:
                self._need = body_end + 2 - start
                break
            if sid_digits != digits:
                digits, frames = sid_digits, self._frames(taken, int(sid_digits))
            if frames is not None:
                frames.append((subject, reply or b"", headers, buffer[body_start:body_end]))
            else:
                await self._hand_over(taken)
                digits = b""
                body = buffer[body_start:body_end]
                await self.nc._process_msg(int(sid_digits), subject, reply or b"", body, headers or None)  # noqa: SLF001
                if self._life != life:
                    return b""
            start = body_end + 2
        await self._hand_over(taken)
        if not self._need and end - start > _MAX_LINE:
            raise ProtocolError
        return buffer[start:]

    def _frames(self, taken: dict[int, list[AnyFrame]], sid: int) -> list[AnyFrame] | None:
        """Return where the frames of a subscription are gathered; None when nats-py has to have them."""
        return taken.setdefault(sid, []) if sid in self.receivers else None

    async def _handle_line(self, line: bytes) -> None:
        """Leave PING, PONG, INFO, +OK and -ERR to nats-py."""
        await super().parse(line)
        if self.buf or self.state != AWAITING_CONTROL_LINE:
            raise ProtocolError

    async def _hand_over(self, taken: dict[int, list[AnyFrame]]) -> None:
        for sid, frames in taken.items():
            try:
                self.receivers[sid](frames)
            except Exception as error:  # noqa: BLE001 - one logger's trouble is its own
                await self.nc._error_cb(error)  # noqa: SLF001
        taken.clear()
