"""The last ack of a whole pipeline whose logger trickles, in virtual time: it waits for a newer message, but not long.

The batch age is that of a replica with a hundred busy loggers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import Event, create_task_group, current_time, sleep

from collector.actors.alarms import Alarms
from collector.actors.pipeline import Pipeline
from collector.errors import SinkUnavailable
from collector.events import Answered, BatchSettled
from collector.flow.batch_age import BatchAge
from tests.support.fakes import KEY, FakeLink, FakeSink, Reports, delivery, fails
from tests.support.moving import FakeDestination, shared
from tests.support.virtual_time import run_virtually
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LONGEST = 3.5
"""Seconds after the last message in which all of them are acked."""


class Scene:
    """A pipeline, and the messages that come to it."""

    def __init__(self, *, stood_by: bool = False) -> None:
        self.link, self.sink, self.reports, self.stopping = FakeLink(), FakeSink(), Reports(), Event()
        age = BatchAge(0.1, 1.5)
        age.share(100)
        of_replica = shared(
            self.link,
            self.reports,
            destinations=FakeDestination(self.sink, stood_by=stood_by),
            batch_age=age,
            clock=current_time,
            alarms=Alarms(current_time),
            late_alarms=Alarms(current_time, 0.25),
        )
        self.pipeline = Pipeline(LoggerSpec(KEY), of_replica)
        self.number = 0
        self.left_at_least: list[int] = []
        """The unacked messages that the stream had, each time when it had been asked for answers."""

    async def trickle(self, messages: int, gap: float = 0.3) -> None:
        for _ in range(messages):
            self.number += 1
            self.link.deliver(delivery(self.number))
            await sleep(gap)
            self.left_at_least.append(self.number - len(self.link.answers))

    @property
    def acked(self) -> list[int]:
        return [int(reply.split(".")[5]) for reply, _ in self.link.answers]

    @property
    def stored(self) -> int:
        return sum(one.messages for one in self.reports.of(BatchSettled))

    @property
    def all(self) -> list[int]:
        return list(range(1, self.number + 1))


def play(scenario: Callable[[Scene], Awaitable[None]], *, stood_by: bool = False) -> Scene:
    scenes = []

    async def whole() -> None:
        scene = Scene(stood_by=stood_by)
        scenes.append(scene)
        async with create_task_group() as group:
            group.start_soon(scene.pipeline.run, scene.stopping)
            while not scene.link.requests:
                await scene.link.asked.wait()
            await scenario(scene)
            scene.stopping.set()
        assert sorted(set(scene.acked)) == scene.all, "at the stop all are acked"
        batches, later = scene.reports.of(BatchSettled), scene.reports.of(Answered)
        counted = sum(one.messages - one.owed for one in batches) + sum(one.messages for one in later)
        assert counted == len(scene.acked) == scene.number

    run_virtually(whole)
    return scenes[0]


def test_while_messages_trickle_the_stream_is_never_empty_and_each_batch_leaves_in_time() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.trickle(100)

    scene = play(scenario)
    assert min(scene.left_at_least[20:]) >= 1
    batches = scene.reports.of(BatchSettled)
    assert len(batches) < 50
    assert sum(one.messages for one in batches) == 100


def test_when_the_last_message_has_come_all_are_acked_soon() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.trickle(40)
        await sleep(LONGEST)
        assert scene.acked == scene.all

    play(scenario)


def test_at_a_stop_the_kept_ack_is_sent_although_nothing_else_is_left() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.trickle(20)
        while scene.stored < scene.number:  # a batch with all messages has just left
            await scene.trickle(1)
        assert scene.acked == scene.all[:-1]

    play(scenario)


def test_messages_that_come_seldom_are_acked_at_once() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.trickle(10, gap=5.0)

    assert play(scenario).left_at_least == [0] * 10


def test_when_mongodb_is_away_no_ack_is_kept() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.trickle(40)
        scene.sink.script = [fails(SinkUnavailable("away"))] * 50
        await scene.trickle(20)
        assert scene.acked == list(range(1, scene.stored + 1)), "all that is stored is acked"
        assert scene.stored < scene.number - 10
        scene.sink.script = []

    play(scenario)


def test_the_owner_of_a_time_series_collection_keeps_no_ack() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.trickle(40)
        assert scene.acked == list(range(1, scene.stored + 1))

    play(scenario, stood_by=True)
