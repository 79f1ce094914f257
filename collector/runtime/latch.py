"""A latch: an event that calls functions when it is set. At rest a logger waits for several events without a task."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyio import Event, create_task_group, lowlevel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from anyio.abc import TaskGroup


class Latch(Event):
    """An event of a small fraction of the size of anyio's, which takes a thousand bytes with its queue of waiters.

    The functions are called once, in the task that sets the latch; they must not block or raise.
    """

    __slots__ = ("_calls", "_is_set")

    def __new__(cls) -> Self:
        """Make a latch; anyio's own `__new__` would make an event of its backend."""
        return object.__new__(cls)

    def __init__(self) -> None:
        self._is_set = False
        self._calls: tuple[Callable[[], object], ...] = ()

    def set(self) -> None:
        """Set it, and call the functions that wait for that."""
        if self._is_set:
            return
        self._is_set = True
        calls, self._calls = self._calls, ()
        for call in calls:
            call()

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._is_set

    async def wait(self) -> None:
        """Wait until it is set."""
        if self._is_set:
            await lowlevel.checkpoint()
            return
        waiter = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        self.call(wake)
        try:
            await waiter
        finally:
            self.forget(wake)

    def call(self, function: Callable[[], object]) -> None:
        """Call a function when the latch is set: at once, when it is set already."""
        if self._is_set:
            function()
        else:
            self._calls += (function,)

    def forget(self, function: Callable[[], object]) -> None:
        """Do not call a function any more."""
        self._calls = tuple([call for call in self._calls if call != function])


class Listening:
    """Calls a function when one of several events is set, while the block lasts. For latches it needs no task."""

    __slots__ = ("_events", "_function", "_group")

    def __init__(self, events: Sequence[Event], function: Callable[[], object]) -> None:
        self._events = events
        self._function = function
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> None:
        """Listen from now on."""
        others = [event for event in self._events if not isinstance(event, Latch)]
        if others:
            self._group = await create_task_group().__aenter__()
            for event in others:
                self._group.start_soon(self._wait, event)
        for event in self._events:
            if isinstance(event, Latch):
                event.call(self._function)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Listen no more."""
        for event in self._events:
            if isinstance(event, Latch):
                event.forget(self._function)
        if self._group is None:
            return None
        self._group.cancel_scope.cancel()
        return await self._group.__aexit__(kind, error, trace)

    async def _wait(self, event: Event) -> None:
        await event.wait()
        self._function()
