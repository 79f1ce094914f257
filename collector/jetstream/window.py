"""Many messages on their way into one stream at once, each sent until the stream has it.

A stream that is full and a nats-server that is away are waited for: nothing more is sent then, and what is not
confirmed is sent again. The order is that of sending, unless a message has to be sent again.
"""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import anyio
import msgspec
import nats.errors
from anyio import Event, create_task_group, current_time

from collector.jetstream.link import open_link
from transfer.errors import Conflict, JetStreamError, Refused
from transfer.jetstream.api import SERVICE_UNAVAILABLE, ApiError
from transfer.jetstream.permissions import refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from nats.aio.client import Client

    from collector.jetstream.parser import AnyFrame

MESSAGES = 512
BYTES = 4 * 1024 * 1024
_ANSWER_TIMEOUT = 2.0
_PAUSE = 0.5
"""Seconds until a message is sent again that the stream did not take now."""
_LOOK = 0.1
_FULL = frozenset({10002, 10008, 10023, 10028, 10047, 10074, 10076, 10077})
"""Errors of nats-server (server/errors.json) that pass when there is room, or a leader."""


class Outgoing(NamedTuple):
    """A message that is to be published."""

    subject: str
    headers: bytes
    """From `NATS/1.0` to the empty line."""
    body: bytes
    entries: int
    place: object
    """The place where it comes from, for its sender."""


class _PubAck(msgspec.Struct):
    stream: str = ""
    duplicate: bool = False
    error: ApiError | None = None


@dataclass(slots=True)
class _Open:
    message: Outgoing
    due: float
    """When it is sent again without an answer."""


class Window:
    """Publishes messages into one stream, some hundreds at a time."""

    def __init__(self, connection: Client, stream: str, confirmed: Callable[[Outgoing, bool], None]) -> None:
        """Tell each message that the stream has, and whether it had it before, in any order."""
        self.waits_for = ""
        """Why nothing goes on now; empty when it does."""
        self._connection = connection
        self._stream = stream
        self._confirmed = confirmed
        self._link = open_link(connection)
        self._inbox = connection.new_inbox()
        self._count = 0
        self._bytes = 0
        self._open: dict[int, _Open] = {}
        self._sent: deque[tuple[int, object]] = deque()
        self._done: object = None
        self._error: Exception | None = None
        self._changed = Event()

    @property
    def done(self) -> object:
        """The place of the last message that is confirmed with all before it; None when there is none."""
        while self._sent and self._sent[0][0] not in self._open:
            self._done = self._sent.popleft()[1]
        return self._done

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Publish while the block lasts. A message that is not confirmed at its end may be in the stream, or not."""
        subscribed = await self._link.subscribe(f"{self._inbox}.*", self._receive)
        try:
            async with create_task_group() as group:
                group.start_soon(self._send_again)
                yield
                group.cancel_scope.cancel()
        finally:
            await subscribed.drain()

    async def send(self, message: Outgoing) -> None:
        """Send a message when there is room. Raises what the stream refused for good; then nothing more is sent."""
        size = len(message.body)
        while self._error is None and self._open and not (len(self._open) < MESSAGES and self._bytes + size <= BYTES):
            await self._wait()
        self._raise()
        self._count += 1
        self._bytes += size
        self._sent.append((self._count, message.place))
        one = self._open[self._count] = _Open(message, current_time() + _ANSWER_TIMEOUT)
        await self._put(self._count, one)

    async def settled(self) -> None:
        """Return when each message is confirmed. Raises what the stream refused for good."""
        while self._open and self._error is None:
            await self._wait()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    async def _wait(self) -> None:
        self._changed = Event()
        await self._changed.wait()

    async def _put(self, number: int, one: _Open) -> None:
        connection, message = self._connection, one.message
        if not connection.is_connected:
            return
        sizes = f"{len(message.headers)} {len(message.headers) + len(message.body)}"
        head = f"HPUB {message.subject} {self._inbox}.{number} {sizes}\r\n".encode()
        try:
            await connection._send_command(head + message.headers + message.body + b"\r\n")  # noqa: SLF001 - see link.py
            await connection._flush_pending()  # noqa: SLF001
        except (nats.errors.Error, OSError):
            one.due = current_time() + _PAUSE  # the connection was lost just now

    def _receive(self, frames: Sequence[AnyFrame]) -> None:
        for subject, _, raw_headers, body in frames:
            number = int(subject.rpartition(b".")[2])
            one = self._open.get(number)
            if one is not None:
                self._judge(number, one, raw_headers, body)
        self._changed.set()

    def _judge(self, number: int, one: _Open, raw_headers: bytes, body: bytes) -> None:
        if raw_headers:  # 503: nobody has a subscription for it
            self._later(one, f"no stream takes {one.message.subject}, or JetStream is away")
            return
        ack = msgspec.json.decode(body, type=_PubAck)
        if ack.error is not None:
            error = ack.error
            if error.code == SERVICE_UNAVAILABLE or error.err_code in _FULL:
                self._later(one, f"stream {self._stream} does not take it now: {error.description}")
            else:
                self._error = JetStreamError(one.message.subject, error.code, error.err_code, error.description)
            return
        if ack.stream != self._stream:
            taken = f"expected stream {self._stream!r}, but {ack.stream!r} took the message"
            self._error = Conflict(f"subject {one.message.subject!r}: {taken}")
            return
        self.waits_for = ""
        del self._open[number]
        self._bytes -= len(one.message.body)
        self._confirmed(one.message, ack.duplicate)

    def _later(self, one: _Open, why: str) -> None:
        self.waits_for = why
        one.due = current_time() + _PAUSE

    async def _send_again(self) -> None:
        while True:
            await anyio.sleep(_LOOK)
            if not self._connection.is_connected:
                self.waits_for = "NATS is away"
                continue
            now = current_time()
            for number, one in [each for each in self._open.items() if each[1].due <= now]:
                if missing := refusal(self._connection, one.message.subject):
                    self._error = Refused(f"publishing to {one.message.subject}: {missing}")
                    self._changed.set()
                    return
                one.due = now + _ANSWER_TIMEOUT
                await self._put(number, one)
