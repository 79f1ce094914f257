"""An event loop whose clock jumps to the next thing that is due, so that minutes pass in a moment and always alike."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or not timeout:
            return ready if timeout is not None else super().select(None)
        self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that never waits for time."""

    def __init__(self) -> None:
        self.clock = _Selector()
        super().__init__(self.clock)

    def time(self) -> float:
        """Return the virtual time."""
        return self.clock.now

    def stand_still(self, seconds: float) -> None:
        """Let time pass without a turn of the loop, as in a process that is frozen."""
        self.clock.now += seconds


def run_virtually(play: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine in virtual time."""
    anyio.run(play, backend_options={"loop_factory": VirtualLoop})


def loop() -> VirtualLoop:
    """Return the loop that runs."""
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualLoop)
    return running
