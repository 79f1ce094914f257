"""The stages of one logger in one task group: consumer, batcher and writer, which share their fate.

Batcher and writer run only while entries come, see `downstream.py`. No helper task runs beside them: latches
tell the end, and `Upkeep` looks after all loggers that move entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import CancelScope, Event, create_task_group, current_time, move_on_after

from collector.actors.consumer import Consumer
from collector.actors.downstream import Downstream
from collector.errors import OwnershipLost
from collector.events import Failed, Failure, HomeChanged, LoggerState, Returned, Stage, State
from collector.flow.pool import PATIENCE
from collector.flow.settlement import NAK
from collector.runtime.latch import Latch, Listening

if TYPE_CHECKING:
    from collector.actors.moving import Moving
    from collector.sinks import LaterAnswers

_RETURN_TIMEOUT = 2.0
_AT_ONCE = 10_000
"""Deliveries that are given back at once."""


class Stages:
    """Moves entries of one logger from its open pull subscription into its target.

    Deliveries that are in hand at the end are given back, so that another replica gets them now and not after the ack
    wait. When the target was lost, they are dropped without an answer.
    """

    __slots__ = ("_downstream", "_ending", "_group", "_key", "_moving", "_report", "ack_wait", "in_hand", "keeps_alive")

    def __init__(self, moving: Moving) -> None:
        self.in_hand = moving.in_hand
        self.ack_wait = moving.attached.ack_wait
        self.keeps_alive = moving.target.keeps_alive
        self._moving = moving
        self._key = moving.key
        self._report = moving.shared.report
        self._ending = Latch()
        """Set when no more messages are to be pulled."""
        self._group = create_task_group()
        """Of all stages; they have nothing else that could be cut."""
        self._downstream: Downstream | None = None

    async def run(self, stopping: Event) -> None:
        """Move entries until asked to stop, or until the target or the stream has to be opened again.

        Raises OwnershipLost when the target is lost, and errors of a sink that the writer does not handle.
        """
        moving, kept = self._moving, self._moving.shared.kept
        with moving.shared.doubts.moving(self._key, moving.attached, moving.pull.heard_at, self.in_hand) as doubted:
            try:
                kept.add(self)
                self._report(LoggerState(self._key, State.RUNNING, moving.risks))
                self._report(HomeChanged(self._key, here=moving.home.here))
                await self._run_until_lost((stopping, moving.target.leaving, doubted))
            except* OwnershipLost:
                self.in_hand.drop()
                raise
            finally:
                kept.discard(self)
                await self._give_back()

    async def _run_until_lost(self, ends: tuple[Event, ...]) -> None:
        moving, group, lost = self._moving, self._group, self._moving.target.lost
        async with group, Listening(ends, self._end), Listening((lost,), group.cancel_scope.cancel):
            self._downstream = downstream = Downstream(moving, self._ending, group)
            consumer = Consumer(moving, downstream)
            if moving.target.later is None:
                await self._move_entries(consumer, downstream)
            else:
                await self._move_with(moving.target.later, consumer, downstream)
            await consumer.settle(self._ending)
        if lost.is_set():
            raise OwnershipLost(self._key)

    async def _move_with(self, later: LaterAnswers, consumer: Consumer, downstream: Downstream) -> None:
        """Move entries, and settle those that the sink defers."""
        async with create_task_group() as group:
            written = Event()
            group.start_soon(later.run, self._moving.settler, written, name=f"{self._key} later")
            await self._move_entries(consumer, downstream)
            written.set()

    async def _move_entries(self, consumer: Consumer, downstream: Downstream) -> None:
        """Move entries until no more are to be pulled, and all that came are written."""
        await consumer.run(self._ending)
        await downstream.written()

    def _end(self) -> None:
        """Wake the consumer because the moving has to end, and cut the drain at its deadline."""
        if not self._ending.is_set():
            self._ending.set()
            self._report(LoggerState(self._key, State.DRAINING))
            self._group.cancel_scope.deadline = current_time() + self._moving.shared.settings.drain_timeout
            self._moving.pull.wake()

    def give_way(self) -> None:
        """Begin again, at the end of the line, when unwritten deliveries keep other loggers from their next message."""
        if self._ending.is_set() or not (self.in_hand and self._moving.accounts.has_to_give_way()):
            return
        why = (
            f"expected to write what it holds within {PATIENCE:g} s, as other loggers wait for its room, but could not"
        )
        action = "giving it back, and taking it again in turn"
        self._report(Failed(self._key, Stage.WRITE, Failure.UNAVAILABLE, why, action))
        self._end()

    def rest(self) -> None:
        """End batcher and writer when nothing is in hand, and nothing came since the last call."""
        if not self.in_hand and self._downstream is not None:
            self._downstream.rest()

    async def _give_back(self) -> None:
        """Nak the deliveries that are left in hand."""
        left, returned = self.in_hand.replies(), 0
        with CancelScope(shield=True), move_on_after(_RETURN_TIMEOUT):
            await self._moving.settler.answer_kept()
            for start in range(0, len(left), _AT_ONCE):
                part = left[start : start + _AT_ONCE]
                returned += len(part) - await self._moving.shared.nats.link.answer([(reply, NAK) for reply in part])
        if returned:
            self._report(Returned(self._key, returned))
        self._report(HomeChanged(self._key, here=False))
        self._moving.level.close(self._report)
