"""Messages published byte for byte as they were: nats-py takes only headers that are tokens and text."""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import msgspec
from anyio import Event
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random

from transfer.errors import Conflict, JetStreamError, Refused, Unavailable
from transfer.jetstream.api import SERVICE_UNAVAILABLE, ApiError
from transfer.jetstream.permissions import refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.client import Client
    from nats.aio.msg import Msg

_ANSWER_TIMEOUT = 2.0
_GIVE_UP = 5.0


class _PubAck(msgspec.Struct):
    stream: str = ""
    error: ApiError | None = None


class RawPublisher:
    """Publishes to the subject of one logger and waits until its stream confirms."""

    def __init__(self, connection: Client, subject: str, stream: str) -> None:
        self._connection = connection
        self._subject = subject
        self._stream = stream
        self._inbox = connection.new_inbox()
        self._numbers = itertools.count()
        self._waiting: dict[str, Event] = {}
        self._answers: dict[str, bytes] = {}
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_exponential(multiplier=0.1, max=2.0) + wait_random(0, 0.025),
            stop=stop_after_delay(_GIVE_UP),
            sleep=anyio.sleep,
            reraise=True,
        )

    @property
    def max_bytes(self) -> int:
        """The bytes that a message may have, headers included: the server closes the connection when it has more."""
        return self._connection.max_payload

    async def publish(self, headers: bytes, body: bytes) -> None:
        """Return when the stream has the message; until then the same message is sent again and again.

        Raises JetStreamError when JetStream refuses it, Conflict when another stream took it, Refused when something
        is not permitted, and Unavailable when there was no answer for some seconds: then the stream may have it.
        """
        await self._retrying(self._try, headers, body)

    async def _try(self, headers: bytes, body: bytes) -> None:
        answer = await self._ask(headers, body)
        if not answer:
            raise Unavailable(f"nobody takes {self._subject}: expected stream {self._stream!r} to do so")
        ack = msgspec.json.decode(answer, type=_PubAck)
        if ack.error is not None:
            error = ack.error
            if error.code == SERVICE_UNAVAILABLE:
                raise Unavailable(f"publishing to {self._subject}: JetStream answered {error.description}")
            raise JetStreamError(self._subject, error.code, error.err_code, error.description)
        if ack.stream != self._stream:
            raise Conflict(f"subject {self._subject!r}: expected stream {self._stream!r}, but {ack.stream!r} took it")

    async def _ask(self, headers: bytes, body: bytes) -> bytes:
        reply = f"{self._inbox}.{next(self._numbers)}"
        answered = self._waiting[reply] = Event()
        sizes = f"{len(headers)} {len(headers) + len(body)}"
        command = f"HPUB {self._subject} {reply} {sizes}\r\n".encode() + headers + body + b"\r\n"
        try:
            await self._connection._send_command(command)  # noqa: SLF001 - see above; a test shows when it changes
            await self._connection._flush_pending()  # noqa: SLF001
            with anyio.move_on_after(_ANSWER_TIMEOUT):
                await answered.wait()
                return self._answers.pop(reply)
        finally:
            self._waiting.pop(reply, None)
            self._answers.pop(reply, None)
        if missing := refusal(self._connection, self._subject):
            raise Refused(f"publishing to {self._subject}: expected JetStream to answer, but {missing}")
        raise Unavailable(f"publishing to {self._subject}: expected JetStream to answer, got nothing")

    async def _take(self, message: Msg) -> None:
        if (answered := self._waiting.get(message.subject)) is not None:
            self._answers[message.subject] = message.data
            answered.set()

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        subscription = await self._connection.subscribe(f"{self._inbox}.*", cb=self._take)
        try:
            yield
        finally:
            await subscription.unsubscribe()


@asynccontextmanager
async def publishing(connection: Client, subject: str, stream: str) -> AsyncIterator[RawPublisher]:
    """Give a publisher that receives JetStream's answers while the block lasts."""
    publisher = RawPublisher(connection, subject, stream)
    async with publisher._listening():  # noqa: SLF001 - it is of no use without
        yield publisher
