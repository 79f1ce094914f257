"""The batcher between two mailboxes that the test holds."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from anyio import BrokenResourceError, create_memory_object_stream, create_task_group, fail_after

from collector.actors.batcher import Batcher
from collector.flow.batching import BatchPolicy, HandedOn, OpenBatch
from collector.model import Batch, Decoded, Trigger
from tests.support.fakes import decoded, settled, together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import TaskGroup
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

POLICY = BatchPolicy(entries=10, bytes=1000)


class Scene:
    """A batcher that runs."""

    def __init__(self, policy: BatchPolicy) -> None:
        self.send: MemoryObjectSendStream[HandedOn]
        self.receive: MemoryObjectReceiveStream[OpenBatch]
        self.send, inbox = create_memory_object_stream[HandedOn](1)
        outbox, self.receive = create_memory_object_stream[OpenBatch](1)
        self.batcher = Batcher(policy, inbox, outbox)
        self.group: TaskGroup

    async def hand_on(self, decoded: list[Decoded], *, leaves: bool = False) -> None:
        await self.send.send(HandedOn(decoded, leaves))

    async def batch(self) -> Batch:
        """Receive a draft and take it, as a writer does that has its turn at once."""
        return (await self.receive.receive()).take()


@asynccontextmanager
async def playing(policy: BatchPolicy = POLICY) -> AsyncIterator[Scene]:
    scene = Scene(policy)
    with fail_after(30):
        async with scene.send, scene.receive, create_task_group() as scene.group:
            scene.group.start_soon(scene.batcher.run)
            yield scene
            scene.group.cancel_scope.cancel()


def sequences(batch: Batch) -> list[int]:
    return [delivery.sequence for delivery in batch.deliveries]


async def test_a_full_batch_leaves_at_once() -> None:
    async with playing() as scene:
        await scene.hand_on([decoded(number) for number in range(10)])
        batch = await scene.batch()
        assert (sequences(batch), batch.trigger) == (list(range(10)), Trigger.ENTRIES)


async def test_what_was_opened_together_is_cut_where_a_batch_is_full() -> None:
    async with playing() as scene:
        await scene.hand_on([decoded(1), together(*[decoded(number) for number in range(2, 26)])])
        first, second = await scene.batch(), await scene.batch()
        assert (sequences(first), first.trigger) == (list(range(1, 11)), Trigger.ENTRIES)
        assert sequences(second) == [entry.delivery.sequence for entry in second.entries] == list(range(11, 21))
        await scene.send.aclose()
        last = await scene.batch()
        assert (sequences(last), last.trigger) == (list(range(21, 26)), Trigger.DRAIN)
        assert first.bytes + second.bytes + last.bytes == 25


async def test_when_the_writer_has_ended_it_ends_without_an_error_of_its_own() -> None:
    async with playing() as scene:
        await scene.hand_on([decoded(number) for number in range(30)])
        await settled()
        await scene.receive.aclose()  # what wakes it in the middle of handing on
        await settled()
        with pytest.raises(BrokenResourceError):
            await scene.hand_on([decoded(1)])


async def test_a_batch_leaves_when_it_has_its_bytes() -> None:
    async with playing() as scene:
        await scene.hand_on([decoded(1, body=b"x" * 600), decoded(2, body=b"x" * 400)])
        batch = await scene.batch()
        assert (batch.bytes, batch.trigger) == (1000, Trigger.BYTES)


async def test_a_batch_leaves_when_it_has_to_with_all_that_waited_in_it() -> None:
    async with playing() as scene:
        await scene.hand_on([decoded(1)])
        await settled()
        assert scene.receive.statistics().current_buffer_used == 0, "it is neither full nor old"
        await scene.hand_on([decoded(2)], leaves=True)
        batch = await scene.batch()
        assert (sequences(batch), batch.trigger) == ([1, 2], Trigger.AGE)


async def test_what_waits_leaves_also_when_nothing_comes_to_it() -> None:
    async with playing() as scene:
        await scene.hand_on([], leaves=True)
        await scene.hand_on([decoded(1)])
        await scene.hand_on([], leaves=True)
        batch = await scene.batch()
        assert (sequences(batch), batch.trigger, batch.id) == ([1], Trigger.AGE, 1)


async def test_what_is_too_much_for_one_batch_goes_into_more_in_order() -> None:
    async with playing() as scene:
        await scene.hand_on([decoded(number) for number in range(25)])
        batches = [await scene.batch(), await scene.batch()]
        await scene.send.aclose()
        batches.append(await scene.batch())
        assert [sequence for batch in batches for sequence in sequences(batch)] == list(range(25))
        assert [batch.trigger for batch in batches] == [Trigger.ENTRIES, Trigger.ENTRIES, Trigger.DRAIN]


async def test_a_bundle_is_never_split() -> None:
    async with playing() as scene:
        await scene.hand_on([decoded(1, entries=7), decoded(2, entries=7), decoded(3)])
        await scene.send.aclose()
        batches = [open_batch.take() async for open_batch in scene.receive]
        assert [(sequences(batch), len(batch.entries)) for batch in batches] == [([1, 2], 14), ([3], 1)]


async def test_when_its_mailbox_ends_the_rest_leaves_and_the_next_mailbox_ends_too() -> None:
    async with playing() as scene:
        await scene.hand_on([decoded(1)])
        await scene.send.aclose()
        batches = [open_batch.take() async for open_batch in scene.receive]
        assert [(sequences(batch), batch.trigger) for batch in batches] == [([1], Trigger.DRAIN)]


async def test_an_empty_mailbox_that_ends_makes_no_batch() -> None:
    async with playing() as scene:
        await scene.send.aclose()
        assert [open_batch.take() async for open_batch in scene.receive] == []


async def test_what_comes_while_a_batch_waits_for_its_turn_goes_with_it() -> None:
    """Of 1,000 loggers that get an entry now and then, each would write every entry on its own."""
    async with playing() as scene:
        await scene.hand_on([decoded(1)], leaves=True)
        open_batch = await scene.receive.receive()
        await scene.hand_on([decoded(2), decoded(3)])
        await settled()
        batch = open_batch.take()
        assert (sequences(batch), batch.trigger) == ([1, 2, 3], Trigger.AGE)
        await scene.hand_on([decoded(4)], leaves=True)
        after = await scene.batch()
        assert (sequences(after), after.id) == ([4], batch.id + 1)


async def test_a_batch_that_waits_for_its_turn_takes_no_more_than_it_may() -> None:
    async with playing() as scene:
        await scene.hand_on([decoded(1)], leaves=True)
        first = await scene.receive.receive()
        await scene.hand_on([together(*[decoded(number) for number in range(2, 13)])], leaves=True)
        second = await scene.receive.receive()
        assert [sequences(one.take()) for one in (first, second)] == [list(range(1, 11)), [11, 12]]


async def test_a_batch_that_waits_for_its_turn_when_the_mailbox_ends_leaves_once() -> None:
    async with playing() as scene:
        await scene.hand_on([decoded(1)], leaves=True)
        open_batch = await scene.receive.receive()
        await scene.hand_on([decoded(2)])
        await scene.send.aclose()
        assert [open_batch async for open_batch in scene.receive] == []
        assert sequences(open_batch.take()) == [1, 2]


@pytest.mark.parametrize("where", ["empty", "filling", "sending"])
async def test_cancelled_anywhere_it_ends_and_closes_its_mailboxes(where: str) -> None:
    async with playing() as scene:
        if where != "empty":
            await scene.hand_on([decoded(number) for number in range(5 if where == "filling" else 30)])
        await settled()
    assert scene.send.statistics().open_receive_streams == 0
    assert scene.receive.statistics().open_send_streams == 0
