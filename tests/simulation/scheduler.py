"""Virtual time: what happens next, in which process, and what a coroutine of the service waits for meanwhile.

Coroutines are driven by hand. They wait for a `Sleep`, an `Answer` or a `Bell`, and nothing else. All that happens in a
process waits while the process is frozen, and never happens once it is dead; the order among it is kept.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

Action: TypeAlias = "Callable[..., None]"


class Process:
    """What can be frozen, and killed, at any point."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen_until = 0.0
        self.tasks: list[Task] = []

    def kill(self) -> None:
        """End it here: no task of it takes another step."""
        self.alive = False
        for task in self.tasks:
            task.cancel()
        self.tasks.clear()


class Scheduler:
    """Does what is due, in the order of virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Process | None, Action, tuple[Any, ...]]] = []
        self._count = 0

    def after(self, delay: float, process: Process | None, action: Action, *arguments: Any) -> None:
        """Do something later: in a process, or in the world outside when that is None."""
        self._count += 1
        heapq.heappush(self._due, (self.now + delay, self._count, process, action, arguments))

    def start(self, process: Process, coroutine: Coroutine[Waited, Any, None]) -> Task:
        """Start a task in a process."""
        task = Task(self, process, coroutine)
        process.tasks = [other for other in process.tasks if not other.done]
        process.tasks.append(task)
        self.after(0.0, process, task.step)
        return task

    def run(self, until: Callable[[], bool], limit: float) -> None:
        """Go on until it is so, or until this point in time."""
        while self._due and not until():
            due, _, process, action, arguments = heapq.heappop(self._due)
            if due > limit:
                return
            self.now = due
            if process is not None:
                if not process.alive:
                    continue
                if process.frozen_until > due:
                    self.after(process.frozen_until - due, process, action, *arguments)
                    continue
            action(*arguments)


class Task:
    """A coroutine of a process; an error that it does not handle ends the whole simulation."""

    def __init__(self, scheduler: Scheduler, process: Process, coroutine: Coroutine[Waited, Any, None]) -> None:
        self.scheduler = scheduler
        self.process = process
        self.done = False
        self._coroutine = coroutine
        self._running = False

    def step(self, value: Any = None, error: Exception | None = None) -> None:
        """Take one step, up to where it waits again."""
        if self.done:
            return
        self._running = True
        try:
            waited = self._coroutine.throw(error) if error is not None else self._coroutine.send(value)
        except StopIteration:
            self.done = True
        else:
            if not self.done:
                waited.attach(self)
        finally:
            self._running = False
        if self.done:
            self._coroutine.close()

    def cancel(self) -> None:
        """End it where it waits."""
        self.done = True
        if not self._running:
            self._coroutine.close()


class Waited(Protocol):
    """What a coroutine may wait for."""

    def attach(self, task: Task) -> None:
        """Take note of who waits."""


class Sleep:
    """A time to wait."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __await__(self) -> Generator[Waited, None, None]:
        yield self

    def attach(self, task: Task) -> None:
        """See `Waited`."""
        task.scheduler.after(self._seconds, task.process, task.step)


class Answer:
    """The answer to one call: the first thing that is said counts."""

    def __init__(self) -> None:
        self.given = False
        self._task: Task | None = None

    def __await__(self) -> Generator[Waited, Any, Any]:
        return (yield self)

    def attach(self, task: Task) -> None:
        """See `Waited`."""
        self._task = task

    def give(self, value: Any = None, error: Exception | None = None) -> None:
        """Answer, in the process that waits."""
        if not self.given:
            self.given = True
            assert self._task is not None, "an answer comes later than its call"
            self._task.step(value, error)


class Bell:
    """Wakes the one task that waits, or that will wait next."""

    def __init__(self) -> None:
        self._rung = False
        self._task: Task | None = None

    def __await__(self) -> Generator[Waited, None, None]:
        yield self

    def attach(self, task: Task) -> None:
        """See `Waited`."""
        self._task = task
        if self._rung:
            self._wake()

    def ring(self) -> None:
        """Wake it, once however often this is called."""
        if not self._rung:
            self._rung = True
            if self._task is not None:
                self._wake()

    def _wake(self) -> None:
        task, self._task, self._rung = self._task, None, False
        assert task is not None
        task.scheduler.after(0.0, task.process, task.step)
