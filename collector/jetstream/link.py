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
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import nats.errors
from anyio import Lock, lowlevel, move_on_after
from nats.errors import ProtocolError
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from collector.errors import safe_description
from transfer.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

DRAIN_TIMEOUT = 3
"""Seconds that a server may take to answer the end of a subscription."""
_CHECKPOINT_EVERY = 64  # nats-py's publish() never yields
_MAX_LINE = 1024 * 1024  # the INFO of a large cluster names all its servers; no line is longer than this
_PRIVATE_NAMES = ("_ps", "_send_command", "_flush_pending", "_process_msg")
_NO_HEADERS = b""
# https://docs.nats.io/reference/reference-protocols/nats-protocol, written as nats-server writes it
# `[^ ]+` is fast because the regex engine scans for one excluded byte in C. If a message has no reply subject, its size
# follows directly. The answer to $JS.API.CONSUMER.RESET has an empty reply subject.
_PLAIN = re.compile(rb"MSG ([^ ]+) (\d+) (?:(\d+)|([^ ]*) (\d+))\r\n")
_HEADED = re.compile(rb"HMSG ([^ ]+) (\d+) (?:(\d+) (\d+)|([^ ]*) (\d+) (\d+))\r\n")


class Frame(NamedTuple):
    """One message as it stood on the wire. `BulkLink` hands over plain tuples of these four fields instead."""

    subject: bytes
    reply: bytes
    raw_headers: bytes
    """The header block from `NATS/1.0` to the empty line; empty when the message has no headers."""
    body: bytes


AnyFrame: TypeAlias = "tuple[bytes, bytes, bytes, bytes]"
Receive: TypeAlias = "Callable[[Sequence[AnyFrame]], None]"


class Subscribed(Protocol):
    """An open subscription."""

    async def drain(self) -> None:
        """End the subscription: after this no frame comes any more, and no frame that the server had sent is lost.

        The drain ends by itself when the server does not answer in time.
        """


class Link(Protocol):
    """A NATS connection as the collector needs it to move many messages."""

    @property
    def connected(self) -> bool:
        """Whether the connection is open now."""

    @property
    def life(self) -> int:
        """The number of the connection: it changes as soon as `connected` is true again after a loss."""

    async def subscribe(self, subject: str, receive: Receive) -> Subscribed:
        """Hand every frame to `receive`, in order; it is called from the reading loop and must not block or raise.

        Raises `Unavailable` with the server's words when the server refuses the subscription.
        """

    async def publish(self, subject: str, payload: bytes, reply: str) -> None:
        """Send one message."""

    async def answer(self, answers: Sequence[tuple[str, bytes]]) -> int:
        """Publish each payload to its reply subject, in order; return how many of the last were not sent.

        Without a connection no answer is sent, also not on the next one: there the same subjects may belong to other
        messages.
        """


def open_link(connection: Client) -> Link:
    """Make the fast link, or the plain one when nats-py's private names have changed."""
    known = all(hasattr(connection, name) for name in _PRIVATE_NAMES)
    if known and type(connection._ps) is Parser:  # noqa: SLF001 - see the module's docstring
        return BulkLink(connection)
    return PlainLink(connection)


class PlainLink:
    """A link that uses public means of nats-py only."""

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
        """See `Link`. A repeated header is seen once, because nats-py keeps headers in a dict."""

        async def receive_one(message: Msg) -> None:
            receive([_frame_of(message)])

        unlimited: dict[str, Any] = {"pending_msgs_limit": 0, "pending_bytes_limit": 0}
        return _PlainSubscribed(await self._connection.subscribe(subject, cb=receive_one, **unlimited))

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


class _PlainSubscribed:
    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    async def drain(self) -> None:
        """See `Subscribed`."""
        with suppress(nats.errors.Error, OSError), move_on_after(DRAIN_TIMEOUT):
            await self._subscription.drain()


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
        # With a future nats-py starts no task and no iterator. The parser takes the frames, and the future stays unset.
        subscription = await self._connection.subscribe(subject, future=asyncio.Future())
        self._parser.receivers[subscription._id] = receive  # noqa: SLF001
        subscribed = _BulkSubscribed(self._connection, self._parser, subscription)
        if (refusal := await self._refusal(subject)) is not None:
            await subscribed.drain()
            raise Unavailable(f"expected a subscription, to hear the messages of this logger, but {refusal}")
        return subscribed

    async def _refusal(self, subject: str) -> str | None:
        """Return the server's refusal of a subscription that was just sent: it comes before the answer to a PING.

        None when the server does not refuse it, or does not answer; then the pull notices the silence.
        """
        connection = self._connection
        before = refusal = getattr(connection, "last_refusal", None)
        with move_on_after(DRAIN_TIMEOUT):
            async with self._one_at_a_time:  # the server does not say which subscription is beyond the limit
                before = refusal = getattr(connection, "last_refusal", None)
                await _flush_all(connection)
                refusal = getattr(connection, "last_refusal", None)
        if refusal is None or refusal is before or not (subject in refusal.words or refusal.words.startswith("max")):
            return None
        return str(refusal)

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
            return len(answers)  # nobody knows how many answers the old connection took; a second answer is harmless
        connection.stats["out_msgs"] += len(answers)
        return 0


async def _flush_all(connection: Client) -> None:
    """Wait until the server has read all commands; nats-py writes PING before those that wait in its buffer."""
    with suppress(nats.errors.Error, OSError):
        await connection._flush_pending(force_flush=True)  # noqa: SLF001 - see the module's docstring
        if connection.is_connected:
            await connection.flush(DRAIN_TIMEOUT)


def joined(answers: Sequence[tuple[str, bytes]]) -> bytes:
    """Return the commands that publish each payload to its reply subject; most often all payloads are the same."""
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
        """See `Subscribed`. Frames that the server sent before it read UNSUB come before its answer to PING."""
        try:
            # when the server does not answer, messages that it had sent come again after the ack wait
            with suppress(nats.errors.Error, OSError), move_on_after(DRAIN_TIMEOUT):
                if not self._connection.is_closed and not self._connection.is_draining:
                    await self._subscription.unsubscribe()
                    await _flush_all(self._connection)
        finally:
            self._parser.receivers.pop(self._subscription._id, None)  # noqa: SLF001


class BulkParser(Parser):
    """nats-py's parser, which hands the frames of some subscriptions to receivers, as one list for each read."""

    def __init__(self, connection: Client) -> None:
        self.receivers: dict[int, Receive] = {}
        self._life = 0
        super().__init__(connection)

    def reset(self) -> None:
        """Forget a frame that was read in part: the connection is a new one."""
        super().reset()
        self._life += 1
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 0

    async def parse(self, data: bytes = b"") -> None:
        """Take the whole frames out of the data and keep the rest for the next read.

        Raises ProtocolError for every error: nats-py connects again after it. Any other error would end nats-py's
        reading loop, and the connection would be deaf until the next pings fail.
        """
        self._chunks.append(data)
        self._have += len(data)
        if self._have < self._need:  # a large message in many reads is joined once, not at every read
            return
        buffer = data if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks, self._have, self._need = [], 0, 0
        try:
            rest = await self._take_frames(buffer)
        except (ProtocolError, OSError):
            raise
        except Exception as error:
            with suppress(Exception):
                await self._report(error)
            raise ProtocolError from error
        if rest:
            self._chunks, self._have = [rest], len(rest)

    async def _take_frames(self, buffer: bytes) -> bytes:  # noqa: C901 - the hot path: one loop, no calls
        """Return the unfinished frame at the end; set `_need` when the length of that frame is known."""
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
                await self._hand_over(taken)  # frames that came before a PONG are handed over before `flush` returns
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
        """Return the list for the frames of a subscription; None when nats-py handles that subscription."""
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
                await self._report(error)
        taken.clear()

    async def _report(self, error: Exception) -> None:
        """Report an error that nobody foresaw without its text, which may quote a message."""
        await self.nc._error_cb(nats.errors.Error(f"reading messages failed: {safe_description(error)}"))  # noqa: SLF001
