"""The engine behind `send`: a daemon thread with an event loop and a connection of its own, started by the first entry.

Entries that wait go together as one bundle, which is sent until it is confirmed: the identities of its entries make
that harmless, however often and however late. Nothing here ever runs on a loop of the application.
"""

from __future__ import annotations

import asyncio
import atexit
import gzip
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

import msgspec

from transfer.connection import open_connection, pause
from transfer.errors import (
    Conflict,
    InvalidEntry,
    InvalidKey,
    PublishUnconfirmed,
    Refused,
    TransferError,
    Unavailable,
    UnknownLogger,
)
from transfer.lenient import encode_anything
from transfer.names import Names
from transfer.outbox import Bundle, Dropped, Outbox
from transfer.publishing import ATTEMPT_TIMEOUT, HEADERS_ROOM, Publication, confirm
from transfer.wire import BUNDLE, CONTENT_ENCODING, CONTENT_TYPE, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from transfer.nats_settings import NatsSettings
    from transfer.options import QueueSettings

_T = TypeVar("_T")
EXIT_TIMEOUT = 2.0
"""Seconds that the end of the process is held up at most."""
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


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of the entries that were sent from this process."""

    queued: int
    """Neither confirmed nor dropped yet."""
    queued_bytes: int
    published: int
    dropped: Mapping[str, int]
    """By reason: see `Dropped`."""
    retries: int
    connected: bool
    last_error: str


class Sender:
    """Sends entries in the background. `send` returns at once and never raises, from any thread.

    Order: as sent, of one logger and within a bundle; bundles of it may overtake each other when one is sent again.
    What is queued in a child of `os.fork` is the child's own; what was queued before is sent by the parent.
    """

    def __init__(self, settings: NatsSettings, namespace: str, queue: QueueSettings) -> None:
        self._names = Names(namespace)
        self._settings = settings
        self._bundle_entries = queue.bundle_entries
        self._outbox = Outbox(queue.overflow, queue.max_entries, queue.max_bytes)
        self._start_lock = threading.RLock()
        self._thread: _Thread | None = None
        self._ended = False
        _senders.add(self)

    def send(
        self,
        key: str,
        data: object,
        *,
        metadata: object = None,
        timestamp: object = None,
        important: bool = False,
    ) -> None:
        """Queue an entry. What cannot be stored in it is stored as its `repr`; what is dropped is counted.

        An important one finds room in the tenth of the queue that is kept for them.
        """
        try:
            self._names.stream(key)
        except InvalidKey:
            self._outbox.drop(Dropped.INVALID_KEY)
            return
        entry_id = new_id()
        body = encode_anything(data, time.time_ns() if timestamp is None else timestamp, metadata, entry_id)
        thread = self._thread or self._start()
        may_block = thread is not None and threading.get_ident() != thread.ident
        self._outbox.add(key, entry_id, body, important=important, may_block=may_block)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until what was queued until now is confirmed or dropped; return whether it is, within `timeout`."""
        if self._thread is None or not self._thread.is_alive() or self.is_own_thread(threading.get_ident()):
            return self._outbox.entries == 0
        self.hurry()
        return self._outbox.flush(timeout)

    def call(self, function: Callable[[JetStreamContext], Coroutine[Any, Any, _T]], timeout: float) -> _T:
        """Return what a coroutine on the sender's own connection returns, and raise what it raises.

        Raises `Refused`, or `Unavailable` when there is no connection within `timeout` seconds.
        """
        thread = self._thread or self._start()
        if thread is None or self.is_own_thread(threading.get_ident()):
            raise TransferError("expected a call before the end, from another thread than that which sends")
        future = asyncio.run_coroutine_threadsafe(thread.call(function, timeout), thread.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def hurry(self) -> None:
        """Let what waits go at once, without waiting for it."""
        if self._thread is not None:
            self._thread.hurry()

    def is_own_thread(self, ident: int) -> bool:
        """Return whether a thread is the one that sends."""
        return self._thread is not None and self._thread.ident == ident

    def close(self, timeout: float = EXIT_TIMEOUT) -> None:
        """Flush and end. What is still unconfirmed then is counted as dropped, and said once on standard error."""
        if self._ended:
            return
        deadline = time.monotonic() + timeout
        self.flush(timeout)
        self._ended = True
        _running.discard(self)
        left, thread = self._outbox.close(), self._thread
        if thread is not None and thread.is_alive():
            thread.end()
            if threading.get_ident() != thread.ident:
                thread.join(max(0.1, deadline - time.monotonic()))
        if left:
            error = thread.last_error if thread else ""
            _say(f"transfer: {left} entries were not confirmed in time and are dropped: {error or 'no time left'}")

    def close_when_empty(self) -> None:
        """Take nothing more, and end when nothing waits, without waiting for it; an exit before that flushes it."""
        self._outbox.refuse()
        if self._thread is None:
            self._ended = True
        else:
            self._thread.end_when_empty()

    def stats(self) -> Stats:
        """Return the counters of this process."""
        outbox, thread = self._outbox, self._thread
        with outbox.lock:
            return Stats(
                queued=outbox.entries,
                queued_bytes=outbox.bytes,
                published=outbox.published,
                dropped={why.value: count for why, count in outbox.dropped.items()},
                retries=thread.retries if thread else 0,
                connected=thread is not None and thread.connected,
                last_error=thread.last_error if thread else "",
            )

    def _start(self) -> _Thread | None:
        with self._start_lock:
            if self._thread is None and not self._ended:
                self._thread = _Thread(
                    self._settings, self._names, self._outbox, self._bundle_entries, lambda: _running.discard(self)
                )
                try:
                    self._thread.start()  # a signal handler that logs meanwhile finds it there
                except RuntimeError:  # the interpreter is ending
                    self._ended = True
                    self._thread = None
                    self._outbox.close()
                    return None
                _running.add(self)
                _at_end_of_child()
            return self._thread

    # Forks: both locks are held over one, so that the child finds the outbox whole.

    def _before_fork(self) -> None:
        self._start_lock.acquire()
        self._outbox.lock.acquire()

    def _after_fork(self) -> None:
        self._outbox.lock.release()
        self._start_lock.release()

    def _in_child(self) -> None:
        _abandoned.append(self._thread)  # its sockets are the parent's: nothing may close them with a word
        self._thread = None
        self._start_lock = threading.RLock()
        self._outbox.forked()


class _Thread(threading.Thread):
    """The loop, its connection, and the bundles that are on their way."""

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
        self._connection: Client | None = None
        self._jetstream: JetStreamContext | None = None
        self.loop = asyncio.new_event_loop()
        self._failure: TransferError | None = None
        self._woken = asyncio.Event()
        self._hurried = asyncio.Event()
        self._ending = asyncio.Event()
        self._compress = True
        self._until_empty = False

    @property
    def connected(self) -> bool:
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

    def run(self) -> None:
        """Run the loop."""
        try:
            with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
                runner.run(self._main())
        finally:
            self._on_end()

    async def _main(self) -> None:
        tasks = [asyncio.create_task(one) for one in (self._keep_connected(), self._send())]
        ended = asyncio.create_task(self._ending.wait())
        await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        ended.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                self.last_error = _sentence(result)
                _say(f"transfer: sending has ended: {self.last_error}")

    async def _keep_connected(self) -> None:
        while True:
            try:
                async with open_connection(self._settings, name="transfer") as connection:
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
        if self._compress and len(body) >= _COMPRESS_FROM:
            packed = gzip.compress(body, 1, mtime=0)
            if len(packed) <= _PAYS * len(body):
                content[CONTENT_ENCODING] = "gzip"
                body = packed
        key = bundle.lane.key
        names = self._names
        return Publication(
            key, names.subject(key), names.stream(key), first.id, 0, body, sent_before=False, content=content
        )


_REASONS = {
    UnknownLogger: Dropped.UNKNOWN_LOGGER,
    InvalidEntry: Dropped.TOO_LARGE,
    Conflict: Dropped.REFUSED,
}


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, TransferError) else f"{type(error).__name__}: {error}"


def _say(text: str) -> None:
    """Write to standard error, which a daemon may have closed."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{text}\n")


# --- forks and the end of the process

_senders: WeakSet[Sender] = WeakSet()
_running: set[Sender] = set()
"""Those that have a thread: nobody else may hold them any more, and what waits in them is sent."""
_forking: list[Sender] = []
_abandoned: list[_Thread | None] = []
_forked = False


def _before_fork() -> None:
    _forking[:] = list(_senders)
    for sender in _forking:
        sender._before_fork()  # noqa: SLF001 - of this file


def _after_fork() -> None:
    for sender in _forking:
        sender._after_fork()  # noqa: SLF001 - as above
    _forking.clear()


def _in_child() -> None:
    global _forked  # noqa: PLW0603 - of this process
    _forked = True
    for sender in _forking:
        sender._in_child()  # noqa: SLF001 - as above
    _forking.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)


def _at_end_of_child() -> None:
    """Have the end of a child flush that is without `atexit`: those of multiprocessing, and of Celery's copy of it."""
    process = sys.modules.get("multiprocessing.process")
    spawned = process is not None and process.parent_process() is not None
    for package in ("multiprocessing", "billiard"):
        util = sys.modules.get(f"{package}.util")
        if util is not None and (_forked or spawned):
            util.Finalize(None, _close_all, exitpriority=100)


def _close_all() -> None:
    deadline = time.monotonic() + EXIT_TIMEOUT
    for sender in list(_running):
        sender.close(max(0.0, deadline - time.monotonic()))


atexit.register(_close_all)  # now: what other libraries register later runs before it, and may still send
