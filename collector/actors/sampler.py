"""The sampler: reads the lag of all loggers every few seconds, and brings back what nobody is given any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import current_time, move_on_after

from collector.events import Failed, Failure, Mended, Report, Sampled, Stage
from collector.stuck import Sightings
from transfer.errors import TransferError

if TYPE_CHECKING:
    from anyio import Event

    from collector.actors.supervisor import Pipelines
    from collector.lag import Lag


class Sampler:
    """Reports `Sampled` for every running logger once in `period` seconds; a failing reading is said and left out.

    A durable that gives up on messages is brought in line at once. Messages that it has given up on, which is certain
    only after some readings, are brought back by making it anew.
    """

    name = "sampler"

    def __init__(self, lag: Lag, pipelines: Pipelines, report: Report, period: float) -> None:
        self._lag = lag
        self._pipelines = pipelines
        self._report = report
        self._period = period
        self._sightings = Sightings()
        self._seen: set[str] = set()
        """Loggers of which the last reading had more messages in the stream than in the durable."""

    async def run(self, stopping: Event) -> None:
        """Sample until asked to stop."""
        while not stopping.is_set():
            try:
                samples = await self._lag.sample(self._pipelines.running)
            except TransferError as exc:
                self._failed("", exc, "reading the lag again later")
            else:
                for sampled in samples:
                    self._report(sampled)
                readings = [sampled for sampled in samples if isinstance(sampled, Sampled)]
                for sampled in readings:
                    await self._mend(sampled)
                self._seen = {sampled.logger for sampled in readings if _has_more(sampled)}
            with move_on_after(self._period):
                await stopping.wait()

    async def _mend(self, sampled: Sampled) -> None:
        key = sampled.logger
        try:
            if sampled.max_deliver > 0:
                await self._lag.lift_max_deliver(key)
                self._report(Mended(key, 0, f"the durable gave up after {sampled.max_deliver} deliveries"))
            if key in self._seen and _has_more(sampled):  # once: under load it was settled between two requests
                await self._bring_back(key)
        except TransferError as exc:
            self._failed(key, exc, "looking for stuck messages again later")

    async def _bring_back(self, key: str) -> None:
        stuck = await self._lag.stuck(key)
        if stuck is None or not self._sightings.add(key, stuck, current_time()):
            return
        if await self._lag.bring_back(key, stuck):
            self._report(Mended(key, stuck.messages, "the durable gave messages to nobody any more and was made anew"))

    def _failed(self, key: str, exc: TransferError, action: str) -> None:
        self._report(Failed(key, Stage.CONTROL, Failure.UNAVAILABLE, str(exc), action))


def _has_more(sampled: Sampled) -> bool:
    return sampled.messages > sampled.pending + sampled.ack_pending
