"""The storage watcher: reads now and then how full JetStream is, which is how entries are lost in a long outage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import move_on_after

from collector.events import Failed, Failure, Report, Stage
from transfer.errors import Refused, TransferError

if TYPE_CHECKING:
    from anyio import Event

    from collector.storage import Reading

_NOT_PERMITTED = 600.0
"""Seconds until it is asked again what we may not ask."""


class StorageWatcher:
    """Reports `Storage` once in `period` seconds; a failing reading is said and left out."""

    name = "storage"

    def __init__(self, storage: Reading, report: Report, period: float) -> None:
        self._storage = storage
        self._report = report
        self._period = period

    async def run(self, stopping: Event) -> None:
        """Read until asked to stop."""
        while not stopping.is_set():
            pause = self._period
            try:
                self._report(await self._storage.read())
            except TransferError as exc:
                if isinstance(exc, Refused):
                    pause = max(pause, _NOT_PERMITTED)
                action = f"asking how full JetStream is again in {pause:.3g} s"
                self._report(Failed("", Stage.CONTROL, Failure.UNAVAILABLE, str(exc), action))
            with move_on_after(pause):
                await stopping.wait()
