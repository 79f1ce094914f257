"""Many publications on their way at once: the first attempt of each is one write, its confirmation one callback.

That takes a third of the time of nats-py's own requests. A publication that is not confirmed at once goes the slow
way of `confirm`, which handles all errors.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from nats import errors as nats_errors

from transfer.errors import PublishUnconfirmed, TransferError, Unavailable
from transfer.jetstream.connection import pause
from transfer.publishing import ATTEMPT_TIMEOUT, HEADERS_ROOM, Publication, confirm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    Confirmed = Callable[[Publication], None]

WINDOW = 1024
WINDOW_BYTES = 1 << 20
"""Less than nats-py keeps of what it could not write yet (2 MiB), or an outage would be an error."""
_CONFIRM_TIMEOUT = 5.0
_LOOK = 0.1


class _Ack(msgspec.Struct):
    stream: str = ""
    error: msgspec.Raw = msgspec.Raw()


_acks = msgspec.json.Decoder(_Ack)


class NotTaken(Exception):
    """Raised when JetStream refuses one publication; the whole run stops there."""

    def __init__(self, publication: Publication, error: TransferError) -> None:
        super().__init__(str(error))
        self.publication = publication


class _Sent(NamedTuple):
    publication: Publication
    at: float


class BulkPublisher:
    """Publishes until JetStream confirms; `confirmed` is told of each publication once.

    Order: as sent, unless one has to be sent again. Each is sent again, under its identity, for `timeout` seconds.
    """

    def __init__(self, connection: Client, confirmed: Confirmed, timeout: float) -> None:
        self._connection = connection
        self._jetstream = connection.jetstream()
        self._confirmed = confirmed
        self._timeout = timeout
        self._inbox = connection.new_inbox()
        self._sent: dict[str, _Sent] = {}
        self._count = 0
        self._open = 0
        self._bytes = 0
        self._room = asyncio.Event()
        self._again = asyncio.TaskGroup()

    @property
    def max_body(self) -> int:
        """Return the bytes that this server takes in one message."""
        return self._connection.max_payload - HEADERS_ROOM

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Publish for the length of the block, once; leaving it waits until each publication is confirmed.

        The first that JetStream does not take ends the block with a `NotTaken` in an ExceptionGroup.
        """
        answers = await self._connection.subscribe(f"{self._inbox}.*", cb=self._answered)
        try:
            async with self._again:
                overdue = self._again.create_task(self._send_overdue_again())
                yield
                while self._open:
                    await self._wait()
                overdue.cancel()
        finally:
            if not self._connection.is_closed:
                await answers.unsubscribe()

    async def send(self, publication: Publication) -> None:
        """Send when there is room for it."""
        while self._open and (self._open >= WINDOW or self._bytes + len(publication.body) > WINDOW_BYTES):
            await self._wait()
        self._open += 1
        self._bytes += len(publication.body)
        self._count += 1
        token = str(self._count)
        self._sent[token] = _Sent(publication, time.monotonic())
        try:
            await self._connection.publish(
                publication.subject, publication.body, f"{self._inbox}.{token}", publication.headers(1)
            )
        except nats_errors.Error:  # such as a buffer that an outage has filled
            self._send_again(token, maybe_stored=False)

    async def _wait(self) -> None:
        self._room.clear()
        await self._room.wait()

    async def _answered(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        sent = self._sent.get(token)
        if sent is None:
            return
        if _stream(message.data) == sent.publication.stream:
            del self._sent[token]
            self._finish(sent.publication)
        else:
            self._send_again(token, maybe_stored=False)

    async def _send_overdue_again(self) -> None:
        while True:
            await pause(_LOOK)
            before = time.monotonic() - ATTEMPT_TIMEOUT
            overdue = [token for token, sent in self._sent.items() if sent.at < before]
            for token in overdue:
                self._send_again(token, maybe_stored=True)

    def _send_again(self, token: str, *, maybe_stored: bool) -> None:
        publication = self._sent.pop(token).publication
        self._again.create_task(self._confirm(replace(publication, sent_before=maybe_stored)))

    async def _confirm(self, publication: Publication) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            while not self._connection.is_connected and time.monotonic() < deadline:
                await pause(_LOOK)
            try:
                await confirm(self._jetstream, publication, _CONFIRM_TIMEOUT)
            except (PublishUnconfirmed, Unavailable) as error:
                if time.monotonic() >= deadline:
                    raise NotTaken(publication, error) from error
                sent_before = publication.sent_before or isinstance(error, PublishUnconfirmed)
                publication = replace(publication, sent_before=sent_before)
                await pause(_LOOK)
            except TransferError as error:
                raise NotTaken(publication, error) from error
            else:
                self._finish(publication)
                return

    def _finish(self, publication: Publication) -> None:
        self._open -= 1
        self._bytes -= len(publication.body)
        self._room.set()
        self._confirmed(publication)


def _stream(answer: bytes) -> str:
    """Return the stream that has it; nothing when none has, or what answers is not JetStream."""
    try:
        ack = _acks.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return "" if ack.error else ack.stream
