"""A latch: an event that calls functions, and the first of several events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from anyio import Event, create_task_group, fail_after, wait_all_tasks_blocked

from collector.actors.waiting import first_of
from collector.runtime.latch import Latch, Listening

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


async def test_listening_to_latches_takes_no_task_and_to_other_events_one_each() -> None:
    called: list[str] = []
    before, latches, event = len(asyncio.all_tasks()), [Latch() for _ in range(5)], Event()
    with fail_after(30):
        async with Listening(latches, lambda: called.append("latch")):
            assert len(asyncio.all_tasks()) == before
            latches[0].set()
        async with Listening((*latches[1:], event), lambda: called.append("event")):
            assert len(asyncio.all_tasks()) == before + 1
            event.set()
            await wait_all_tasks_blocked()
        latches[1].set()
    assert called == ["latch", "event"]
    assert len(asyncio.all_tasks()) == before


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_in_the_block_ends_the_listening(kind: Callable[[], Event]) -> None:
    event, called = kind(), list[str]()
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - a group of it, for an event that is no latch
        async with Listening((event,), lambda: called.append("called")):
            raise KeyError("in the block")
    assert raised.group_contains(KeyError) if isinstance(raised.value, BaseExceptionGroup) else raised.type is KeyError
    event.set()
    await wait_all_tasks_blocked()
    assert called == []
