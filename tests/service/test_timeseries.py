"""Time-series loggers on real servers: replicas as processes that come, go, hang and die, and MongoDB as the judge."""

from __future__ import annotations

import secrets
from collections import Counter
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import Event, create_task_group, to_thread
from pymongo import MongoClient

from collector.local import LocalServers, NatsServer, Replica, local_servers
from collector.sinks.timeseries.claims import CLAIMS
from tests.support.ancestor import Ancestor, ancestor, entry, text
from tests.support.waiting import count, numbers, state, until, until_empty, until_stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pymongo.database import Database

pytestmark = pytest.mark.timeout(300)

ACK_WAIT = "5s"
TIMESERIES = text("collection") + b"\x81" + text("kind") + text("timeseries")


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalServers]:
    """Give servers with room for many namespaces; they go with everything in them."""
    with local_servers() as found:
        yield found


class World:
    """A namespace with replicas, a publisher and MongoDB's own eyes."""

    def __init__(self, servers: LocalServers, nats: NatsServer, stack: ExitStack) -> None:
        self.namespace = f"ts_{secrets.token_hex(4)}"
        self.replicas: list[Replica] = []
        self.published: Counter[str] = Counter()
        self._servers, self._nats, self._stack = servers, nats, stack
        client = stack.enter_context(MongoClient[dict[str, Any]](servers.mongod.url))
        self.database: Database[dict[str, Any]] = client[self.namespace]
        self.go: Ancestor

    async def start(self, replicas: int = 1) -> None:
        for _ in range(replicas):
            folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="replica-")))
            settings = {"COLLECTOR_ACK_WAIT": ACK_WAIT}
            replica = Replica(folder, self.namespace, self._nats, self._servers.mongod, settings)
            self._stack.callback(replica.kill)
            await to_thread.run_sync(replica.start)
            self.replicas.append(replica)

    async def declare(self, *keys: str) -> None:
        for key in keys:
            await self.go.make_stream(key)
            await self.go.put(key, b"\x83" + text("key") + text(key) + text("description") + text("") + TIMESERIES)

    async def publish(self, key: str, entries: int) -> None:
        first = self.published[key]
        self.published[key] += entries
        await self.go.publish(key, (entry(first + number) for number in range(entries)))

    @asynccontextmanager
    async def load(self, *keys: str, entries: int = 50) -> AsyncIterator[None]:
        """Publish to all of these until the block is left."""
        enough = Event()

        async def go_on() -> None:
            while not enough.is_set():
                for key in keys:
                    await self.publish(key, entries)
                await anyio.sleep(0.02)

        async with create_task_group() as group:
            group.start_soon(go_on)
            yield
            enough.set()

    async def roles(self, key: str) -> tuple[Replica, Replica]:
        """Return the owner and the one that stands by, when it is settled who is which."""
        await until(lambda: sorted(state(one, key) for one in self.replicas) == ["running", "standby"], 10)
        owner, other = sorted(self.replicas, key=lambda one: state(one, key))
        return owner, other

    @property
    def suspects(self) -> float:
        """How many entries were looked up, as they may have been written before."""
        return sum(one.metric("collector_suspect_entries_total") for one in self.replicas)

    async def grows(self, key: str, seconds: float) -> float:
        """Wait until more is stored than now."""
        before = count(self.database, key)
        return await until(lambda: count(self.database, key) > before, seconds)

    async def assert_all_once(self, seconds: float, *keys: str) -> None:
        for key in keys:
            await until_stored(self.database, [key], self.published[key], seconds)
            await until_empty(self.go.jetstream, f"{self.namespace}:logs:{key}", seconds)
            assert numbers(self.database, key) == Counter(range(self.published[key]))


@asynccontextmanager
async def world(servers: LocalServers, nats: NatsServer | None = None, replicas: int = 2) -> AsyncIterator[World]:
    with ExitStack() as stack:
        found = World(servers, nats or servers.nats, stack)
        await found.start(replicas)
        async with ancestor((nats or servers.nats).url, found.namespace) as found.go:
            yield found


@contextmanager
def paused(replica: Replica) -> Iterator[None]:
    replica.pause()
    try:
        yield
    finally:
        replica.resume()


async def test_one_replica_writes_and_the_other_stands_by_until_the_first_is_asked_to_stop(
    servers: LocalServers,
) -> None:
    async with world(servers) as here:
        await here.declare("ts")
        owner, other = await here.roles("ts")
        await here.publish("ts", 100)
        await until_stored(here.database, ["ts"], 100, 5)
        assert other.metric("collector_received_messages_total") == 0
        async with here.load("ts"):
            await here.grows("ts", 5)
            claimed = here.database[CLAIMS].find_one({"owner": {"$ne": None}, "epoch": {"$exists": True}})
            assert claimed
            owner.terminate()
            assert await to_thread.run_sync(owner.wait) == 0
            now = here.database[CLAIMS].find_one({"_id": claimed["_id"]})
            assert now
            assert now.get("owner") != claimed["owner"], "the claim is given back, and does not have to expire"
            await until(lambda: other.metric("collector_written_entries_total") > 0, 3)
        await here.assert_all_once(10, "ts")
        await to_thread.run_sync(owner.start)
        await until(lambda: state(owner, "ts") == "standby", 5)
        owner.terminate()
        assert await to_thread.run_sync(owner.wait) == 0, "standing by it has nothing to drain"
        assert state(other, "ts") == "running"


async def _killed(servers: LocalServers) -> None:
    async with world(servers) as here:
        await here.declare("ts")
        owner, other = await here.roles("ts")
        async with here.load("ts"):
            await here.grows("ts", 5)
            owner.kill()
            taken = await until(lambda: other.metric("collector_written_entries_total") > 0, 20)
            assert taken < 15, "silent for 10 s, seen within 1 s more, and a moment to take over on a busy machine"
        await here.assert_all_once(20, "ts")
        assert other.metric("collector_suspect_entries_total") > 0, "what the dead one held was looked up"


async def _frozen(servers: LocalServers) -> None:
    async with world(servers) as here:
        await here.declare("ts")
        owner, other = await here.roles("ts")
        async with here.load("ts", entries=200):
            await here.grows("ts", 5)
            await until(lambda: owner.metric("collector_buffer_messages") > 0, 5)
            with paused(owner):
                await until(lambda: other.metric("collector_written_entries_total") > 0, 20)
                await until(lambda: other.metric("collector_redelivered_messages_total") > 0, 20)  # after ack wait
                await here.grows("ts", 5)
            await until(lambda: state(owner, "ts") == "standby", 5)
            await here.grows("ts", 5)
        await here.assert_all_once(20, "ts")
        assert state(other, "ts") == "running"
        assert owner.metric("collector_actor_restarts_total") == 0


async def test_an_owner_that_is_killed_or_freezes_is_replaced_and_nothing_is_lost_or_stored_twice(
    servers: LocalServers,
) -> None:
    async with create_task_group() as group:
        group.start_soon(_killed, servers)
        group.start_soon(_frozen, servers)


async def _scaled_up(servers: LocalServers) -> None:
    keys = [f"ts{number}" for number in range(6)]
    async with world(servers, replicas=1) as here:
        await here.declare(*keys)
        await until(lambda: all(state(here.replicas[0], key) == "running" for key in keys), 10)
        async with here.load(*keys, entries=5):
            await here.start()
            await until(lambda: [_owned(one, keys) for one in here.replicas] == [3, 3], 25)
            before = here.replicas[1].metric("collector_written_entries_total")
            await until(lambda: here.replicas[1].metric("collector_written_entries_total") > before, 5)
        await here.assert_all_once(10, *keys)
        changes = [one.metric("collector_ownership_changes_total") for one in here.replicas]
        assert changes == [6 + 3, 3], "each was handed over once"


def _owned(replica: Replica, keys: list[str]) -> int:
    loggers = replica.status["loggers"]
    return sum(loggers.get(key, {}).get("state") == "running" for key in keys)


async def _nats_killed(servers: LocalServers, nats: NatsServer) -> None:
    """Kill it while a backlog is drained, until it has forgotten deliveries or acks: only then it sends some again."""
    async with world(servers, nats) as here:
        await here.go.make_stream("ts")
        await here.publish("ts", 30_000)
        await here.declare("ts")
        for stored in range(4_000, 29_000, 8_000):
            await until(partial(_more_than, here, stored), 30)
            await to_thread.run_sync(nats.kill)
            await to_thread.run_sync(nats.start)
            if here.suspects > 0:
                break
        await until(lambda: here.go.connection.is_connected, 20)
        await here.assert_all_once(30, "ts")
        assert here.suspects > 0


def _more_than(here: World, entries: int) -> bool:
    return count(here.database, "ts") > entries


async def test_a_second_replica_gets_half_of_the_loggers_and_a_killed_nats_server_makes_nothing_twice(
    servers: LocalServers, own_nats: Callable[..., NatsServer]
) -> None:
    nats = own_nats()
    async with create_task_group() as group:
        group.start_soon(_scaled_up, servers)
        group.start_soon(_nats_killed, servers, nats)


async def test_a_collection_made_by_hand_as_time_series_is_treated_as_one_though_its_logger_is_declared_plainly(
    servers: LocalServers,
) -> None:
    async with world(servers) as here:
        options = {"timeField": "timestamp", "metaField": "tags"}
        here.database.create_collection("hand_logs", timeseries=options)
        await here.go.declare("hand", "plain")
        owner, _ = await here.roles("hand")
        await here.publish("hand", 1000)
        await here.assert_all_once(5, "hand")
        assert [claim["logger"] for claim in here.database[CLAIMS].find()] == ["hand"]
        assert {state(one, "plain") for one in here.replicas} == {"running"}, "shared by all"
        assert owner.metric("collector_ownership_changes_total") == 1


async def test_a_stream_that_is_made_anew_begins_with_a_claim_of_its_own(servers: LocalServers) -> None:
    async with world(servers) as here:
        await here.declare("ts")
        await here.roles("ts")
        await here.publish("ts", 500)
        await here.assert_all_once(5, "ts")
        await here.go.jetstream.delete_stream(f"{here.namespace}:logs:ts")
        await here.go.make_stream("ts")
        await here.publish("ts", 500)
        await here.assert_all_once(15, "ts")
        await here.roles("ts")
        assert here.database[CLAIMS].count_documents({"logger": "ts"}) == 2
        assert sum(one.metric("collector_actor_restarts_total") for one in here.replicas) == 0
