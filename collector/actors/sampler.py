"""The sampler: reads the lag of all loggers every few seconds, and mends durables that are not as needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import CancelScope, current_time, lowlevel, move_on_after

from collector.events import Failed, Failure, Mended, Report, Stage, failure_of
from collector.events.readings import Sampled, Waiting
from collector.jetstream.stuck import Sightings
from transfer.difference import Remedy, with_remedy, without_risks
from transfer.errors import Conflict, Misconfigured, TransferError, UnknownStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio import Event

    from collector.actors.supervisor import Pipelines
    from collector.jetstream.doubts import Doubts
    from collector.jetstream.lag import Lag
    from collector.jetstream.source import Sources

_AT_ONCE = 250
"""Readings that are reported before other tasks have their turn."""
_READ_A_SECOND = 500.0
"""Loggers whose lag is read a second at most; with more than fit into a period the pause is longer."""
_LONGEST_PAUSE = 20.0
"""Seconds of such a pause at most: after 60 s a reading counts as unknown."""


def pause_after(loggers: int, period: float) -> float:
    """Return how long to pause after a reading of so many loggers."""
    return max(period, min(_LONGEST_PAUSE, loggers / _READ_A_SECOND))


class Sampler:
    """Reports `Sampled` for every running logger once in `period` seconds, and a reading that fails as `Failed`.

    With very many loggers the pause between two readings is longer, so that readings cost little.
    A logger for which messages wait in two readings in a row, while its requests heard nothing, is told to begin again:
    in a replica with many loggers this is sooner than its heartbeat is missed.
    A durable that is not as needed is brought in line at once. Where somebody else has to do that, the pipeline is told
    and waits. Stuck messages, which are certain only after some readings, are brought back by making the durable anew.
    """

    name = "sampler"

    def __init__(
        self, lag: Lag, sources: Sources, doubts: Doubts, pipelines: Pipelines, report: Report, *, period: float
    ) -> None:
        self._lag = lag
        self._sources = sources
        self._doubts = doubts
        self._pipelines = pipelines
        self._report = report
        self._period = period
        self._sightings = Sightings()
        self._suspected: set[str] = set()
        """Loggers that seemed to have stuck messages in the last reading; a busy logger seems so now and then."""
        self._waiting_since: dict[str, float] = {}
        """Loggers for which messages waited and none was in work in the last reading, and since when."""

    async def run(self, stopping: Event) -> None:
        """Sample until asked to stop."""
        while not stopping.is_set():
            samples: Sequence[Sampled | Waiting] = ()
            try:
                samples = await self._lag.sample(self._pipelines.running)
            except TransferError as exc:
                self._failed("", exc, "reading the lag again later")
            else:
                await self._take(samples)
                await self._check_bucket()
            with move_on_after(pause_after(len(samples), self._period)):
                await stopping.wait()

    async def _take(self, samples: Sequence[Sampled | Waiting]) -> None:
        """Report all readings, then act on them; other tasks have their turn now and then."""
        for number, sampled in enumerate(samples, 1):
            self._report(sampled)
            if number % _AT_ONCE == 0:
                await lowlevel.checkpoint()
        for number, sampled in enumerate(samples, 1):
            if isinstance(sampled, Sampled):
                await self._act_on(sampled)
            if number % _AT_ONCE == 0:
                await lowlevel.checkpoint()

    async def _check_bucket(self) -> None:
        """Report settings of the bucket that make declarations vanish; loggers that are declared go on nevertheless."""
        try:
            for difference in with_remedy(await self._lag.bucket(), Remedy.MEND):
                self._failed("", Misconfigured(difference), "going on with the loggers that are declared")
        except TransferError as exc:
            self._failed("", exc, "looking at the bucket again later")

    async def _act_on(self, sampled: Sampled) -> None:
        key = sampled.logger
        try:
            if without_risks(sampled.differences):
                self._sightings.over(key)
                await self._bring_in_line(key)
            elif self._may_be_stuck(sampled):
                await self._bring_back(key)
            self._compare(sampled)
            self._listen(sampled)
        except TransferError as exc:
            self._failed(key, exc, "looking at stream and durable again later")

    async def _bring_in_line(self, key: str) -> None:
        """Attach to the durable in the pipeline's place; a pipeline that moves nothing is about to attach itself."""
        if self._doubts.attached(key) is None:
            return
        try:
            with CancelScope(shield=True):  # drivers are never cut; each call has a deadline of its own
                await self._sources.of(key).attach()
        except (Conflict, UnknownStream):
            self._doubts.doubt(key)

    def _compare(self, sampled: Sampled) -> None:
        """Have the pipeline attach again where it knows another ack wait or other risks than there are now."""
        known = self._doubts.attached(sampled.logger)
        if known is None or sampled.ack_wait is None:
            return
        risks = with_remedy(sampled.differences, Remedy.RISK)
        if sampled.ack_wait < known.ack_wait or risks != known.risks:
            self._doubts.doubt(sampled.logger)

    def _listen(self, sampled: Sampled) -> None:
        """Have a pipeline attach again whose requests heard nothing although messages wait: they may be lost."""
        key, now = sampled.logger, current_time()
        if not sampled.pending or sampled.ack_pending:
            self._waiting_since.pop(key, None)
            return
        since, heard_at = self._waiting_since.setdefault(key, now), self._doubts.heard_at(key)
        if heard_at is not None and heard_at < since < now:
            del self._waiting_since[key]
            error = "messages wait, and no message or heartbeat of the server came since the last reading of the lag"
            self._report(
                Failed(key, Stage.PULL, Failure.SILENT, error, "looking at stream and durable, then asking again")
            )
            self._doubts.doubt(key)

    def _may_be_stuck(self, sampled: Sampled) -> bool:
        """Tell whether messages seem stuck for the second time: stream and durable are read one after the other."""
        key = sampled.logger
        looks_stuck, suspected = bool(sampled.stuck), key in self._suspected
        if looks_stuck:
            self._suspected.add(key)
        else:
            self._suspected.discard(key)
            self._sightings.over(key)
        return looks_stuck and suspected

    async def _bring_back(self, key: str) -> None:
        stuck = await self._lag.stuck(key)
        if stuck is None:
            self._sightings.over(key)
        elif self._sightings.add(key, stuck, current_time()) and await self._lag.bring_back(key, stuck):
            self._report(Mended(key, stuck.messages, "the durable gave messages to nobody any more and was made anew"))

    def _failed(self, key: str, exc: TransferError, action: str) -> None:
        self._report(Failed(key, Stage.CONTROL, failure_of(exc), str(exc), action))
