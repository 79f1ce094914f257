"""The event loop of the service: what its timers cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import current_time, move_on_after

from collector.runtime.loop import new_event_loop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

WAITS = 50


def run_with(loop: asyncio.AbstractEventLoop, play: Callable[..., Any]) -> None:
    anyio.run(play, backend_options={"loop_factory": lambda: loop})


def test_a_deadline_between_two_milliseconds_is_waited_for_and_not_spun_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it about half of these deadlines turn the loop dozens of times each."""
    loop, set_again = new_event_loop(), list[float]()
    call_at = loop.call_at

    def counted(when: float, *rest: Any, **keywords: Any) -> Any:
        set_again.append(when)
        return call_at(when, *rest, **keywords)

    async def play() -> None:
        for number in range(WAITS):
            until = current_time() + 0.002 + number / WAITS / 1000
            with move_on_after(until - current_time()):
                await anyio.sleep_forever()
            assert current_time() >= until

    monkeypatch.setattr(loop, "call_at", counted)
    run_with(loop, play)
    assert len(set_again) <= 2 * WAITS


@pytest.mark.parametrize("delay", [-1.0, 0.0, 1e-9, 0.0004, 0.0015])
def test_a_timer_rings_and_never_before_its_time(delay: float) -> None:
    loop, rang = new_event_loop(), list[float]()

    async def play() -> None:
        begun, done = current_time(), anyio.Event()

        def ring() -> None:
            rang.append(current_time() - begun)
            done.set()

        loop.call_later(delay, ring)
        await done.wait()

    run_with(loop, play)
    assert rang[0] >= delay - 1e-9


def test_a_timer_for_ever_can_be_set_and_taken_back() -> None:
    loop = new_event_loop()

    async def play() -> None:
        for delay in (1e6, 1e12, math.inf):
            loop.call_later(delay, list).cancel()

    run_with(loop, play)
