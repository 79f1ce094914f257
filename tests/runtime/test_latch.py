"""A latch: an event that calls functions, and the first of several events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from anyio import Event, create_task_group, fail_after, wait_all_tasks_blocked

from collector.actors.waiting import first_of
from collector.runtime.latch import Latch, call_at, forget

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS: list[Callable[[], Event]] = [Event, Latch]


async def test_functions_are_called_once_and_at_once_when_it_is_set_already() -> None:
    latch, calls = Latch(), list[str]()
    latch.call(lambda: calls.append("before"))
    assert not latch.is_set()
    latch.set()
    latch.set()
    latch.call(lambda: calls.append("after"))
    assert (latch.is_set(), calls) == (True, ["before", "after"])


async def test_a_forgotten_function_is_not_called_and_the_others_are() -> None:
    latch, one, other = Latch(), Latch(), Latch()
    latch.call(one.set)
    latch.call(other.set)
    latch.forget(one.set)
    latch.set()
    assert (one.is_set(), other.is_set()) == (False, True)


async def test_tasks_wait_for_a_latch_as_for_an_event() -> None:
    latch, ended = Latch(), list[int]()

    async def wait(number: int) -> None:
        await latch.wait()
        ended.append(number)

    with fail_after(30):
        async with create_task_group() as group:
            for number in range(3):
                group.start_soon(wait, number)
            await wait_all_tasks_blocked()
            assert ended == []
            latch.set()
        await latch.wait()
    assert ended == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [0, 1, 2])
async def test_the_first_of_several_events_ends_the_waiting(kind: Callable[[], Event], number: int) -> None:
    events = [kind() for _ in range(3)]
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(first_of, *events)
            await wait_all_tasks_blocked()
            events[number].set()
    assert [event for event in events if isinstance(event, Latch) and event._calls] == []


async def test_waiting_for_latches_takes_no_task_and_for_other_events_one_each() -> None:
    called = Latch()
    with fail_after(30):
        async with create_task_group() as group:
            before = len(asyncio.all_tasks())
            latches, event = [Latch() for _ in range(5)], Event()
            for latch in latches:
                call_at(latch, called.set, group)
            assert len(asyncio.all_tasks()) == before
            call_at(event, called.set, group)
            assert len(asyncio.all_tasks()) == before + 1
            for one in (*latches, event):
                forget(one, called.set)
            latches[0].set()
            assert not called.is_set()
            event.set()
            await called.wait()
