"""The senders of a process at its forks and at its end.

A child of a fork begins anew, and the parent sends the entries that were queued before. At the end of the process the
queues are flushed, by all senders at once and for `EXIT_TIMEOUT` seconds in all; later entries are sent one by one.
"""

from __future__ import annotations

import atexit
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from transfer.system import inside
from transfer.system.forks import in_each_child, is_child, look
from transfer.system.stderr import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXIT_TIMEOUT = 2.0
"""Seconds that the end of the process is held up at most."""
_LAST = 0.1
"""Seconds for the threads to end, also when no time is left."""


class TimeLeft:
    """The seconds that an application may still be held up: at its end, and before the first fork of uWSGI."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Be far away, as it is in a child."""
        self.has_begun = False
        self.seconds = EXIT_TIMEOUT

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the time of the block."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds = max(0.0, self.seconds - (time.monotonic() - started))


class Member(Protocol):
    """A sender, as its process sees it."""

    @property
    def has_thread(self) -> bool:
        """Whether a thread sends what is queued."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is queued."""

    def hurry(self) -> None:
        """Let the thread send at once."""

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the thread has sent what is queued."""

    def send_here(self, time_left: TimeLeft, most: float) -> None:
        """Send what is queued without a thread, for `most` seconds."""

    def end_thread(self) -> None:
        """Have the thread end."""

    def join_thread(self, deadline: float) -> None:
        """Wait until the thread has ended."""

    def give_up(self) -> None:
        """Drop what is left, and say so."""

    def begin_anew(self) -> None:
        """Be empty, in a child."""


ending, loading = TimeLeft(), TimeLeft()
senders: WeakSet[Member] = WeakSet()
running: set[Member] = set()
"""Senders that have a thread, or something queued: it is sent also when the application holds them no more."""
_finalizers: dict[str, Any] = {}


def start(member: Member) -> None:
    """Note that a thread begins to send."""
    running.add(member)


def in_child() -> None:
    """Begin anew in a child of a fork."""
    ending.begin_anew()
    running.clear()
    inside.in_child()
    for member in list(senders):
        member.begin_anew()


in_each_child(in_child)


def flush_at_end_of_child() -> None:
    """Have the end of a child flush that is without `atexit`: those of multiprocessing, and of Celery's copy of it.

    Each child is told once; a child forgets what it was told before its work began.
    """
    process = sys.modules.get("multiprocessing.process")
    spawned = process is not None and process.parent_process() is not None
    for package in ("multiprocessing", "billiard"):
        util = sys.modules.get(f"{package}.util")
        if util is None or not (is_child() or spawned):
            continue
        known = _finalizers.get(package)
        if known is None or not known.still_active():
            _finalizers[package] = util.Finalize(None, close_all, exitpriority=100)


def close_all() -> None:
    """Send what is queued, while there is time; the trouble of one sender ends no other."""
    look()
    ending.has_begun = True
    members = list({*running, *senders})
    with_thread = [member for member in members if member.has_thread]
    without = [member for member in members if not member.has_thread and not member.is_idle]
    for member in with_thread:
        _guarded(member.hurry)
    for number, member in enumerate(without):
        _guarded(member.send_here, ending, ending.seconds / (len(without) - number))
    for member in with_thread:
        with ending.counted():
            _guarded(member.flush, ending.seconds)
    for member in members:
        _guarded(member.end_thread)
    deadline = time.monotonic() + max(_LAST, ending.seconds)
    for member in members:
        _guarded(member.join_thread, deadline)
    for member in members:
        _guarded(member.give_up)


def _guarded(function: Callable[..., object], *given: object) -> None:
    try:
        function(*given)
    except Exception as error:  # noqa: BLE001 - a fault of ours; the other senders are still to be closed
        say(f"transfer: at the end of the process: {type(error).__name__}: {error}")


atexit.register(close_all)  # now: what other libraries register later runs before it, and may still send
