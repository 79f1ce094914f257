"""Every order in which two redrives and a collector may take their steps."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event, create_task_group, fail_after
from bson import ObjectId

from collector.dead_letters.letters import DeadLetterReader
from collector.dead_letters.redrive import Redriven, message_of, redrive
from collector.dead_letters.store import DeadLetterStore
from collector.dead_letters.summary import Filter
from collector.decoding.codec import Codec
from collector.decoding.identity import Incarnation
from collector.errors import SinkUnavailable
from collector.jetstream.publisher import publishing
from collector.model import Delivery, Rejected
from collector.mongodb.calls import open_mongo
from tests.support.letters import FAILED_AT, MIB, POISON, Command, emptied, keep, reject

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pymongo.asynchronous.database import AsyncDatabase
    from pymongo.database import Database

    from collector.jetstream.publisher import RawPublisher
    from collector.local import Mongod
    from tests.support.ancestor import Ancestor


# --- every order in which two redrives and a collector may take their steps


class Scene:
    """One logger with one letter of a message that stays poison."""

    def __init__(self, key: str, go: Ancestor, database: AsyncDatabase[dict[str, Any]]) -> None:
        self.go, self.key, self.collection = go, key, database[f"{key}_fail"]
        self.name, self.subject = f"{go.namespace}:logs:{key}", f"{go.namespace}.logs.{key}"
        self.letters = DeadLetterReader(database, self.collection.name)
        self.storing = _Halting(database, self.collection.name)
        self.body = POISON

    async def open(self) -> None:
        await self.go.make_stream(self.key)
        self.subscription = await self.go.jetstream.pull_subscribe(self.subject, durable=self.name, stream=self.name)
        self.codec = Codec(Incarnation(self.name, "now"))
        await self.go.publish(self.key, [self.body])
        self.storing.gate.set()
        await self.judge()

    async def judge(self) -> bool:
        """Do with the next message what a collector does; say whether there was one."""
        if (await self.go.jetstream.stream_info(self.name)).state.messages == 0:
            return False
        (message,) = await self.subscription.fetch(1, timeout=2)
        fields = b"".join(f"{name}: {value}\r\n".encode() for name, value in (message.headers or {}).items())
        raw = b"NATS/1.0\r\n" + fields + b"\r\n" if fields else b""
        sequence = message.metadata.sequence.stream
        rejects = self.codec.decode(
            Delivery(self.subject, message.reply, message.data, raw, self.name, sequence, 1, 1_700_000_000 * 10**9)
        ).rejects
        while True:
            try:
                await self.storing.store(rejects)
            except SinkUnavailable:
                continue
            break
        await message.ack_sync()
        return True

    async def settled(self) -> list[dict[str, Any]]:
        """Return the letters when nothing is left in the stream."""
        self.storing.gate.set()
        while await self.judge():
            pass
        return await self.collection.find().to_list()


class _Halting(DeadLetterStore):
    """Waits at a gate where a letter was found to be there already."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], collection: str) -> None:
        super().__init__(database, collection, 5.0, lambda: datetime.now(UTC).timestamp())
        self.gate, self.halted = Event(), Event()

    async def _renew(self, letters: list[dict[str, Any]]) -> None:
        self.halted.set()
        await self.gate.wait()
        await super()._renew(letters)


async def redriving(scene: Scene, publisher: RawPublisher, marks: bytes) -> AsyncGenerator[None]:
    """Take the three steps of a redrive; with `marks` of its own its message is no duplicate to JetStream."""
    found = await scene.letters.read([letter.id async for group in scene.letters.find(Filter()) for letter in group])
    yield
    for letter in found:
        message = message_of(letter, scene.body)
        await publisher.publish(message.headers.replace(b"Nats-Msg-Id: ", b"Nats-Msg-Id: " + marks), message.body)
    yield
    await scene.letters.remove([letter.summary for letter in found])
    yield


def orders() -> list[str]:
    """Each order of A's and B's reading, publishing and removing, and of C's finding a letter and replacing it.

    A is the first to publish; C has nothing to do before.
    """
    every = sorted({"".join(order) for order in itertools.permutations("AAABBBCC")})
    return [order for order in every if _second(order, "A") < min(order.index("C"), _second(order, "B"))]


def _second(order: str, who: str) -> int:
    return order.index(who, order.index(who) + 1)


@pytest.mark.parametrize("window", ["within the duplicate window", "after it"])
async def test_no_order_of_two_redrives_and_a_collector_loses_or_doubles_a_letter(
    window: str, go: Ancestor, mongod: Mongod, namespace: str
) -> None:
    marks = (b"", b"") if window.startswith("within") else (b"a-", b"b-")
    with fail_after(160):
        async with open_mongo(mongod.url) as client:
            for number, order in enumerate(orders()):
                scene = Scene(f"{number}-{order}", go, client[namespace])
                await scene.open()
                (before,) = await scene.collection.find().to_list()
                await play(order, scene, marks)
                (after,) = await scene.settled()
                assert (after["_id"], after["body"]) == (before["_id"], POISON), order
                await go.jetstream.delete_stream(scene.name)


async def play(order: str, scene: Scene, marks: tuple[bytes, bytes]) -> None:
    """Take the steps in this order."""
    scene.storing.gate, scene.storing.halted = Event(), Event()
    ended = Event()

    async def judge() -> None:
        await scene.judge()
        ended.set()

    async with publishing(scene.go.connection, scene.subject, scene.name) as publisher, create_task_group() as group:
        steps = {who: redriving(scene, publisher, mark) for who, mark in zip("AB", marks, strict=True)}
        seen: Counter[str] = Counter()
        for who in order:
            seen[who] += 1
            if who != "C":
                await anext(steps[who])
            elif seen[who] == 1:
                group.start_soon(judge)
                await either(scene.storing.halted, ended)
            else:
                scene.storing.gate.set()
                await ended.wait()
        for one in steps.values():
            await one.aclose()


async def either(first: Event, second: Event) -> None:
    async with create_task_group() as group:

        async def wait(event: Event) -> None:
            await event.wait()
            group.cancel_scope.cancel()

        group.start_soon(wait, first)
        group.start_soon(wait, second)


async def test_a_body_in_a_file_is_not_lost_when_it_comes_back_before_the_letter_is_removed(
    go: Ancestor, mongod: Mongod, namespace: str
) -> None:
    first = reject(b"\xc1" + b"x" * 9 * MIB)
    again = reject(first.body, b"NATS/1.0\r\nTransfer-Attempt: 2\r\n\r\n", identity=first.identity, sequence=43)
    async with open_mongo(mongod.url) as client:
        letters, database = DeadLetterReader(client[namespace], "system_fail"), client[namespace]
        storing = _Halting(database, "system_fail")
        storing.gate.set()
        for removed_first in (True, False):
            await database.system_fail.delete_many({})
            await storing.store([first])
            (read,) = await letters.read([first.identity])
            if removed_first:
                assert await letters.remove([read.summary]) == 1
            await storing.store([again])
            if not removed_first:
                assert await letters.remove([read.summary]) == 0
            (kept,) = await letters.read([first.identity])
            assert (kept.body, kept.summary.attempt) == (first.body, 2)
            assert await database["system_fail.files"].count_documents({}) == 1


async def test_a_letter_makes_way_only_for_one_of_a_later_attempt(mongod: Mongod, namespace: str) -> None:
    """A message that is delivered twice must not keep its letter from being removed, nor bring back an older one."""
    identity = ObjectId()

    def of_attempt(number: int) -> Rejected:
        body, headers = b"%d" % number, b"NATS/1.0\r\nTransfer-Attempt: %d\r\n\r\n" % number
        return reject(body, headers, identity=identity)

    async with open_mongo(mongod.url) as client:
        letters = DeadLetterReader(client[namespace], "system_fail")
        for stored, expected in ((1, b"1"), (3, b"3"), (2, b"3"), (1, b"3"), (3, b"3")):
            await keep(mongod, namespace, of_attempt(stored), failed_at=FAILED_AT + stored)
            (kept,) = await letters.read([identity])
            assert kept.body == expected
        (kept,) = await letters.read([identity])
        await keep(mongod, namespace, of_attempt(3), failed_at=FAILED_AT + 100)
        assert await letters.remove([kept.summary]) == 1


async def test_a_letter_that_somebody_has_removed_meanwhile_is_passed_over(
    go: Ancestor, mongod: Mongod, namespace: str
) -> None:
    await keep(mongod, namespace, reject())
    await go.make_stream("system")
    async with open_mongo(mongod.url) as client:
        letters, result = DeadLetterReader(client[namespace], "system_fail"), Redriven()
        (group,) = [group async for group in letters.find(Filter())]
        assert await letters.remove(group) == 1
        async with publishing(go.connection, f"{namespace}.logs.system", f"{namespace}:logs:system") as publisher:
            await redrive(letters, group, publisher, result)
        assert result == Redriven()
        await emptied(go)


async def test_letters_are_left_when_nobody_takes_their_subject(
    mongod: Mongod, namespace: str, database: Database[dict[str, Any]], command: Command
) -> None:
    await keep(mongod, namespace, reject())
    status, out, err = await command.run("redrive", "system")
    assert (status, out) == (1, "redriven: 0, left: 0\n")
    assert f"nobody takes {namespace}.logs.system" in err
    assert database.system_fail.count_documents({}) == 1
