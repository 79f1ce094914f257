"""Coroutines that other threads want to have run on the connection of the sending thread, each with its answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from transfer.errors import TransferError
from transfer.system.native import Flag

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from nats.js import JetStreamContext


class Call:
    """A coroutine function of another thread, and its answer."""

    def __init__(self, function: Callable[[JetStreamContext], Coroutine[Any, Any, Any]], timeout: float) -> None:
        self.function = function
        self.timeout = timeout
        self.task: asyncio.Task[None] | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = Flag()

    def end(self, error: BaseException | None) -> None:
        """Let the thread that waits go on. Only the first end counts."""
        if not self.done.is_set:
            self.error = error
            self.done.set()


class Calls:
    """The calls that are not answered yet. Every call gets an answer, whatever happens to the sending."""

    def __init__(self, connected_within: Callable[[float], Awaitable[JetStreamContext]]) -> None:
        self._connected_within = connected_within
        self._group: asyncio.TaskGroup | None = None
        self.waiting: set[Call] = set()

    def take(self) -> set[Call]:
        """Return the calls, which somebody else answers now."""
        taken, self.waiting = self.waiting, set()
        return taken

    async def answer(self) -> None:
        """Answer calls until it is cut."""
        async with asyncio.TaskGroup() as self._group:
            self.begin()
            await asyncio.Event().wait()

    def begin(self) -> None:
        """Begin with the calls that are new."""
        for call in list(self.waiting):
            if call.task is None and self._group is not None:
                call.task = self._group.create_task(self._answer(call))

    async def _answer(self, call: Call) -> None:
        """Give a call its answer. An error in it harms nobody else."""
        try:
            call.result = await call.function(await self._connected_within(call.timeout))
        except asyncio.CancelledError:
            call.end(TransferError("what sends has ended before the call was answered"))
            raise
        except BaseException as error:  # noqa: BLE001 - it goes to the caller
            call.end(error)
        else:
            call.end(None)
        finally:
            self.waiting.discard(call)
