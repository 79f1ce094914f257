"""The mailbox between two stages: in order, one item at a time, and its ends."""

from __future__ import annotations

import asyncio
import random

import pytest
from anyio import BrokenResourceError, CancelScope, EndOfStream, create_task_group, fail_after, lowlevel

from collector.runtime.mailbox import Inbox, mailbox_of
from tests.support.fakes import settled


async def test_items_come_in_order_and_the_end_after_the_last() -> None:
    outbox, inbox = mailbox_of(int)
    came: list[int] = []

    async def take() -> None:
        came.extend([await inbox.receive() for _ in range(100)])
        with pytest.raises(EndOfStream):
            await inbox.receive()

    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(take)
            async with outbox:
                for number in range(100):
                    await outbox.send(number)
    assert came == [*range(100)]


async def test_a_sender_waits_while_an_item_waits() -> None:
    outbox, inbox = mailbox_of(str)
    with fail_after(30):
        await outbox.send("first")
        async with create_task_group() as group:
            group.start_soon(outbox.send, "second")
            await settled()
            assert await inbox.receive() == "first"
            assert await inbox.receive() == "second"


@pytest.mark.parametrize("waits", [True, False])
async def test_a_sender_learns_that_nobody_receives_any_more(*, waits: bool) -> None:
    outbox, inbox = mailbox_of(int)

    async def send() -> None:
        with pytest.raises(BrokenResourceError):
            await outbox.send(2)

    with fail_after(30):
        async with create_task_group() as group:
            async with inbox:
                if waits:
                    await outbox.send(1)
                    group.start_soon(send)
                    await settled()
            await send()


async def test_an_item_whose_receiver_is_cut_goes_to_the_next_one() -> None:
    """The receiver is cut in the very turn in which it is woken, before it runs."""
    outbox, inbox = mailbox_of(int)
    came: list[tuple[str, int]] = []

    async def take(name: str) -> None:
        came.append((name, await inbox.receive()))

    with fail_after(30):
        async with create_task_group() as of_first, create_task_group() as of_second:
            of_first.start_soon(take, "first", name="first")
            await settled()
            of_second.start_soon(take, "second")
            await settled()
            await outbox.send(1)
            (first,) = [task for task in asyncio.all_tasks() if task.get_name() == "first"]
            first.cancel()
    assert came == [("second", 1)]


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_lost_and_nobody_is_forgotten_whoever_is_cut(seed: int) -> None:
    """Receivers come and are cut at random; each item that was sent comes once, and each receiver ends."""
    chance = random.Random(seed)  # noqa: S311 - it has to be repeated
    outbox, inbox = mailbox_of(int)
    came: list[int] = []

    async def take(inbox: Inbox[int], scope: CancelScope) -> None:
        with scope:
            try:
                while True:
                    came.append(await inbox.receive())
                    for _ in range(chance.randrange(3)):
                        await lowlevel.checkpoint()
            except EndOfStream:
                return

    with fail_after(30):
        async with create_task_group() as group:
            scopes = [CancelScope() for _ in range(6)]
            for scope in scopes:
                group.start_soon(take, inbox, scope)
            for number in range(60):
                await outbox.send(number)
                if not number % 10 and len(scopes) > 1:
                    scopes.pop(chance.randrange(len(scopes))).cancel()
                for _ in range(chance.randrange(3)):
                    await lowlevel.checkpoint()
            outbox.close()
    assert sorted(came) == [*range(60)]
