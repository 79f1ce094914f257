"""Receiving and answering many messages at once on a nats-py connection.

nats-py spends about 11 µs on each message that is received and acked. Here one read of the socket becomes one list of
frames for each subscription, and all answers of a batch become one buffer. That needs private names of nats-py.
Only this file, `parser.py` and `gathered_reads.py` use them, and `tests/jetstream/test_link.py` fails when they change.
`PlainLink` does the same with nats-py's public names alone, and `open_link` falls back to it when the private names are
not there.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import nats.errors
from anyio import Lock, create_task_group, lowlevel, move_on_after
from nats.protocol.parser import Parser

from collector.jetstream.gathered_reads import GatheredReads
from collector.jetstream.parser import NO_HEADERS, BulkParser, Frame
from transfer.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from collector.jetstream.parser import Receive

DRAIN_TIMEOUT = 3
"""Seconds that a server may take to answer the end of a subscription."""
_CHECKPOINT_EVERY = 64  # nats-py's publish() never yields
_PRIVATE_NAMES = (
    *("_ps", "_send_command", "_flush_pending", "_process_msg", "_resp_map", "_pongs", "_transport"),
    *("_pending", "_pending_data_size", "_max_pending_size", "_flush_queue", "_flusher_task"),
)


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

    def answer_at_once(self, answers: Sequence[tuple[str, bytes]]) -> int | None:
        """Do the same if nothing has to be waited for; None: nothing was sent, because `answer` has to wait."""


def no_wait() -> float:
    """Read on at once."""
    return 0.0


def open_link(connection: Client, between_reads: Callable[[], float] = no_wait) -> Link:
    """Make the fast link, or the plain one when nats-py's private names have changed.

    While messages trickle, the fast one waits `between_reads()` seconds after a read.
    """
    known = all(hasattr(connection, name) for name in _PRIVATE_NAMES)
    if known and type(connection._ps) is Parser:  # noqa: SLF001 - see the module's docstring
        return BulkLink(connection, between_reads)
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

    def answer_at_once(self, answers: Sequence[tuple[str, bytes]]) -> int | None:
        """See `Link`. nats-py's `publish` may always wait."""
        return None if answers else 0


class _PlainSubscribed:
    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    async def drain(self) -> None:
        """See `Subscribed`."""
        with suppress(nats.errors.Error, OSError), move_on_after(DRAIN_TIMEOUT):
            await self._subscription.drain()


def _frame_of(message: Msg) -> Frame:
    raw = NO_HEADERS
    if message.headers:
        status = message.headers.get("Status", "")
        lines = [f"NATS/1.0 {status} {message.headers.get('Description', '')}".rstrip()]
        lines += [f"{name!s}: {value}" for name, value in message.headers.items() if name not in _STATUS_HEADERS]
        raw = "\r\n".join([*lines, "", ""]).encode()
    return Frame(message.subject.encode(), message.reply.encode(), raw, message.data)


_STATUS_HEADERS = frozenset({"Status", "Description"})


@dataclass(slots=True, eq=False)
class _Asked:
    """A subscription that is asked for, and what became of it."""

    subject: str
    receive: Receive
    subscribed: _BulkSubscribed | None = None
    error: Exception | None = None

    async def drain(self) -> None:
        """End the subscription."""
        if self.subscribed is not None:
            await self.subscribed.drain()


class BulkLink(PlainLink):
    """The link with a parser of its own, gathered reads and joined answers."""

    def __init__(self, connection: Client, between_reads: Callable[[], float] = no_wait) -> None:
        super().__init__(connection)
        self._parser = BulkParser(connection, GatheredReads(connection, between_reads).wait)
        self._flusher = _Flusher(connection)
        self._one_at_a_time = Lock()
        self._asked: list[_Asked] = []
        # With a future nats-py starts no task and no iterator; it drops what comes for one that is cancelled. The
        # parser takes the frames. All subscriptions share the future and the queue, which they do not use.
        self._nobody: asyncio.Future[Msg] = asyncio.Future()
        self._nobody.cancel()
        self._no_queue: asyncio.Queue[Msg] = asyncio.Queue()  # noqa: TID251 - it is nats-py's
        connection._ps = self._parser  # noqa: SLF001 - see the module's docstring

    async def subscribe(self, subject: str, receive: Receive) -> Subscribed:
        """See `Link`. Subscriptions that are asked for at the same time share one question to the server."""
        asked = _Asked(subject, receive)
        self._asked.append(asked)
        async with self._one_at_a_time:
            if asked in self._asked:
                together, self._asked = self._asked, []
                await self._subscribe_all(together)
        if asked.subscribed is None or asked.error is not None:
            raise asked.error or Unavailable("expected a subscription, but the task that made it was cut")
        return asked.subscribed

    async def _subscribe_all(self, together: Sequence[_Asked]) -> None:
        """Subscribe for all of them. When the server refuses something, ask for each alone to learn which one it is."""
        before = getattr(self._connection, "last_refusal", None)
        async with create_task_group() as group:  # each may wait until the server reads on
            for asked in together:
                group.start_soon(self._send, asked)
        with move_on_after(DRAIN_TIMEOUT):  # a server that does not answer is noticed by its silence
            await self._flusher.flush()
        refusal = getattr(self._connection, "last_refusal", None)
        if refusal is None or refusal is before:
            return
        for asked in [each for each in together if each.subscribed is not None]:
            if len(together) > 1:
                await asked.drain()
                await self._subscribe_all([asked])
            elif asked.subject in refusal.words or refusal.words.startswith("max"):
                await asked.drain()
                error = f"expected a subscription, to hear the messages of this logger, but {refusal}"
                asked.error = Unavailable(error)

    async def _send(self, asked: _Asked) -> None:
        try:
            subscription = await self._connection.subscribe(asked.subject, future=self._nobody)
        except Exception as error:  # noqa: BLE001 - it is raised where the subscription was asked for
            asked.error = error
        else:
            subscription._pending_queue = self._no_queue  # noqa: SLF001 - each would take 3 KiB
            self._parser.receivers[subscription._id] = asked.receive  # noqa: SLF001
            asked.subscribed = _BulkSubscribed(self._connection, self._parser, self._flusher, subscription)

    async def answer(self, answers: Sequence[tuple[str, bytes]]) -> int:
        """See `Link`."""
        unsent = self.answer_at_once(answers)
        if unsent is not None:
            return unsent
        connection, life = self._connection, self.life
        await connection._send_command(joined(answers))  # noqa: SLF001
        await connection._flush_pending()  # noqa: SLF001
        if (self.connected, self.life) != (True, life):
            return len(answers)  # nobody knows how many answers the old connection took; a second answer is harmless
        connection.stats["out_msgs"] += len(answers)
        return 0

    def answer_at_once(self, answers: Sequence[tuple[str, bytes]]) -> int | None:
        """See `Link`. Answers wait while nats-py's buffer is full."""
        connection: Any = self._connection
        if not answers:
            return 0  # CPython 3.12's writelines() never gets rid of an empty buffer: the loop spins, closing hangs
        if not connection.is_connected:
            return len(answers)
        command = joined(answers)
        if not _takes_at_once(connection, len(command)):
            return None
        connection._pending.append(command)  # noqa: SLF001 - see the module's docstring
        connection._pending_data_size += len(command)  # noqa: SLF001
        if connection._flush_queue.empty():  # noqa: SLF001 - else the flusher takes ours along
            connection._flush_queue.put_nowait(asyncio.get_running_loop().create_future())  # noqa: SLF001
        connection.stats["out_msgs"] += len(answers)
        return 0


def _takes_at_once(connection: Any, size: int) -> bool:
    """Tell whether nats-py has room for so many bytes more, and a task that writes them."""
    flusher = connection._flusher_task  # noqa: SLF001 - see the module's docstring
    room = connection._max_pending_size - connection._pending_data_size  # noqa: SLF001
    return flusher is not None and not flusher.done() and size < room


class _Flusher:
    """Waits until the server has read all commands. Those who wait at the same time share a question to it."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._one_at_a_time = Lock()
        self._wanted = self._done = 0

    async def flush(self) -> None:
        """Wait until the server has read what was sent before, or does not answer in time."""
        self._wanted += 1
        number = self._wanted
        async with self._one_at_a_time:
            if number <= self._done:
                return
            upto = self._wanted
            await self._flush_all()
            self._done = upto

    async def _flush_all(self) -> None:
        """Write what waits in nats-py's buffer first, because nats-py writes PING before it."""
        connection = self._connection
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
    __slots__ = ("_connection", "_flusher", "_parser", "_subscription")

    def __init__(self, connection: Client, parser: BulkParser, flusher: _Flusher, subscription: Subscription) -> None:
        self._connection = connection
        self._parser = parser
        self._flusher = flusher
        self._subscription = subscription

    async def drain(self) -> None:
        """See `Subscribed`. Frames that the server sent before it read UNSUB come before its answer to PING."""
        try:
            # when the server does not answer, messages that it had sent come again after the ack wait
            with suppress(nats.errors.Error, OSError), move_on_after(DRAIN_TIMEOUT):
                if not self._connection.is_closed and not self._connection.is_draining:
                    await self._subscription.unsubscribe()
                    await self._flusher.flush()
        finally:
            self._parser.receivers.pop(self._subscription._id, None)  # noqa: SLF001
