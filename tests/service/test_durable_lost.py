"""Durables in the memory of nats-server: lost with their server, replaced by other versions, back in a cluster."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import nats.errors
import nats.js.errors
import pytest
from anyio import create_task_group, to_thread

from tests.chaos.servers import Node, nats_cluster, running, start_all
from tests.support.ancestor import Ancestor, ancestor, entry, text
from tests.support.flood import flood
from tests.support.waiting import count, numbers, until, until_empty
from transfer.errors import JetStreamError, TransferError, Unavailable, UnknownDurable
from transfer.jetstream.api import request
from transfer.jetstream.durables import durable_info
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from pymongo.database import Database

    from collector.local import NatsServer, Replica
    from transfer.jetstream.configurations import DurableInfo

pytestmark = pytest.mark.timeout(400)
PLAIN, SERIES = "plain", "series"
EACH = 20_000
QUICK = {"COLLECTOR_ACK_WAIT": "5s", "COLLECTOR_LAG_PERIOD": "200ms"}


async def declare(go: Ancestor) -> None:
    """Declare a plain and a time-series logger, whose streams may be there."""
    await go.put(PLAIN)
    kind = text("collection") + b"\x81" + text("kind") + text("timeseries")
    await go.put(SERIES, b"\x83" + text("key") + text(SERIES) + text("description") + text("") + kind)


async def seen(go: Ancestor, key: str) -> DurableInfo | None:
    """Return the durable of a logger; None while it is not there, or nobody answers."""
    with suppress(UnknownDurable, Unavailable):
        return await durable_info(go.jetstream, Names(go.namespace), key)
    return None


async def in_memory(go: Ancestor, key: str) -> DurableInfo:
    """Wait until the durable of a logger is in memory, and return it."""
    with anyio.fail_after(60):
        while (found := await seen(go, key)) is None or not found.config.mem_storage:  # noqa: ASYNC110 - the server's
            await anyio.sleep(0.02)
    return found


async def patiently(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask until it is answered."""
    with anyio.fail_after(60):
        while True:
            with suppress(TransferError, nats.errors.Error, nats.js.errors.Error, TimeoutError):
                await ask()
                return
            await anyio.sleep(0.1)


def stored(database: Database[dict[str, Any]]) -> int:
    return count(database, PLAIN) + count(database, SERIES)


async def assert_all_once(go: Ancestor, database: Database[dict[str, Any]], entries: int) -> None:
    for key in (PLAIN, SERIES):
        await until(lambda key=key: count(database, key) >= entries, 30)  # type: ignore[misc]
        await patiently(partial(until_empty, go.jetstream, f"{go.namespace}:logs:{key}", 5))
        found = numbers(database, key)
        assert (len(found), set(found.values())) == (entries, {1}), key


async def test_a_lone_server_that_is_killed_four_times_loses_its_durables_and_no_entry(
    own_nats: Callable[..., NatsServer],
    start_replica: Callable[..., Replica],
    database: Database[dict[str, Any]],
    namespace: str,
) -> None:
    nats = own_nats()
    replicas = [start_replica(nats=nats, **QUICK) for _ in range(2)]
    async with ancestor(nats.url, namespace) as go:
        for key in (PLAIN, SERIES):
            await go.make_stream(key)
            assert await flood(nats, f"{namespace}.logs.{key}", (entry(number) for number in range(EACH))) == EACH
        await declare(go)
        made = {(await in_memory(go, PLAIN)).created}
        for kill in range(1, 5):
            await until(lambda kill=kill: stored(database) > kill * EACH // 4, 30)  # type: ignore[misc]
            await to_thread.run_sync(nats.kill)
            await to_thread.run_sync(nats.start)
            await until(lambda: go.connection.is_connected, 20)
            made.add((await in_memory(go, PLAIN)).created)
        assert len(made) == 5
        await assert_all_once(go, database, EACH)
    for replica in replicas:
        assert replica.metric("collector_actor_restarts_total") == 0


async def replace_by_one_on_disk(go: Ancestor, key: str) -> None:
    """Do what a replica of an earlier version does when the durable is not there."""
    name = f"{go.namespace}:logs:{key}"
    config = {"durable_name": name, "ack_policy": "explicit", "ack_wait": 5 * 10**9, "max_ack_pending": 100_000}
    with suppress(UnknownDurable):
        await request(go.jetstream, f"CONSUMER.DELETE.{name}.{name}")
    with suppress(JetStreamError):  # somebody was quicker, with another configuration
        await request(go.jetstream, f"CONSUMER.CREATE.{name}.{name}", {"stream_name": name, "config": config})


@asynccontextmanager
async def load(go: Ancestor, published: list[int]) -> AsyncIterator[None]:
    """Publish to both loggers while the block lasts; `published` has the number of entries of each."""
    enough = anyio.Event()

    async def publish() -> None:
        while not enough.is_set():
            first = len(published) * 100
            for key in (PLAIN, SERIES):
                await go.publish(key, (entry(first + number) for number in range(100)))
            published.append(100)
            await anyio.sleep(0.02)

    async with create_task_group() as group:
        group.start_soon(publish)
        yield
        enough.set()


def has_looked(replica: Replica, until_then: float) -> bool:
    return replica.metric("collector_lag_refresh_timestamp_seconds") > until_then


async def test_durables_on_disk_are_replaced_under_two_replicas_that_pull_and_then_left_alone(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    replicas = [start_replica(**QUICK) for _ in range(2)]
    for key in (PLAIN, SERIES):
        await go.make_stream(key)
        await replace_by_one_on_disk(go, key)
    await declare(go)
    published: list[int] = []
    made: list[DurableInfo] = []
    async with load(go, published):
        for _ in range(4):
            made += [await in_memory(go, key) for key in (PLAIN, SERIES)]
            before = stored(database)
            await until(lambda before=before: stored(database) > before, 30)  # type: ignore[misc]
            async with create_task_group() as group:  # as two of another version would
                for key in (PLAIN, SERIES):
                    group.start_soon(replace_by_one_on_disk, go, key)
                    group.start_soon(replace_by_one_on_disk, go, key)
        replaced = [await in_memory(go, key) for key in (PLAIN, SERIES)]
        assert {one.created for one in made}.isdisjoint(one.created for one in replaced)
    await assert_all_once(go, database, sum(published))
    settled = [await in_memory(go, key) for key in (PLAIN, SERIES)]
    for replica in replicas:
        looks = replica.metric("collector_lag_refresh_timestamp_seconds")
        await until(partial(has_looked, replica, looks + 3 * len(settled)), 10)  # each durable is asked within 2 s
        assert replica.metric("collector_actor_restarts_total") == 0
    assert [(await in_memory(go, key)).created for key in (PLAIN, SERIES)] == [one.created for one in settled]


async def publish_once(go: Ancestor, key: str, numbers: range) -> None:
    """Publish each entry until it is confirmed, under an id that JetStream takes once."""
    for number in numbers:
        headers = {"Nats-Msg-Id": str(number)}
        publish = partial(go.jetstream.publish, f"{go.namespace}.logs.{key}", entry(number), 3, headers=headers)
        await patiently(publish)


def kill_and_start(nodes: Sequence[Node]) -> None:
    for node in nodes:
        node.kill()
    start_all(nodes)


async def test_a_cluster_has_its_durables_again_after_each_kill_of_one_node_or_of_all(
    start_replica: Callable[..., Replica], database: Database[dict[str, Any]], namespace: str, tmp_path: Path
) -> None:
    nodes, entries = nats_cluster(tmp_path, 3), 0
    with running(nodes):
        hosts = ",".join(node.url for node in nodes)
        replicas = [start_replica(nats=nodes[0], NATS_HOSTS=hosts, **QUICK) for _ in range(2)]
        async with ancestor(nodes[0].url, namespace) as go:
            for key in (PLAIN, SERIES):
                name, subjects = f"{namespace}:logs:{key}", [f"{namespace}.logs.{key}"]
                config = {"name": name, "subjects": subjects, "retention": "workqueue", "num_replicas": 3}
                await patiently(partial(request, go.jetstream, f"STREAM.CREATE.{name}", config))
                await replace_by_one_on_disk(go, key)
                assert not (await durable_info(go.jetstream, Names(namespace), key)).config.mem_storage
            await declare(go)
            await in_memory(go, PLAIN)
            for killed in (nodes[1:2], nodes[:1], nodes):
                async with create_task_group() as group:
                    for first in range(entries, entries + 1000, 50):
                        for key in (PLAIN, SERIES):
                            group.start_soon(publish_once, go, key, range(first, first + 50))
                    await until(lambda entries=entries: stored(database) > 2 * entries + 200, 30)  # type: ignore[misc]
                    await to_thread.run_sync(kill_and_start, killed)
                entries += 1000
            await assert_all_once(go, database, entries)
            for key in (PLAIN, SERIES):  # as nats-server remembered it, or made anew when it delivered nothing any more
                await in_memory(go, key)
    for replica in replicas:
        assert replica.metric("collector_actor_restarts_total") == 0
