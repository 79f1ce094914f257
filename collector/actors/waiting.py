"""Waiting for the first of several events, and cancelling a scope at an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.runtime.latch import Latch, Listening

if TYPE_CHECKING:
    from anyio import CancelScope, Event


async def first_of(*events: Event) -> None:
    """Return as soon as one of the events is set."""
    first = Latch()
    async with Listening(events, first.set):
        await first.wait()


async def cancel_when(event: Event, scope: CancelScope) -> None:
    """Cancel the scope as soon as the event is set."""
    await event.wait()
    scope.cancel()
