"""The thread that sends: its event loop, its connection, and the bundles that are on their way."""

from __future__ import annotations

import asyncio
import gzip
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from transfer.connection import open_connection, pause
from transfer.errors import (
    Conflict,
    InvalidEntry,
    PublishUnconfirmed,
    Refused,
    TransferError,
    Unavailable,
    UnknownLogger,
)
from transfer.outage import Outage
from transfer.outbox import Bundle, Dropped
from transfer.publishing import ATTEMPT_TIMEOUT, HEADERS_ROOM, Publication, confirm
from transfer.wire import BUNDLE, CONTENT_ENCODING, CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from transfer.names import Names
    from transfer.nats_settings import NatsSettings
    from transfer.outbox import Outbox

_T = TypeVar("_T")
_LINGER = 0.005
"""Seconds in which others may come that go into the same bundle."""
_BUNDLE_BYTES = 512 * 1024
_WINDOW = 256
"""Acknowledgements that are waited for at a time."""
_PER_LOGGER = 64
"""Of them for one logger: one whose stream takes nothing holds up no other."""
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_COMPRESS_FROM = 4096
_PAYS = 0.75
"""Of its size, at most, a bundle has to have when it is compressed."""
_LOOK = 0.05
_REASONS = {
    UnknownLogger: Dropped.UNKNOWN_LOGGER,
    InvalidEntry: Dropped.TOO_LARGE,
    Conflict: Dropped.REFUSED,
}


class SendingThread(threading.Thread):
    """Takes bundles from the outbox and sends each until it is confirmed, or JetStream can never take it."""

    def __init__(
        self,
        settings: NatsSettings,
        names: Names,
        outbox: Outbox,
        bundle_entries: int,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(name="transfer", daemon=True)
        self._on_end = on_end
        self.retries = 0
        self.last_error = ""
        self._settings = settings
        self._names = names
        self._outbox = outbox
        self._bundle_entries = bundle_entries
        self._outage = Outage(settings.hosts_shown)
        self._connection: Client | None = None
        self._jetstream: JetStreamContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._made = threading.Event()
        self._failure: TransferError | None = None
        self._woken = asyncio.Event()
        self._hurried = asyncio.Event()
        self._ending = asyncio.Event()
        self._until_empty = False

    @property
    def connected(self) -> bool:
        """Whether entries can be sent now."""
        return self._connection is not None and self._connection.is_connected

    def hurry(self) -> None:
        """Let what waits go at once."""
        self._call(self._hurried.set)

    def end(self) -> None:
        """End now."""
        self._call(self._ending.set)

    def end_when_empty(self) -> None:
        """End when nothing waits."""
        self._until_empty = True
        self._call(self._woken.set)

    async def call(self, function: Callable[[JetStreamContext], Coroutine[Any, Any, _T]], timeout: float) -> _T:
        """See `Sender.call`."""
        deadline = time.monotonic() + timeout
        while not self.connected or self._jetstream is None:
            if isinstance(self._failure, Refused):
                raise self._failure
            if time.monotonic() > deadline:
                raise self._failure or Unavailable(f"NATS is not connected: {self.last_error or 'it does not answer'}")
            await pause(_LOOK)
        return await function(self._jetstream)

    def _call(self, function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed: it has ended
            self.loop.call_soon_threadsafe(function)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, which the thread makes: asyncio logs about it, and the application's handlers may be ours."""
        self._made.wait()
        assert self._loop is not None  # noqa: S101 - what was waited for
        return self._loop

    def _make_loop(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.SelectorEventLoop()
        self._made.set()
        return self._loop

    def run(self) -> None:
        """Run the loop."""
        try:
            with asyncio.Runner(loop_factory=self._make_loop) as runner:
                runner.run(self._main())
        finally:
            self._on_end()

    async def _main(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one) for one in (self._keep_connected(), self._send())]
                await self._ending.wait()
                for task in tasks:
                    task.cancel()
        except* Exception as failed:  # noqa: BLE001 - a fault of ours: said, for nobody else sees this thread
            self.last_error = _sentence(failed.exceptions[0])
            say(f"transfer: sending has ended: {self.last_error}")

    async def _keep_connected(self) -> None:
        while True:
            try:
                async with open_connection(self._settings, name="transfer", outage=self._outage) as connection:
                    self._connection, self._jetstream = connection, connection.jetstream()
                    self._failure = None
                    while not connection.is_closed:
                        await pause(_LONGEST_PAUSE / 4)
            except Exception as error:  # noqa: BLE001 - whatever it is, without a connection nothing is sent
                self.last_error = _sentence(error)
                self._failure = error if isinstance(error, TransferError) else None
            self._connection = None
            await pause(_LONGEST_PAUSE / 4)

    async def _send(self) -> None:
        window = asyncio.Semaphore(_WINDOW)
        async with asyncio.TaskGroup() as group:
            while True:
                await self._until_ready()
                bundles = self._outbox.take(_PER_LOGGER, self._bundle_entries, self._room)
                for bundle in bundles:
                    await window.acquire()
                    group.create_task(self._deliver(bundle)).add_done_callback(lambda _: window.release())

    async def _until_ready(self) -> None:
        def wake() -> None:
            self._call(self._woken.set)

        while not (most := self._outbox.look(wake, _PER_LOGGER)) or not self.connected:
            if self._until_empty and not self._outbox.entries:
                self._ending.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _LOOK if most else None)
            self._woken.clear()
        if most < self._bundle_entries:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), _LINGER)
            self._hurried.clear()

    @property
    def _room(self) -> int:
        limit = self._connection.max_payload if self._connection else _BUNDLE_BYTES
        return min(limit - 2 * HEADERS_ROOM, _BUNDLE_BYTES)

    async def _deliver(self, bundle: Bundle) -> None:
        publication, backoff = self._publication(bundle), _PAUSE
        while True:
            jetstream = await self._until_connected()
            try:
                await confirm(jetstream, publication, ATTEMPT_TIMEOUT)
            except (UnknownLogger, InvalidEntry, Conflict) as error:
                self.last_error = str(error)
                self._outbox.finish(bundle, _REASONS[type(error)])
                return
            except Exception as error:  # noqa: BLE001 - what nats-py raises while a connection goes is no end
                self.last_error = _sentence(error)
                self.retries += 1
                if isinstance(error, PublishUnconfirmed):
                    publication = replace(publication, sent_before=True)
                await pause(backoff)
                backoff = min(2 * backoff, _LONGEST_PAUSE)
            else:
                self._outbox.finish(bundle)
                return

    async def _until_connected(self) -> JetStreamContext:
        while not self.connected or self._jetstream is None:
            await pause(_LOOK)
        return self._jetstream

    def _publication(self, bundle: Bundle) -> Publication:
        """Return the message: the entry itself, or several in one; the same bytes in every attempt."""
        first = bundle.entries[0]
        content: dict[str, str] = {}
        body = first.body
        if len(bundle.entries) > 1:
            content[CONTENT_TYPE] = BUNDLE
            body = msgspec.msgpack.encode([msgspec.Raw(entry.body) for entry in bundle.entries])
        if len(body) >= _COMPRESS_FROM:
            packed = gzip.compress(body, 1, mtime=0)
            if len(packed) <= _PAYS * len(body):
                content[CONTENT_ENCODING] = "gzip"
                body = packed
        key = bundle.lane.key
        names = self._names
        return Publication(
            key, names.subject(key), names.stream(key), first.id, 0, body, sent_before=False, content=content
        )


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, TransferError) else f"{type(error).__name__}: {error}"


def say(text: str) -> None:
    """Write a line to standard error, which a daemon may have closed."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{text}\n")
