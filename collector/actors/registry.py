"""The registry: compares what the bucket says with what runs, and has the difference started and stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import create_task_group, move_on_after, sleep

from collector.backoff import exponential
from collector.bucket import Bucket, Change, Gone, Listed, Put
from collector.events import Failed, Failure, Report, Stage
from transfer.errors import InvalidKey, TransferError, UnreadableSpec
from transfer.names import check_key
from transfer.wire import decode_spec

if TYPE_CHECKING:
    from anyio import CancelScope, Event

    from collector.actors.supervisor import Pipelines
    from collector.connection import Reconnects

_RETRY_CAP = 2.0


class Registry:
    """Reconciles on every change of the bucket, after every reconnect to NATS, and every `period` seconds.

    Each of the last two opens a new watch, which begins with all that is there: nothing has to be replayed, and a
    change that a watch missed is seen by the next. Hearing the same twice changes nothing.
    """

    name = "registry"

    def __init__(
        self, bucket: Bucket, pipelines: Pipelines, reconnects: Reconnects, report: Report, period: float
    ) -> None:
        self._bucket = bucket
        self._pipelines = pipelines
        self._reconnects = reconnects
        self._report = report
        self._period = period

    async def run(self, stopping: Event) -> None:
        """Reconcile until asked to stop."""
        async with create_task_group() as group:
            group.start_soon(_cancel_when, stopping, group.cancel_scope, name="registry stop")
            await self._reconcile()

    async def _reconcile(self) -> None:
        curve, attempt = exponential(0.1, _RETRY_CAP), 0
        while True:
            try:
                with move_on_after(self._period) as turn, self._reconnects.listening(turn.cancel):
                    await self._follow()
                attempt = 0
            except TransferError as exc:
                attempt += 1
                self._report(Failed("", Stage.CONTROL, Failure.UNAVAILABLE, str(exc), "listing the bucket again"))
                await sleep(curve(attempt))

    async def _follow(self) -> None:
        seen: set[str] = set()
        async with self._bucket.watch() as watch:
            while not isinstance(change := await watch.next(), Listed):
                self._apply(change, seen)
            for key in self._pipelines.known - seen:
                self._pipelines.drop(key)
            while True:
                self._apply(await watch.next(), seen)

    def _apply(self, change: Change, seen: set[str]) -> None:
        match change:
            case Put(key, value):
                seen.add(key)
                self._put(key, value)
            case Gone(key):
                seen.discard(key)
                self._pipelines.drop(key)
            case Listed():
                pass  # nats-py says it once

    def _put(self, key: str, value: bytes) -> None:
        """Have a pipeline; a value that cannot be read parks its own logger and nothing else."""
        try:
            check_key(key)
            spec = decode_spec(key, value)
        except (InvalidKey, UnreadableSpec) as exc:
            self._pipelines.park(key, str(exc))
        else:
            self._pipelines.want(spec)


async def _cancel_when(stopping: Event, scope: CancelScope) -> None:
    await stopping.wait()
    scope.cancel()
