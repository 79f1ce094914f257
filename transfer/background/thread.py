"""The thread that sends: its event loop, its connection, and the bundles that are on their way.

It is a real thread wherever it is started, and makes its loop itself. It keeps to itself what goes wrong in it: one
bundle's trouble is that bundle's, a fault of ours begins the sending anew, and after some of them the outbox is closed,
so that nobody waits for a thread that does nothing.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from transfer.background.calls import Calls
from transfer.background.drops import Dropped, reason_of, sentence_of
from transfer.background.lane import Limits
from transfer.entries.stub import stub_of
from transfer.errors import PublishUnconfirmed, Refused, TransferError, Unavailable
from transfer.jetstream.connection import open_connection, pause
from transfer.jetstream.outage import Outage
from transfer.publishing import ATTEMPT_TIMEOUT, HEADERS_ROOM, Publication, confirm, publication_of
from transfer.system.inside import SENDING
from transfer.system.native import Flag, get_ident, run_in_loop, start_thread
from transfer.system.stderr import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from transfer.background.calls import Call
    from transfer.background.lane import Bundle
    from transfer.background.outbox import Outbox
    from transfer.names import Names
    from transfer.nats_settings import NatsSettings

_LINGER = 0.005
"""Seconds in which others may come that go into the same bundle."""
_BUNDLE_BYTES = 512 * 1024
_PER_LOGGER = 64
"""Bundles of one logger on their way at a time."""
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_LOOK, _SLEEP = 0.05, 1.0
"""Seconds between two looks for a connection, and for entries whose caller was interrupted before it could tell."""
_FAULTS = 3
"""Errors of our own in a row that end the thread."""


class SendingThread:
    """Takes bundles from the outbox and sends each until it is confirmed, or JetStream can never take it."""

    def __init__(
        self,
        settings: NatsSettings,
        names: Names,
        outbox: Outbox,
        bundle_entries: int,
        on_end: Callable[[], None],
        *,
        on_drop: Callable[[], None] = lambda: None,
        lifetime: float | None = None,
    ) -> None:
        self._on_end = on_end
        self._on_drop = on_drop
        self._lifetime = lifetime
        self.retries = 0
        self.last_error = ""
        self.leaving = False
        """It ends when nothing waits, or has ended: the sender looks for a thread again with the next entry."""
        self.has_failed = False
        """It got no event loop, as when the process has no file descriptor left."""
        self._settings = settings
        self._names = names
        self._outbox = outbox
        self._bundle_entries = bundle_entries
        self._connection: Client | None = None
        self._jetstream: JetStreamContext | None = None
        self._failure: TransferError | None = None
        self._faults = 0
        self._calls = Calls(self._connected_within)
        self._idents: set[int] = set()
        self._is_over = False
        self._must_end = False
        self._ended = Flag()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._hurried = asyncio.Event()
        self._ending = asyncio.Event()

    # The requests of other threads.

    @property
    def connected(self) -> bool:
        """Whether entries can be sent now."""
        return self._connection is not None and self._connection.is_connected

    def start(self) -> None:
        """Run in a thread of its own. Raises RuntimeError where none can be started any more."""
        start_thread(self.run, "transfer")

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        return not self._ended.is_set

    def is_current(self) -> bool:
        """Return whether it is this thread."""
        return bool(self._idents) and get_ident() in self._idents

    def join(self, timeout: float) -> None:
        """Wait until it has ended."""
        if not self.is_current():
            self._ended.wait(timeout)

    def hurry(self) -> None:
        """Let what waits go at once."""
        self._tell(self._hurried.set)
        self._tell(self._woken.set)

    def end(self) -> None:
        """End now."""
        self._must_end = True
        self._tell(self._ending.set)

    def end_when_idle(self) -> None:
        """End when nothing waits."""
        self.leaving = True
        self._tell(self._woken.set)

    def stay(self) -> bool:
        """Do not end; return whether that is not too late."""
        with self._outbox.lock:
            self.leaving = self._is_over or self._must_end
            return not self.leaving

    def call(self, call: Call) -> None:
        """Have a call run. Raises `TransferError` when it is too late; what is accepted ends, whatever happens."""
        with self._outbox.lock:
            if self._is_over:
                raise TransferError("expected a call before the end, but what sends has ended")
            self._calls.waiting.add(call)
        self._tell(self._calls.begin)

    def cancel(self, call: Call) -> None:
        """Stop a call that nobody waits for any more."""
        if call.task is not None:
            self._tell(call.task.cancel)

    def _tell(self, function: Callable[[], object]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed: it has ended
                self._loop.call_soon_threadsafe(function)

    # The thread.

    def run(self) -> None:
        """Run the loop, in whatever thread this is."""
        self._idents = {get_ident(), threading.get_ident()}
        SENDING.update(self._idents)
        try:
            run_in_loop(self._main, say)
        except Exception as error:  # noqa: BLE001 - no event loop is to be had; nobody else sees this thread
            self.has_failed, self.last_error = True, sentence_of(error)
        finally:
            self._end_calls(TransferError("what sends has ended before the call was answered"), over=True)
            SENDING.difference_update(self._idents)
            self._idents = set()
            self._on_end()
            self._ended.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not self._must_end:
            self._ending.clear()
            try:
                await self._live()
            except ExceptionGroup as failed:
                self._fault(_first_leaf(failed))
                await pause(_PAUSE * self._faults)
            else:
                return

    def _fault(self, error: Exception) -> None:
        """Say what went wrong with us: nobody else sees this thread."""
        self._faults += 1
        self.last_error = sentence_of(error)
        self._end_calls(TransferError(f"sending had to begin anew: {self.last_error}"))
        if self._faults < _FAULTS:
            say(f"transfer: sending begins anew: {self.last_error}")
            return
        self._must_end = True
        left = self._outbox.close()
        self._outbox.first_drops.clear()
        say(f"transfer: sending has ended: {self.last_error}; {left} entries were not confirmed and are dropped")

    def _end_calls(self, error: TransferError, *, over: bool = False) -> None:
        with self._outbox.lock:
            self._is_over = self._is_over or over
            self.leaving = self.leaving or over
            calls = self._calls.take()
        for call in calls:
            call.end(error)

    async def _live(self) -> None:
        async with asyncio.TaskGroup() as group:
            parts = self._keep_connected, self._send, self._calls.answer
            tasks = [group.create_task(part()) for part in parts]
            if not self._must_end:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), self._lifetime)
            for task in tasks:
                task.cancel()

    async def _keep_connected(self) -> None:
        outage = Outage(self._settings.hosts_shown)
        while True:
            try:
                async with open_connection(self._settings, name="transfer", outage=outage) as connection:
                    self._connection, self._jetstream = connection, connection.jetstream()
                    self._failure = None
                    while not connection.is_closed:
                        await pause(_LONGEST_PAUSE / 4)
            except Exception as error:  # noqa: BLE001 - whatever it is, without a connection nothing is sent
                self.last_error = sentence_of(error)
                self._failure = error if isinstance(error, TransferError) else None
            self._connection = None
            await pause(_LONGEST_PAUSE / 4)

    async def _connected_within(self, timeout: float) -> JetStreamContext:
        deadline = time.monotonic() + timeout
        while not self.connected or self._jetstream is None:
            if isinstance(self._failure, Refused):
                raise self._failure
            if time.monotonic() > deadline:
                raise self._failure or Unavailable(f"NATS is not connected: {self.last_error or 'it does not answer'}")
            await pause(_LOOK)
        return self._jetstream

    async def _send(self) -> None:
        async with asyncio.TaskGroup() as group:
            for bundle in self._outbox.on_their_way():  # a fault has ended the sending of them
                group.create_task(self._deliver(group, bundle, sent_before=True))
            while True:
                await self._until_ready()
                for bundle in self._outbox.take(self._limits):
                    group.create_task(self._deliver(group, bundle, sent_before=False))

    async def _until_ready(self) -> None:
        while not (most := self._outbox.look(self._wake, self._limits)) or not self.connected:
            if self._leaves():
                self._ending.set()
                await asyncio.Event().wait()
            await _set_within(self._woken, _LOOK if most else _SLEEP)
        if most < self._bundle_entries:  # others may come that go into the same bundle
            await _set_within(self._hurried, _LINGER)

    def _wake(self) -> None:
        if self._loop is not None and asyncio._get_running_loop() is self._loop:  # noqa: SLF001 - it is for loops
            self._woken.set()
        else:
            self._tell(self._woken.set)

    def _leaves(self) -> bool:
        """Return whether it ends because nothing waits: from then on nothing is put in for it any more."""
        with self._outbox.lock:
            self._is_over = self._is_over or (self.leaving and self._outbox.is_idle)
            return self._is_over

    @property
    def _limits(self) -> Limits:
        payload = self._connection.max_payload if self._connection else _BUNDLE_BYTES
        return Limits(_PER_LOGGER, self._bundle_entries, min(payload - 2 * HEADERS_ROOM, _BUNDLE_BYTES))

    async def _deliver(self, group: asyncio.TaskGroup, bundle: Bundle, *, sent_before: bool) -> None:
        publication = await self._made(bundle)
        if publication is None:
            self._finish(bundle, Dropped.REFUSED)
            return
        publication, backoff, is_stub = replace(publication, sent_before=sent_before), _PAUSE, False
        while True:
            jetstream = await self._until_connected()
            try:
                await confirm(jetstream, publication, ATTEMPT_TIMEOUT)
            except Exception as error:  # noqa: BLE001 - what nats-py raises while a connection goes is no end
                self.last_error = sentence_of(error)
                why = reason_of(error)
                if why is Dropped.TOO_LARGE and len(bundle.entries) > 1:
                    # the first part has the id of the whole: were that stored, it is a duplicate of more, never of less
                    for part in self._outbox.split(bundle):
                        group.create_task(self._deliver(group, part, sent_before=publication.sent_before))
                    return
                if why is Dropped.TOO_LARGE and not is_stub and (stub := stub_of(bundle.entries[0].body)):
                    publication, is_stub = replace(publication, body=stub, content={}), True
                    continue
                if why is not None:
                    self._finish(bundle, why)
                    return
                self.retries += 1
                if isinstance(error, PublishUnconfirmed):
                    publication = replace(publication, sent_before=True)
                await pause(backoff)
                backoff = min(2 * backoff, _LONGEST_PAUSE)
            else:
                self._faults = 0
                self._finish(bundle, Dropped.TOO_LARGE if is_stub else None)
                return

    def _finish(self, bundle: Bundle, why: Dropped | None = None) -> None:
        self._outbox.finish(bundle, why)
        if self.leaving:
            self._woken.set()  # it may have been the last
        if self._outbox.first_drops:
            self._on_drop()

    async def _until_connected(self) -> JetStreamContext:
        while not self.connected or self._jetstream is None:
            await pause(_LOOK)
        return self._jetstream

    async def _made(self, bundle: Bundle) -> Publication | None:
        """Return the message, or None when it cannot be made, which only a fault of ours or memory could be."""
        for attempt in range(1, _FAULTS + 1):
            try:
                return publication_of(self._names, bundle.lane.key, bundle.entries, compress=True)
            except Exception as error:  # noqa: BLE001 - as above
                self.last_error = f"a message cannot be made: {sentence_of(error)}"
                await pause(_PAUSE * attempt)
        return None


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, and clear it. `asyncio.wait_for` of Python 3.11 ignores a cancellation beside the event."""
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
    event.clear()


def _first_leaf(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
