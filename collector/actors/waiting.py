"""Waiting for the first of several events, and cancelling a scope at an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import create_task_group

from collector.runtime.latch import Latch, call_at, forget

if TYPE_CHECKING:
    from anyio import CancelScope, Event


async def first_of(*events: Event) -> None:
    """Return as soon as one of the events is set."""
    first = Latch()
    try:
        async with create_task_group() as group:
            for event in events:
                call_at(event, first.set, group)
            await first.wait()
            group.cancel_scope.cancel()
    finally:
        for event in events:
            forget(event, first.set)


async def cancel_when(event: Event, scope: CancelScope) -> None:
    """Cancel the scope as soon as the event is set."""
    await event.wait()
    scope.cancel()
