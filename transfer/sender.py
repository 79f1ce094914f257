"""The engine behind `send`: an outbox, and a daemon thread that empties it, started by the first entry.

Entries that wait go together as one bundle, which is sent until it is confirmed: the identities of its entries make
that harmless, however often and however late. Nothing here ever runs on a loop of the application. What belongs to the
process is here too: forks, and its end.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from transfer.errors import InvalidKey, TransferError
from transfer.inside import Making, is_making
from transfer.lenient import encode_anything
from transfer.names import Names
from transfer.outbox import Dropped, Outbox
from transfer.sending import SendingThread, say
from transfer.wire import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from nats.js import JetStreamContext

    from transfer.nats_settings import NatsSettings
    from transfer.options import QueueSettings

_T = TypeVar("_T")
EXIT_TIMEOUT = 2.0
"""Seconds that the end of the process is held up at most."""


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
        self._thread: SendingThread | None = None
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

        An important one finds room in the tenth of the queue that is kept for them. What is sent while an entry is
        made, by the application's own functions that are called for it, is left out: it would make the next one.
        """
        if is_making():
            return
        try:
            self._names.stream(key)
        except InvalidKey:
            self._outbox.drop(Dropped.INVALID_KEY)
            return
        entry_id = new_id()
        with Making():
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
            say(f"transfer: {left} entries were not confirmed in time and are dropped: {error or 'no time left'}")

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

    def _start(self) -> SendingThread | None:
        with self._start_lock:
            if self._thread is None and not self._ended:
                self._thread = SendingThread(
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


# --- forks and the end of the process

_senders: WeakSet[Sender] = WeakSet()
_running: set[Sender] = set()
"""Those that have a thread: nobody else may hold them any more, and what waits in them is sent."""
_forking: list[Sender] = []
_abandoned: list[SendingThread | None] = []
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
