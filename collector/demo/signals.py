"""Work that a signal cancels, with its clean-up, and blocking calls that are never cut."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from anyio import CancelScope, create_task_group, open_signal_receiver, to_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractContextManager

_T = TypeVar("_T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def until_signal(work: Callable[[], Awaitable[_T]]) -> _T | signal.Signals:
    """Return the result of `work`, or the signal that cancelled it.

    Further signals do not cut the clean-up of `work`, which is bounded.
    """
    outcome: list[_T | signal.Signals] = []
    with open_signal_receiver(*_SIGNALS) as signals:
        async with create_task_group() as group:

            async def handle_signals() -> None:
                async for received in signals:
                    outcome.append(received)
                    group.cancel_scope.cancel()
                    return

            group.start_soon(handle_signals, name="signals")
            result = await work()
            outcome.append(result)
            group.cancel_scope.cancel()
    return outcome[0]


@asynccontextmanager
async def in_threads(manager: AbstractContextManager[_T]) -> AsyncIterator[_T]:
    """Enter and leave a blocking context manager in a thread; neither call is ever cut."""
    entered = await to_thread.run_sync(manager.__enter__)
    try:
        yield entered
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(manager.__exit__, None, None, None)
