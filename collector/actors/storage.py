"""The storage watcher: reads now and then how full JetStream is, because a full one loses entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import CancelScope, move_on_after

from collector.events import Failed, Report, Stage, failure_of
from transfer.errors import Refused, TransferError

if TYPE_CHECKING:
    from anyio import Event

    from collector.jetstream.storage import Reading

_NOT_PERMITTED = 600.0
"""Seconds before a request is repeated that is not permitted."""


class StorageWatcher:
    """Reports `Storage` once in `period` seconds; a failing reading is reported and left out.

    The first reading comes after a period. By then the bucket has been listed, so it is known which streams are
    declared.
    """

    name = "storage"

    def __init__(self, storage: Reading, report: Report, period: float) -> None:
        self._storage = storage
        self._report = report
        self._period = period

    async def run(self, stopping: Event) -> None:
        """Read until asked to stop."""
        pause = self._period
        while True:
            with move_on_after(pause):
                await stopping.wait()
                return
            pause = await self._read()

    async def _read(self) -> float:
        """Read once, and return how long to wait before the next time."""
        pause = self._period
        try:
            with CancelScope(shield=True):  # drivers are never cut; each call has a deadline of its own
                self._report(await self._storage.read())
        except TransferError as exc:
            if isinstance(exc, Refused):
                pause = max(pause, _NOT_PERMITTED)
            action = f"asking how full JetStream is again in {pause:.3g} s"
            self._report(Failed("", Stage.CONTROL, failure_of(exc), str(exc), action))
        return pause
