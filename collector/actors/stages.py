"""The stages of one logger in one task group: consumer, batcher and writer, which share their fate.

Helper tasks run beside them: one waits for the end, one sends in progress, one looks whether other loggers starve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import CancelScope, Event, create_memory_object_stream, create_task_group, current_time, move_on_after, sleep

from collector.actors.ack_extender import AckExtender
from collector.actors.batcher import Batcher
from collector.actors.consumer import Consumer
from collector.actors.waiting import first_of
from collector.actors.writer import Writer
from collector.errors import OwnershipLost
from collector.events import Failed, Failure, Held, LoggerState, Returned, Stage, State
from collector.flow.batching import BatchPolicy, OpenBatch
from collector.flow.pool import PATIENCE
from collector.flow.settlement import NAK
from collector.model import Decoded

if TYPE_CHECKING:
    from collector.actors.moving import Moving

_RETURN_TIMEOUT = 2.0
_AT_ONCE = 10_000
"""Deliveries that are given back at once."""
_WAY_PERIOD = 5.0
"""Seconds between two checks whether other loggers wait for the room of this one."""


class Stages:
    """Moves entries of one logger from its open pull subscription into its target.

    Deliveries that are in hand at the end are given back, so that another replica gets them now and not after the ack
    wait. When the target was lost, they are dropped without an answer.
    """

    def __init__(self, moving: Moving) -> None:
        self._moving = moving
        self._key = moving.key
        self._report = moving.shared.report
        self._ending = Event()
        """Set when no more messages are to be pulled."""
        self._giving_way = Event()

    async def run(self, stopping: Event) -> None:
        """Move entries until asked to stop, or until the target or the stream has to be opened again.

        Raises OwnershipLost when the target is lost, and errors of a sink that the writer does not handle.
        """
        moving = self._moving
        doubts = moving.shared.doubts.moving(self._key, moving.attached)
        with doubts as doubted, CancelScope() as drained:
            try:
                async with create_task_group() as helpers:
                    ends = (stopping, moving.target.leaving, self._giving_way, doubted)
                    helpers.start_soon(self._keep_moving, ends, drained, name=f"{self._key} stop")
                    helpers.start_soon(self._until_lost, name=f"{self._key} loss")
                    helpers.start_soon(self._give_way, name=f"{self._key} way")
                    if moving.target.keeps_alive:
                        helpers.start_soon(self._extender().run, name=f"{self._key} ack extender")
                    self._report(LoggerState(self._key, State.RUNNING, moving.risks))
                    await self._run_stages()
                    helpers.cancel_scope.cancel()
            except* OwnershipLost:
                moving.in_hand.drop()
                raise
            finally:
                await self._give_back()

    def _extender(self) -> AckExtender:
        return AckExtender(self._moving.in_hand, self._moving.shared.nats.link, self._moving.attached.ack_wait)

    async def _run_stages(self) -> None:
        moving, settings = self._moving, self._moving.shared.settings
        decoded_in, decoded_out = create_memory_object_stream[list[Decoded]](1)
        open_batches_in, open_batches_out = create_memory_object_stream[OpenBatch](1)
        policy = BatchPolicy(settings.batch_entries, settings.batch_bytes, settings.batch_age)
        consumer = Consumer(moving, decoded_in)
        batcher = Batcher(policy, decoded_out, open_batches_in, moving.shared.clock)
        writer = Writer(moving, open_batches_out)
        async with create_task_group() as group:
            written, later = Event(), moving.target.later
            if later is not None:
                group.start_soon(later.run, moving.settler, written, name=f"{self._key} later")
            async with create_task_group() as stages:
                stages.start_soon(consumer.run, self._ending, name=f"{self._key} consumer")
                stages.start_soon(batcher.run, name=f"{self._key} batcher")
                stages.start_soon(writer.run, self._ending, name=f"{self._key} writer")
            written.set()
        await consumer.settle(self._ending)

    async def _keep_moving(self, ends: tuple[Event, ...], drained: CancelScope) -> None:
        """Wake the consumer when the moving has to end, and cut the drain at its deadline."""
        await first_of(*ends)
        self._ending.set()
        self._report(LoggerState(self._key, State.DRAINING))
        drained.deadline = current_time() + self._moving.shared.settings.drain_timeout
        self._moving.pull.wake()

    async def _until_lost(self) -> None:
        await self._moving.target.lost.wait()
        raise OwnershipLost(self._key)

    async def _give_way(self) -> None:
        """Begin again, at the end of the line, when unwritten deliveries keep other loggers from their next message."""
        in_hand, accounts = self._moving.in_hand, self._moving.accounts
        while not (in_hand and accounts.has_to_give_way()):  # noqa: ASYNC110 - no event tells it
            await sleep(_WAY_PERIOD)
        why = (
            f"expected to write what it holds within {PATIENCE:g} s, as other loggers wait for its room, but could not"
        )
        action = "giving it back, and taking it again in turn"
        self._report(Failed(self._key, Stage.WRITE, Failure.UNAVAILABLE, why, action))
        self._giving_way.set()

    async def _give_back(self) -> None:
        """Nak the deliveries that are left in hand."""
        left, returned = self._moving.in_hand.replies(), 0
        with CancelScope(shield=True), move_on_after(_RETURN_TIMEOUT):
            for start in range(0, len(left), _AT_ONCE):
                part = left[start : start + _AT_ONCE]
                returned += len(part) - await self._moving.shared.nats.link.answer([(reply, NAK) for reply in part])
        if returned:
            self._report(Returned(self._key, returned))
        self._report(Held(self._key, 0, 0))
