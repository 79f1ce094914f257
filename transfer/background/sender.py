"""The engine behind `send`: an outbox, and a daemon thread that empties it, started by the first entry.

Entries that wait go together as one bundle, which is sent until it is confirmed: the identities of its entries make
that harmless, however often and however late. Nothing here ever runs on a loop of the application. After the
end of the process an entry is sent in the thread that it comes from.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from transfer.background import process
from transfer.background.calls import Call
from transfer.background.drops import Dropped, DropReport
from transfer.background.outbox import Outbox
from transfer.background.process import EXIT_TIMEOUT, TimeLeft, ending, loading
from transfer.background.thread import SendingThread
from transfer.entries.entry import new_id
from transfer.entries.lenient import encode_anything, is_true, safe_repr
from transfer.errors import TransferError
from transfer.names import Names, check_key
from transfer.options import Overflow
from transfer.system.forks import is_to_be_forked, look
from transfer.system.inside import is_making
from transfer.system.native import original
from transfer.system.stderr import say, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from nats.js import JetStreamContext

    from transfer.nats_settings import NatsSettings
    from transfer.options import QueueSettings

_T = TypeVar("_T")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0
"""Seconds before another thread is started after one that got no event loop."""
_MOST_KEYS = 1024
_LAST = 0.1
"""Seconds for the thread to end, also when no time is left."""
_abandoned: list[SendingThread | None] = []
"""Threads of the parent, in a child. They are kept: their sockets must not be closed with a word to the server."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The outcomes of the entries that were sent from this process."""

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
    A child of a fork sends the entries that it queues itself; the parent sends the earlier ones.
    """

    def __init__(self, settings: NatsSettings, namespace: str, queue: QueueSettings) -> None:
        self._names = Names(namespace)
        self._where = f"namespace {namespace!r} at {settings.hosts_shown}"
        self._settings = settings
        self._bundle_entries = queue.bundle_entries
        self._blocks = queue.overflow is Overflow.BLOCK
        self._outbox = Outbox(queue.overflow, queue.max_entries, queue.max_bytes)
        self._keys: set[str] = set()
        self._start_lock = original("_thread", "RLock")()
        self._thread: SendingThread | None = None
        self._ended = False
        self._failed: SendingThread | None = None
        """The last thread that got no event loop."""
        self._pause = _FIRST_PAUSE / 2
        self._may_start_at = 0.0
        self._report = DropReport(self._outbox, self._where)
        process.senders.add(self)

    def send(
        self,
        key: str,
        data: object,
        *,
        metadata: object = None,
        timestamp: object = None,
        important: object = False,
    ) -> None:
        """Queue an entry. A value that cannot be stored is stored as its `repr`; dropped entries are counted.

        An important one finds room in the tenth of the queue that is kept for them. A reason to drop is said on
        standard error when it occurs for the first time. Entries that the application's own
        functions send while they are called for an entry are left out: each would cause the next one.
        """
        if is_making():
            return
        entry_id = new_id()  # before anything of this object is touched: it notices that this is a child
        body = encode_anything(data, time.time_ns() if timestamp is None else timestamp, metadata, entry_id)
        self.put(key, entry_id, body, important if type(important) is bool else is_true(important))

    def put(self, key: str, entry_id: bytes, body: bytes, important: bool) -> None:
        """Queue an entry whose bytes are there."""
        outbox = self._outbox
        if (type(key) is str and key in self._keys) or self._takes(key):
            thread = self._thread
            if thread is None or thread.leaving:
                thread = self._start()
            if not outbox.add_at_once(key, entry_id, body, important):
                may_block = self._blocks and thread is not None and not thread.is_current()
                outbox.add(key, entry_id, body, important=important, may_block=may_block)
            if thread is None or thread.leaving:
                self._added_without_thread()
        if outbox.first_drops:
            self._say_new_drops()

    def _takes(self, key: str) -> bool:
        """Return whether a key can name a logger; an entry of any other is dropped."""
        if type(key) is str and key in self._keys:
            return True
        try:
            check_key(key)
        except Exception:  # noqa: BLE001 - whatever is given as a key
            self._outbox.drop(Dropped.INVALID_KEY, safe_repr(key)[:200])
            return False
        if len(self._keys) < _MOST_KEYS:
            self._keys.add(key)
        return True

    def _added_without_thread(self) -> None:
        if ending.has_begun:
            if not sys.is_finalizing():  # else no module can be imported any more, and no thread be waited for
                self.send_here(ending, ending.seconds)
            self._outbox.clear()
        elif is_to_be_forked():
            self.send_here(loading, loading.seconds)  # what is not sent in time waits for the end of the process
        else:  # the thread may have ended just before
            self._start()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until what was queued until now is confirmed or dropped; return whether it is, within `timeout`."""
        look()
        thread = self._thread
        if (thread is None or not thread.is_alive()) and not self._outbox.is_idle:
            thread = self._start()
        if thread is None or thread.is_current():
            return self._outbox.is_idle
        thread.hurry()
        is_flushed = self._outbox.flush(timeout)
        self._report.say_new(self._last_error)
        settle()
        return is_flushed

    def call(self, function: Callable[[JetStreamContext], Coroutine[Any, Any, _T]], timeout: float) -> _T:
        """Return what a coroutine on the sender's own connection returns, and raise what it raises.

        Raises `Refused`, or `Unavailable` when there is no connection within `timeout` seconds, and `TransferError`
        after the end.
        """
        look()
        thread = self._start()
        if thread is None or thread.is_current():
            raise TransferError("expected a call before the end, from another thread than that which sends")
        call = Call(function, timeout)
        thread.call(call)
        try:
            call.done.wait()
        except BaseException:
            thread.cancel(call)
            raise
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[no-any-return]

    def hurry(self) -> None:
        """Let what waits go at once, without waiting for it."""
        if self._thread is not None:
            self._thread.hurry()

    def close(self, timeout: float = EXIT_TIMEOUT) -> None:
        """Flush and end, for good. Unconfirmed entries and later ones are dropped, counted and reported."""
        look()
        if self._ended:
            return
        deadline = time.monotonic() + timeout
        self.flush(timeout)
        self._ended = True
        left = self._outbox.close()
        self.end_thread()
        self.join_thread(max(deadline, time.monotonic() + _LAST))
        self._report.say_end(left, self._last_error)

    def rest(self) -> None:
        """End the thread when nothing waits, without waiting for it; the next entry begins anew."""
        look()
        if self._thread is not None:
            self._thread.end_when_idle()

    def stats(self) -> Stats:
        """Return the counters of this process."""
        look()
        outbox, thread = self._outbox, self._thread
        with outbox.lock:
            return Stats(
                queued=outbox.entries,
                queued_bytes=outbox.bytes,
                published=outbox.published,
                dropped={why.value: count for why, count in outbox.dropped.items()},
                retries=thread.retries if thread else 0,
                connected=self.is_connected,
                last_error=self._last_error,
            )

    @property
    def is_connected(self) -> bool:
        """Whether entries can be sent now."""
        return self._thread is not None and self._thread.connected

    @property
    def _last_error(self) -> str:
        return self._thread.last_error if self._thread is not None else ""

    # The thread.

    def _start(self) -> SendingThread | None:
        """Return the thread that sends, None when there is none and can be none."""
        with self._start_lock:
            thread = self._thread
            if thread is not None and thread.stay():
                return thread
            if self._ended or self._outbox.is_closed or ending.has_begun or is_to_be_forked():
                return None
            if thread is not None and thread.has_failed and self._pauses_after(thread):
                return None
            thread = self._new_thread()
            try:
                self._thread = thread  # a signal handler that logs meanwhile finds it
                process.start(self)
                thread.start()
            except BaseException as error:
                self._thread = None
                thread.end()  # when it has begun all the same
                if not isinstance(error, RuntimeError):  # of a signal handler
                    raise
                return None  # the interpreter is ending, or the system has no thread left: what waits is kept
            process.flush_at_end_of_child()
            return thread

    def _pauses_after(self, failed: SendingThread) -> bool:
        """Return whether it is too early for another thread, after one that got no event loop: what waits is kept.

        The pause is twice as long after each of them, so that a process without file descriptors makes few threads.
        """
        now = time.monotonic()
        if failed is not self._failed:
            self._failed, self._pause = failed, min(2 * self._pause, _LONGEST_PAUSE)
            self._may_start_at = now + self._pause
            say(f"transfer: sending has failed, and is tried again: {failed.last_error} ({self._where})")
        return now < self._may_start_at

    def _new_thread(self, lifetime: float | None = None) -> SendingThread:
        before = self._thread
        thread = SendingThread(
            self._settings,
            self._names,
            self._outbox,
            self._bundle_entries,
            self._thread_has_ended,
            on_drop=self._say_new_drops,
            lifetime=lifetime,
        )
        if before is not None:
            thread.retries, thread.last_error = before.retries, before.last_error
        return thread

    def _say_new_drops(self) -> None:
        self._report.say_new(self._last_error)

    def _thread_has_ended(self) -> None:
        if self._outbox.is_idle:
            process.running.discard(self)

    @property
    def has_thread(self) -> bool:
        """Whether a thread sends what is queued."""
        return self._thread is not None and self._thread.is_alive()

    def end_thread(self) -> None:
        """Have the thread end now."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.end()

    def join_thread(self, deadline: float) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(max(0.0, deadline - time.monotonic()))

    # Without a thread.

    @property
    def is_idle(self) -> bool:
        """Whether nothing is queued."""
        return self._outbox.is_idle

    def send_here(self, time_left: TimeLeft, most: float) -> None:
        """Send what is queued, in this thread, for `most` seconds: there can or must be no other thread."""
        with self._start_lock, time_left.counted():
            seconds = min(most, time_left.seconds)
            if not seconds or self._outbox.is_idle:
                return
            here = self._thread = self._new_thread(seconds)
            here.end_when_idle()
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                here.run()
            else:
                with suppress(RuntimeError):  # as in `_start`
                    here.start()
                    here.join(seconds)

    def give_up(self) -> None:
        """Drop what is still queued at the end of the process, and say so. Later entries are sent all the same."""
        self._report.say_end(self._outbox.clear(), self._last_error)

    # Forks.

    def begin_anew(self) -> None:
        """Be empty, in a child of a fork."""
        _abandoned.append(self._thread)
        self._thread = None
        self._report.begin_anew()
        self._start_lock = original("_thread", "RLock")()
        self._outbox.forked()
        if self._ended:
            self._outbox.close()  # what the application has closed stays closed in its children
