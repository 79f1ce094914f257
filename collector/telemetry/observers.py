"""Who hears of events: whatever befalls an observer, nobody who reports anything notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.errors import described

if TYPE_CHECKING:
    from collector.events import Event, Report


class Observers:
    """Tells every observer of every event, in this order. Never raises."""

    def __init__(self, *observers: Report) -> None:
        self._observers = observers
        self.failed: dict[str, int] = {}
        """How often observers failed, by kind and place."""

    def __call__(self, event: Event) -> None:
        """Tell all of them."""
        for observe in self._observers:
            try:
                observe(event)
            except Exception as exc:  # noqa: BLE001 - an actor is not to end by what is said about it
                where = described(exc)
                self.failed[where] = self.failed.get(where, 0) + 1
