"""The feed of an archived logger: its other destination gets each message once, in bounded memory, however it fails."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event, create_task_group, fail_after, wait_all_tasks_blocked

from collector.actors.feed import Feed
from collector.errors import SinkUnavailable
from collector.runtime.latch import Latch
from collector.settings import Settings
from tests.support.fakes import ATTACHED, KEY, FakeLink, FakeSink, Reports, delivery, fails
from tests.support.moving import ENVIRON, FakeDestination, shared
from transfer.errors import Unavailable
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from collector.model import Delivery

FEW = {"COLLECTOR_BATCH_ENTRIES": "5", "COLLECTOR_WRITES": "1"}
"""Fifteen messages are held at most."""


class World:
    """A stream, a gate and a destination around a feed."""

    def __init__(self, sink: FakeSink) -> None:
        self.stream = {number: delivery(number) for number in range(1, 201)}
        self.waiting: list[int] = []
        """Sequences that the destination has not, as the gate knows them."""
        self.written_now: list[int] = []
        self.got: list[int] = []
        """Sequences that were got from the stream again."""
        self.is_silent = False
        self.told = Event()
        self.destination = FakeDestination(sink)
        self.stopping = Latch()
        settings = Settings.read({**ENVIRON, **FEW})
        self.shared = shared(FakeLink(), Reports(), destinations=self.destination, settings=settings)
        self.feed = Feed(LoggerSpec(KEY), self.shared, ATTACHED, self, self)

    async def get(self, sequences: Sequence[int]) -> AsyncIterator[Delivery]:
        """See `Stream`."""
        if self.is_silent:
            raise Unavailable("no answer")
        for sequence in sequences:
            if sequence in self.stream:
                self.got.append(sequence)
                yield self.stream[sequence]

    @property
    def missing(self) -> list[int]:
        """See `HasArchived`."""
        return sorted(self.waiting)

    async def written(self, sequences: Sequence[int]) -> int:
        """See `HasArchived`."""
        self.written_now += sequences
        self.waiting = [one for one in self.waiting if one not in sequences]
        self.told.set()
        self.told = Event()
        return 0

    async def offer(self, *sequences: int) -> None:
        """Offer messages as the owner of the archive does."""
        self.waiting += [one for one in sequences if one not in self.waiting]
        await self.feed.offer([delivery(number) for number in sequences])

    async def until_written(self) -> None:
        """Wait until the destination has all that was offered."""
        while self.waiting:
            await self.told.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the feed while the block lasts."""
        with fail_after(30):
            async with create_task_group() as group:
                group.start_soon(self.feed.run, self.stopping)
                await wait_all_tasks_blocked()
                yield
                self.stopping.set()


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
def world(sink: FakeSink) -> World:
    return World(sink)


def stored(sink: FakeSink) -> list[int]:
    return [one.delivery.sequence for write in sink.writes for one in write]


async def test_what_is_offered_is_written_once_and_told(world: World, sink: FakeSink) -> None:
    async with world.running():
        await world.offer(*range(1, 11))
        await world.until_written()
    assert sorted(stored(sink)) == sorted(world.written_now) == list(range(1, 11))
    assert world.got == []


async def test_while_the_sink_is_away_few_messages_are_held_and_the_rest_is_got_again(
    world: World, sink: FakeSink
) -> None:
    sink.script = [fails(SinkUnavailable("away")) for _ in range(4)]
    async with world.running():
        await world.offer(*range(1, 101))
        await world.offer(*range(101, 201))
        await world.until_written()
    assert sorted(set(stored(sink))) == sorted(world.written_now) == list(range(1, 201))
    assert len(world.got) >= 185
    assert len(set(world.got)) == len(world.got)


async def test_messages_that_have_left_the_stream_count_as_written(world: World, sink: FakeSink) -> None:
    world.waiting = [3, 4, 5]
    del world.stream[4]
    async with world.running():
        await world.until_written()
    assert sorted(stored(sink)) == [3, 5]


async def test_what_is_here_when_all_is_delivered_again_is_not_written_twice(world: World, sink: FakeSink) -> None:
    sink.let_write = Latch()
    async with world.running():
        await world.offer(1, 2, 3)
        await sink.writing.wait()
        world.feed.rewind()
        await world.offer(1, 2, 3, 4)
        sink.let_write.set()
        await world.until_written()
    assert sorted(stored(sink)) == [1, 2, 3, 4]


@pytest.mark.parametrize("end", ["leaving", "lost"])
async def test_a_destination_that_is_opened_again_gets_what_it_has_not(world: World, sink: FakeSink, end: str) -> None:
    sink.script = [fails(SinkUnavailable("away"))]
    async with world.running():
        await world.offer(1, 2, 3)
        await sink.writing.wait()
        target: Any = world.destination.targets[0]
        getattr(target, end).set()
        await world.until_written()
        await world.offer(4)
        await world.until_written()
    assert set(stored(sink)) == {1, 2, 3, 4}
    assert world.destination.ends == ["lost" if end == "lost" else "closed", "closed"]


async def test_a_stream_that_does_not_answer_is_asked_again(world: World, sink: FakeSink) -> None:
    world.waiting, world.is_silent = [7], True
    async with world.running():
        await wait_all_tasks_blocked()
        world.is_silent = False
        await world.until_written()
    assert stored(sink) == [7]
