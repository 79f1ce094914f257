"""Looks at the collections of all loggers again and again, so that a few questions to MongoDB are for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyio import CancelScope, create_task_group, current_time, sleep

from collector.errors import SinkUnavailable, WrongCollection

if TYPE_CHECKING:
    from anyio import Event

    from collector.sinks.place import Place, Seen

_TOGETHER = 250
"""Loggers whose collections are asked for in one question."""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """The collection of a logger that moves entries, as it was inspected."""

    place: Place
    seen: Seen
    leaving: Event
    """Set when the pipeline has to leave the collection and prepare it again."""

    async def look(self) -> None:
        """Inspect the collection, and have the pipeline leave one that has changed."""
        try:
            with CancelScope(shield=True):
                now = await self.place.inspect()
        except WrongCollection:
            self.leaving.set()
        except SinkUnavailable:
            return  # the writes report it too
        else:
            if now != self.seen and (self.seen.collection is not None or now.differences):
                self.leaving.set()


class Looking:
    """The open collections of all loggers; while `run` runs, they are inspected once in each period."""

    def __init__(self) -> None:
        self._opened: set[Opened] = set()

    def begin(self, opened: Opened) -> None:
        """Look at a collection from now on."""
        self._opened.add(opened)

    def end(self, opened: Opened) -> None:
        """Look at it no more."""
        self._opened.discard(opened)

    async def run(self, period: float) -> None:
        """Look at all collections at each reconcile, until cancelled."""
        while True:
            await sleep(period - current_time() % period)
            left = list(self._opened)
            for start in range(0, len(left), _TOGETHER):
                async with create_task_group() as group:
                    for opened in left[start : start + _TOGETHER]:
                        if not opened.leaving.is_set():
                            group.start_soon(opened.look, name="collection")
