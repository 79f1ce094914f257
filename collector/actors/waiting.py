"""Waiting for the first of several events, and cancelling a scope at an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import create_task_group

if TYPE_CHECKING:
    from anyio import CancelScope, Event


async def first_of(*events: Event) -> None:
    """Return as soon as one of the events is set."""
    async with create_task_group() as group:
        for event in events:
            group.start_soon(cancel_when, event, group.cancel_scope)


async def cancel_when(event: Event, scope: CancelScope) -> None:
    """Cancel the scope as soon as the event is set."""
    await event.wait()
    scope.cancel()
