"""The count of rule 7 and what it rests on, on real servers: a reset, acks by number, another reader, a new leader."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec
import nats.errors
import pytest
from anyio import Event, fail_after, lowlevel, move_on_after

from collector.archive.reading import Count, Doubt, DurableFacts, Reading, Verdict, read_slice
from collector.jetstream.link import BulkLink
from tests.chaos.servers import nats_cluster, running
from tests.support.pulling import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from nats.aio.client import Client

    from collector.jetstream.parser import AnyFrame
    from collector.local import NatsServer

pytestmark = pytest.mark.timeout(300)


class Owner:
    """Reads a durable of the same name as its stream, as the owner of a capture does."""

    def __init__(self, connection: Client, stream: str, cursor: int = 0) -> None:
        self.reading = Reading(cursor)
        self.sequences: list[int] = []
        self.archived: list[int] = []
        self._connection = connection
        self._link = BulkLink(connection)
        self._stream = stream
        self._inbox = connection.new_inbox()
        self._changed = Event()

    async def begin(self) -> None:
        await self._link.subscribe(f"{self._inbox}.*", self._receive)
        answer = await self._ask(f"CONSUMER.RESET.{self._stream}.{self._stream}")
        assert "error" not in answer

    def _receive(self, frames: Sequence[AnyFrame]) -> None:
        taken = self.reading.take(read_slice(frames, self._stream, self._stream))
        self.sequences += taken.new.sequences
        self.archived += taken.archived
        self._changed.set()

    async def pull(self, count: int) -> None:
        wanted = msgspec.json.encode({"batch": count, "expires": 2_000_000_000})
        await self._link.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._stream}", wanted, f"{self._inbox}.1")

    async def until(self, received: int) -> None:
        while self.reading.number < received and self.reading.doubt is None:
            await self._changed.wait()
            self._changed = Event()

    async def steal_one(self) -> None:
        """Have the durable give this reader a message, in the middle of another one's reading."""
        await self._link.subscribe(f"{self._inbox}.*", self._receive)
        before = (await self.facts()).number
        await self.pull(1)
        while (await self.facts()).number == before:
            await lowlevel.checkpoint()

    async def facts(self) -> DurableFacts:
        said = await self._ask(f"CONSUMER.INFO.{self._stream}.{self._stream}")
        delivered = said["delivered"]
        return DurableFacts(said["num_ack_pending"], delivered["consumer_seq"], delivered["stream_seq"])

    async def verdict(self) -> Verdict:
        """Ask until the answer is certain."""
        count = Count(self.reading, tries=50)
        while (found := count.judge(await self.facts())) is Verdict.AGAIN:
            await lowlevel.checkpoint()
        return found

    async def ack(self, sequences: Sequence[int]) -> None:
        head = f"$JS.ACK.{self._stream}.{self._stream}.1"
        await self._link.answer([(f"{head}.{sequence}.0.0.0", b"+ACK") for sequence in sequences])

    async def left(self) -> int:
        messages: int = (await self._ask(f"STREAM.INFO.{self._stream}"))["state"]["messages"]
        return messages

    async def _ask(self, call: str) -> dict[str, Any]:
        while True:
            with suppress(nats.errors.Error):  # a cluster that elects a leader answers nothing, or that it has none
                answer = await self._connection.request(f"$JS.API.{call}", b"", timeout=5)
                said: dict[str, Any] = msgspec.json.decode(answer.data)
                if said.get("error", {}).get("code") != 503:
                    return said
            await lowlevel.checkpoint()


@asynccontextmanager
async def filled(server: NatsServer, name: str, messages: int, replicas: int = 1) -> AsyncIterator[Client]:
    """Make a work queue with a durable and messages in it."""
    async with connected(server) as connection:
        jetstream = connection.jetstream(timeout=30)
        while True:
            with suppress(nats.errors.Error):  # a cluster that has no leader yet
                subjects = [f"{name}.>"]
                await jetstream.add_stream(name=name, subjects=subjects, retention="workqueue", num_replicas=replicas)
                break
        config = {"durable_name": name, "ack_policy": "explicit", "max_ack_pending": 100_000, "num_replicas": replicas}
        wanted = msgspec.json.encode({"stream_name": name, "config": config})
        await connection.request(f"$JS.API.CONSUMER.CREATE.{name}.{name}", wanted, timeout=30)
        for number in range(messages):
            await jetstream.publish(f"{name}.log", b"%d" % number)
        try:
            yield connection
        finally:
            await jetstream.delete_stream(name)


async def test_after_a_reset_the_count_is_right_until_somebody_else_is_given_a_message(
    nats_server: NatsServer, namespace: str
) -> None:
    with fail_after(60):
        async with filled(nats_server, namespace, 20) as connection, connected(nats_server) as another:
            owner, thief = Owner(connection, namespace), Owner(another, namespace)
            await owner.begin()
            await owner.pull(15)
            await owner.until(15)
            assert (owner.sequences, await owner.verdict()) == (list(range(1, 16)), Verdict.RIGHT)

            await thief.steal_one()
            assert (await owner.verdict(), owner.reading.doubt) == (Verdict.DOUBT, Doubt.COUNT)

            again = Owner(connection, namespace)
            await again.begin()
            await again.pull(20)
            await again.until(20)
            assert (again.sequences, await again.verdict()) == (list(range(1, 21)), Verdict.RIGHT)


async def test_a_gap_is_seen_when_the_next_message_is_not_the_next_delivery(
    nats_server: NatsServer, namespace: str
) -> None:
    with fail_after(60):
        async with filled(nats_server, namespace, 20) as connection, connected(nats_server) as another:
            owner, thief = Owner(connection, namespace), Owner(another, namespace)
            await owner.begin()
            await owner.pull(5)
            await owner.until(5)
            await thief.steal_one()
            await owner.pull(1)
            await owner.until(6)
            assert owner.reading.doubt is Doubt.GAP


async def test_acks_by_number_work_after_another_reset_and_repeats_are_told_by_the_cursor(
    nats_server: NatsServer, namespace: str
) -> None:
    with fail_after(60):
        async with filled(nats_server, namespace, 1000) as connection:
            first = Owner(connection, namespace)
            await first.begin()
            await first.pull(600)
            await first.until(600)

            second = Owner(connection, namespace, cursor=400)  # up to here it is archived, and no ack arrived
            await second.begin()
            await second.pull(1000)
            await second.until(1000)
            assert (second.archived, second.sequences) == (list(range(1, 401)), list(range(401, 1001)))
            assert not second.reading.agrees(await second.facts())
            await first.ack(second.archived)
            assert await second.verdict() is Verdict.RIGHT
            await second.ack(second.sequences)
            second.reading.settled(1000, 600)
            assert await second.verdict() is Verdict.RIGHT
            assert await second.left() == 0


async def test_a_right_count_stays_true_when_the_durable_of_three_servers_gets_another_leader(tmp_path: Path) -> None:
    """With or without a new leader in between: who has a right count holds all up to its highest sequence."""
    name = "orders"
    nodes = nats_cluster(tmp_path, 3)
    with fail_after(240), running(nodes):
        async with filled(nodes[0], name, 60, replicas=3) as connection:
            owner, verdicts = Owner(connection, name), list[Verdict]()
            await owner.begin()
            while owner.reading.highest < 60:
                if owner.reading.doubt is not None:  # the requests of the old leader are gone
                    owner = Owner(connection, name)
                    await owner.begin()
                await owner.pull(10)
                with move_on_after(5):
                    await owner.until(owner.reading.number + 10)
                before = await owner.verdict()
                await owner._ask(f"CONSUMER.LEADER.STEPDOWN.{name}.{name}")
                after = await owner.verdict()
                verdicts += [before, after]
                if Verdict.RIGHT in {before, after}:
                    assert owner.sequences == list(range(1, owner.reading.highest + 1))
                if owner.reading.doubt is None and after is not Verdict.RIGHT:
                    owner.reading.doubt = Doubt.COUNT
            assert Verdict.RIGHT in verdicts
            assert owner.sequences == list(range(1, 61))
            await owner.ack(owner.sequences)
            while await owner.left():
                await owner.ack(owner.sequences)
