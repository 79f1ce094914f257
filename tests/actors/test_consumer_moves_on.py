"""Whatever came when, and whoever had the room: no message stays in hand while its logger could write."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import msgspec
import pytest
from anyio import create_memory_object_stream, create_task_group, lowlevel, move_on_after, sleep

from collector.actors.batcher import Batcher
from collector.flow.batching import BatchPolicy, OpenBatch
from tests.support.consuming import SETTINGS, Scene, playing
from tests.support.fakes import delivery

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream

BODIES = [msgspec.msgpack.encode({"data": {"a": "x" * size}}) for size in (1, 1000, 4000)]
STEPS, ENOUGH = 8, 1000
LIMIT = 1024 * 1024


class World:
    """A JetStream with messages without an end, a writer that may stand still, and a logger that takes room."""

    def __init__(self, scene: Scene, batches: MemoryObjectReceiveStream[OpenBatch], chance: random.Random) -> None:
        self.scene, self.batches, self.chance = scene, batches, chance
        self.other = scene.budget.open(lambda: None)
        self.writes = True
        self.sent = self.served = 0
        self.rest: list[int] = []
        """Messages and bytes that are left of the request that is served."""

    async def step(self) -> None:
        often = [self.serve] * 4 + [self.take_room] * 2
        await self.chance.choice([*often, self.expire, self.stall, self.wake, self.age])()
        await self.write()
        for _ in range(self.chance.choice([1, 30])):
            await lowlevel.checkpoint()

    async def serve(self) -> None:
        """Send some of what is asked for, in one read."""
        link, body, several = self.scene.link, self.chance.choice(BODIES), []
        for _ in range(self.chance.randint(1, 120)):
            if not self.rest and self.served == len(link.requests):
                break
            if not self.rest:
                wanted = link.requests[self.served][1]
                self.rest, self.served = [wanted["batch"], wanted["max_bytes"]], self.served + 1
            one = delivery(self.sent + 1, body)
            size = len(one.subject) + len(one.reply) + len(body)
            if size > self.rest[1]:
                break
            self.sent += 1
            self.rest = [self.rest[0] - 1, self.rest[1] - size]
            several.append(one)
            if not self.rest[0]:
                break
        if several:
            link.deliver(*several)
        if self.rest and (not self.rest[0] or self.rest[1] < 5000):
            self.end("409 Batch Completed")

    async def expire(self) -> None:
        if self.rest:
            self.end("408 Request Timeout")

    def end(self, status: str) -> None:
        messages, size = self.rest
        self.rest = []
        headers = f"Nats-Pending-Messages: {messages}\r\nNats-Pending-Bytes: {size}\r\n"
        self.scene.link.say(status, self.served - 1, headers)

    async def take_room(self) -> None:
        for account, pool in (
            (self.other.received, self.scene.budget.received),
            (self.other.decoded, self.scene.budget.decoded),
        ):
            account.use(self.chance.choice([0, 0, pool.limit // 2, pool.limit]))

    async def stall(self) -> None:
        self.writes = not self.writes

    async def wake(self) -> None:
        self.scene.pull.wake()

    async def age(self) -> None:
        await sleep(0.003)

    async def write(self) -> None:
        """Write and settle all batches that were offered, as the writer does."""
        while self.writes and self.batches.statistics().current_buffer_used:
            batch = (await self.batches.receive()).take()
            self.scene.in_hand.release(batch.deliveries, batch.weight)
            if self.scene.requests.settled():
                self.scene.pull.wake()

    async def come_to_rest(self) -> None:
        """Let all be written that has come; the others give their room back, and nothing more comes."""
        self.writes = True
        self.other.received.use(0)
        self.other.decoded.use(0)
        while self.scene.in_hand:
            await self.write()
            await sleep(0.001)


@pytest.mark.parametrize("seed", range(60))
async def test_all_that_came_is_written_whatever_happened_before(seed: int) -> None:
    async with playing(age="2ms", limit=LIMIT, mailbox=1) as scene:
        outbox, batches = create_memory_object_stream[OpenBatch](math.inf)
        policy = BatchPolicy(SETTINGS.batch_entries, SETTINGS.batch_bytes)
        async with batches, create_task_group() as group:
            group.start_soon(Batcher(policy, scene.mailbox, outbox).run)
            world = World(scene, batches, random.Random(seed))  # noqa: S311 - the same history every time
            left = 0
            while world.sent < ENOUGH and not left:
                for _ in range(STEPS):
                    await world.step()
                with move_on_after(30):
                    await world.come_to_rest()
                left = len(scene.in_hand)
            scene.stopping.set()
            scene.pull.wake()
            await scene.returned.wait()
        assert not left, f"{left} of {world.sent} messages are in hand, and nobody writes them"
