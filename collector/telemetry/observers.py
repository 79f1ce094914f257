"""The observers of events: metrics, status and log. A failure of theirs ends no actor that reports an event."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from collector.errors import safe_description
from collector.events.lifecycle import ObserverFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collector.events import Event, Report
    from collector.events.lifecycle import Observer


class Observers:
    """Tells every observer of every event, in this order. Never raises.

    An observer that fails has the others, and itself, told so by an event. A failure at that event is passed over.
    """

    def __init__(self, observers: Mapping[Observer, Report]) -> None:
        self._observers = tuple(observers.items())

    def __call__(self, event: Event) -> None:
        """Tell all of them."""
        for name, observe in self._observers:
            try:
                observe(event)
            except Exception as exc:  # noqa: BLE001 - an actor must not end by a failure of its observer
                self._report_failed(ObserverFailed(name, safe_description(exc)))

    def _report_failed(self, failed: ObserverFailed) -> None:
        for _, observe in self._observers:
            with suppress(Exception):
                observe(failed)
