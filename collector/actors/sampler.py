"""The sampler: reads the lag of all loggers every few seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import move_on_after

from collector.events import Failed, Failure, Report, Stage
from transfer.errors import TransferError

if TYPE_CHECKING:
    from anyio import Event

    from collector.actors.supervisor import Pipelines
    from collector.lag import Lag


class Sampler:
    """Reports `Sampled` for every running logger once in `period` seconds; a failing reading is said and left out."""

    name = "sampler"

    def __init__(self, lag: Lag, pipelines: Pipelines, report: Report, period: float) -> None:
        self._lag = lag
        self._pipelines = pipelines
        self._report = report
        self._period = period

    async def run(self, stopping: Event) -> None:
        """Sample until asked to stop."""
        while not stopping.is_set():
            try:
                for sampled in await self._lag.sample(self._pipelines.running):
                    self._report(sampled)
            except TransferError as exc:
                self._report(Failed("", Stage.CONTROL, Failure.UNAVAILABLE, str(exc), "reading the lag again later"))
            with move_on_after(self._period):
                await stopping.wait()
