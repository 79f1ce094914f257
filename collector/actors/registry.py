"""The registry: compares what the bucket says with what runs, and has the difference started and stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import CancelScope, create_task_group, current_time, sleep

from collector.actors.backoff import exponential
from collector.errors import BucketMissing
from collector.events import Declared, Failed, Failure, Report, Stage
from collector.jetstream.bucket import Bucket, Change, Gone, Listed, Put
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

    Each of the last two opens a new watch, which begins with all that is there: nothing has to be replayed, and a
    change that a watch missed is seen by the next. Hearing the same twice changes nothing.

    A logger is stopped when its key is deleted, or has gone while others are there. It goes on when all are gone at
    once, or the bucket itself is, or is another one: that is an accident, and is said.
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
        self._life = ""
        self._declared: dict[str, str] = {}
        """What the bucket holds now: why a key declares no logger, or nothing."""
        self._kept: set[str] = set()
        """Loggers that go on although the bucket does not hold them."""
        self._looked = False
        self._said: Declared | None = None

    async def run(self, stopping: Event) -> None:
        """Reconcile until asked to stop."""
        async with create_task_group() as group:
            group.start_soon(_cancel_when, stopping, group.cancel_scope, name="registry stop")
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
                self._failed(str(exc), "listing the bucket again")
            if trouble:
                self._trouble(trouble)
            attempt += 1
            await sleep(curve(attempt))

    async def _follow(self, turn: CancelScope) -> None:
        declared = self._declared
        async with self._bucket.watch() as watch:
            self._declared = {}
            try:
                while not isinstance(change := await watch.next(), Listed):
                    self._apply(change)
            except BaseException:
                self._declared = declared | self._declared  # it is not known whole
                raise
            turn.deadline = current_time() + self._period
            self._compare(watch.life)
            while True:
                self._apply(await watch.next())
                self._say()

    def _compare(self, life: str) -> None:
        """Drop what is declared no more, unless that is no wish."""
        absent = self._pipelines.known - set(self._declared)
        if absent and (not self._declared or life != (self._life or life)):
            self._kept |= absent
        self._kept &= absent
        for key in absent - self._kept:
            self._pipelines.drop(key)
        self._life, self._looked = life, True
        self._say()

    def _say(self) -> None:
        kept = sorted(self._kept)
        if kept:
            some = ", ".join(kept[:_NAMED]) + (" …" if len(kept) > _NAMED else "")
            self._trouble(
                f"expected the bucket to declare {len(kept)} loggers that run, but they went at once: {some};"
                " declare them again, or remove their streams"
            )
        else:
            self._trouble("")

    def _trouble(self, trouble: str) -> None:
        unreadable = sum(bool(why) for why in self._declared.values())
        declared = Declared(trouble, unreadable, looked=self._looked)
        if declared != self._said:
            self._said = declared
            self._report(declared)
        if trouble:
            self._failed(trouble, "going on with the loggers that run")

    def _failed(self, error: str, action: str) -> None:
        self._report(Failed("", Stage.CONTROL, Failure.UNAVAILABLE, error, action))

    def _apply(self, change: Change) -> None:
        match change:
            case Put(key, value):
                self._kept.discard(key)
                self._declared[key] = self._put(key, value)
            case Gone(key):
                self._kept.discard(key)
                self._declared.pop(key, None)
                self._pipelines.drop(key)
            case Listed():
                pass  # it is said once

    def _put(self, key: str, value: bytes) -> str:
        """Have a pipeline; a value that cannot be read parks its own logger and nothing else. Return why it is."""
        try:
            check_key(key)
            spec = decode_spec(key, value)
        except (InvalidKey, UnreadableSpec) as exc:
            self._pipelines.park(key, str(exc))
            return str(exc)
        self._pipelines.want(spec)
        return ""


async def _cancel_when(stopping: Event, scope: CancelScope) -> None:
    await stopping.wait()
    scope.cancel()
