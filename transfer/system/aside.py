"""Work that may take for ever, in a daemon thread of its own: the thread that asks for it goes on.

Lines on standard error and in the application's log are such work: a pipe that nobody reads is full, and a handler may
wait for a lock whose owner waits for the thread that asks.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from transfer.system.forks import in_each_child, is_to_be_forked
from transfer.system.native import Flag, original, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

_MOST = 100
"""Jobs that wait behind one that does not end. More are left out."""


class Aside:
    """Does jobs one after the other. Its thread lives as long as there are jobs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.begin_anew()
        in_each_child(self.begin_anew)

    def begin_anew(self) -> None:
        """Forget all jobs, in a child of a fork: they are the parent's."""
        self._lock = original("_thread", "RLock")()
        self._jobs: deque[tuple[Callable[[], None], Flag]] = deque()
        """The first one is being done."""
        self._runs = False
        self._began = 0.0

    def do(self, job: Callable[[], None], patience: float = 0.0) -> bool:
        """Have a job done, and wait for its end for `patience` seconds, or not at all behind a job that hangs.

        Returns False when there is no thread for it. The job must not raise.
        """
        if is_to_be_forked():
            return False
        done = Flag()
        with self._lock:
            if len(self._jobs) >= _MOST:
                return True
            hangs = bool(self._jobs) and time.monotonic() - self._began > patience
            self._jobs.append((job, done))
        if not self._start():
            return False
        if patience and not hangs:
            done.wait(patience)
        return True

    def settle(self, patience: float) -> None:
        """Wait until all that was asked for is done, for `patience` seconds, or not at all when a job hangs."""
        with self._lock:
            if not self._jobs or time.monotonic() - self._began > patience:
                return
            last = self._jobs[-1][1]
        last.wait(patience)

    def _start(self) -> bool:
        with self._lock:
            if self._runs:
                return True
            self._runs, self._began = True, time.monotonic()
            try:
                start_thread(partial(self._run, self._lock, self._jobs), self._name)
            except RuntimeError:  # the interpreter is ending, or the system has no thread left
                self._jobs.clear()
                self._runs = False
            return self._runs

    def _run(self, lock: AbstractContextManager[Any], jobs: deque[tuple[Callable[[], None], Flag]]) -> None:
        """Do these jobs; those of a time after `begin_anew` are another thread's."""
        while True:
            with lock:
                if not jobs:
                    self._runs = self._runs and jobs is not self._jobs
                    return
                job, done = jobs[0]
                self._began = time.monotonic()
            with suppress(Exception):
                job()
            with lock:
                jobs.popleft()
            done.set()
