"""The registry: compares the declared loggers with the running pipelines, and starts and stops pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import CancelScope, create_task_group, current_time, sleep

from collector.actors.declarations import Declaration, Declarations
from collector.actors.waiting import cancel_when
from collector.errors import BucketMissing
from collector.events import Failed, Failure, Report, Stage, failure_of
from collector.events.readings import Declared
from collector.jetstream.bucket import Bucket, Change, Gone, Listed, Put
from collector.runtime.backoff import exponential
from transfer.errors import InvalidKey, TransferError, UnreadableSpec
from transfer.names import check_key
from transfer.wire import decode_spec

if TYPE_CHECKING:
    from anyio import Event

    from collector.actors.supervisor import Pipelines
    from collector.jetstream.connection import Reconnects

_RETRY_CAP = 2.0
_NAMED = 5
"""Loggers that a sentence names."""


class Registry:
    """Reconciles on every change of the bucket, after every reconnect to NATS, and `period` seconds after a listing.

    After a reconnect and after a period the registry opens a new watch, which begins with the whole bucket: a change
    that one watch missed is seen by the next. A change that is heard twice changes nothing the second time.

    `Declarations` tells a logger that is not wanted any more from one whose key was lost. A logger whose key was lost,
    or whose bucket is gone, goes on, and the registry reports it.
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
        self._declarations = Declarations()
        self._looked = False
        self._reported: Declared | None = None

    async def run(self, stopping: Event) -> None:
        """Reconcile until asked to stop."""
        async with create_task_group() as group:
            group.start_soon(cancel_when, stopping, group.cancel_scope, name="registry stop")
            await self._reconcile()

    async def _reconcile(self) -> None:
        curve, attempt = exponential(0.1, _RETRY_CAP), 0
        while True:
            trouble = ""
            try:
                with CancelScope() as turn, self._reconnects.listening(turn.cancel):
                    await self._follow(turn)
                attempt = 0
                continue
            except BucketMissing as exc:
                trouble = str(exc)
            except TransferError as exc:
                self._failed(str(exc), "listing the bucket again", failure_of(exc))
            if trouble:
                self._trouble(trouble)
            attempt += 1
            await sleep(curve(attempt))

    async def _follow(self, turn: CancelScope) -> None:
        async with self._bucket.watch() as watch:
            self._declarations.begin()
            try:
                while not isinstance(change := await watch.next(), Listed):
                    self._apply(change)
            except BaseException:
                self._declarations.broken_off()
                raise
            turn.deadline = current_time() + self._period
            for key in self._declarations.complete(watch.life, self._pipelines.known):
                self._pipelines.drop(key)
            self._looked = True
            self._report_kept()
            while True:
                self._apply(await watch.next())
                self._report_kept()

    def _report_kept(self) -> None:
        kept = sorted(self._declarations.kept)
        if kept:
            some = ", ".join(kept[:_NAMED]) + (" …" if len(kept) > _NAMED else "")
            self._trouble(
                f"expected the bucket to declare {len(kept)} loggers that run, but their keys are gone and were not"
                f" deleted: {some}; declare them again (transfer set), then remove those that nobody wants"
                " (transfer remove)"
            )
        else:
            self._trouble("")

    def _trouble(self, trouble: str) -> None:
        declared = Declared(trouble, self._declarations.unreadable, looked=self._looked)
        if declared != self._reported:
            self._reported = declared
            self._report(declared)
        if trouble:
            self._failed(trouble, "going on with the loggers that run")

    def _failed(self, error: str, action: str, failure: Failure = Failure.UNAVAILABLE) -> None:
        self._report(Failed("", Stage.CONTROL, failure, error, action))

    def _apply(self, change: Change) -> None:
        match change:
            case Put(key, value, revision):
                self._declarations.put(key, Declaration(revision, self._put(key, value)))
            case Gone(key):
                self._declarations.delete(key)
                self._pipelines.drop(key)
            case Listed():
                pass  # a watch lists once

    def _put(self, key: str, value: bytes) -> str:
        """Want a pipeline, or park a logger whose value cannot be read; return why the value cannot be read."""
        try:
            check_key(key)
            spec = decode_spec(key, value)
        except (InvalidKey, UnreadableSpec) as exc:
            self._pipelines.park(key, str(exc))
            return str(exc)
        self._pipelines.want(spec)
        return ""
