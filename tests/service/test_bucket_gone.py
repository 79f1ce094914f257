"""The bucket is deleted, purged, made anew or full of junk, or NATS makes no more consumers: no logger pays for it."""

from __future__ import annotations

import json
import time
from shutil import copytree, rmtree
from typing import TYPE_CHECKING, Any

import anyio
import nats
import pytest

from tests.support.alive import Alive
from tests.support.ancestor import Ancestor, ancestor, entry
from tests.support.waiting import count, state, until
from transfer import Logger, Transfer
from transfer.errors import JetStreamError, UnreadableSpec
from transfer.jetstream.api import request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer, Replica

pytestmark = pytest.mark.timeout(120)
KEYS = ["a", "b", "c"]
QUICK = {"COLLECTOR_RECONCILE_PERIOD": "5s", "COLLECTOR_LAG_PERIOD": "500ms"}


async def running(replica: Replica, *keys: str) -> None:
    await until(lambda: all(state(replica, key) == "running" for key in keys), 20)


async def moves(go: Ancestor, database: Database[dict[str, Any]], number: int) -> None:
    """Assert that what is published is stored."""
    for key in KEYS:
        await go.publish(key, [entry(number)])
        await until(lambda key=key: database[f"{key}_logs"].count_documents({"number": number}) == 1, 20)  # type: ignore[misc]


async def lose(go: Ancestor, how: str) -> None:
    bucket = f"{go.namespace}_logs"
    if how.startswith("purged"):
        await request(go.jetstream, f"STREAM.PURGE.KV_{bucket}")
        if how == "purged, and two declared again":
            for key in KEYS[:2]:
                await go.put(key)
        return
    await go.jetstream.delete_key_value(bucket)
    if how != "deleted":
        await go.jetstream.create_key_value(bucket=bucket)
    if how == "made anew with one of them":
        await go.put("a")


@pytest.mark.parametrize(
    "how", ["deleted", "purged", "purged, and two declared again", "made anew", "made anew with one of them"]
)
async def test_a_bucket_that_is_lost_stops_nothing_is_said_and_is_over_when_it_is_back(
    how: str, start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    replica = start_replica(**QUICK)
    await go.declare(*KEYS)
    await running(replica, *KEYS)
    await lose(go, how)
    await until(lambda: replica.metric("collector_bucket_missing") == 1, 30)
    await moves(go, database, 1)
    for key in KEYS:
        assert state(replica, key) == "running"
    said = replica.status
    assert "bucket" in said["bucket"]["trouble"]
    assert said["bucket"]["trouble"] in said["last_error"]
    assert replica.get("/readyz")[0] == 200, "it moves what it knows"
    if how == "deleted":
        await go.jetstream.create_key_value(bucket=f"{go.namespace}_logs")
    for key in KEYS:
        await go.put(key)
    await until(lambda: replica.metric("collector_bucket_missing") == 0, 30)
    await moves(go, database, 2)
    transfer = Transfer(go.jetstream, namespace=go.namespace)
    for key in KEYS:
        await transfer.remove(key)
    await until(lambda: not replica.status["loggers"], 20)
    assert replica.metric("collector_bucket_missing") == 0, "that was a wish"
    assert replica.metric("collector_actor_restarts_total") == 0


async def test_a_server_that_is_restored_from_an_older_backup_stops_no_newer_logger(
    start_replica: Callable[..., Replica], own_nats: Callable[..., NatsServer], namespace: str, tmp_path: Path
) -> None:
    server = own_nats()
    store = server.folder / "jetstream"
    replica = start_replica(nats=server, **QUICK)
    async with ancestor(server.url, namespace) as go:
        await go.declare(*KEYS)
        await running(replica, *KEYS)
    server.stop()
    copytree(store, tmp_path / "backup")
    server.start()
    async with ancestor(server.url, namespace) as go:
        await go.declare("newer")
        await running(replica, *KEYS, "newer")
    server.stop()
    rmtree(store)
    copytree(tmp_path / "backup", store)
    server.start()
    await until(lambda: "1 loggers that run" in replica.status["bucket"]["trouble"], 30)
    assert "newer" in replica.status["bucket"]["trouble"]
    await running(replica, *KEYS)
    async with ancestor(server.url, namespace) as go:
        await go.declare("newer")
        await running(replica, *KEYS, "newer")
        await until(lambda: replica.metric("collector_bucket_missing") == 0, 20)


async def test_a_replica_that_starts_without_the_bucket_makes_none_where_streams_are_and_is_not_ready(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    nats_server: NatsServer,
    mongod: Mongod,
    database: Database[dict[str, Any]],
    namespace: str,
    tmp_path: Path,
) -> None:
    first = start_replica(**QUICK)
    await go.declare(*KEYS)
    await running(first, *KEYS)
    await go.jetstream.delete_key_value(f"{namespace}_logs")
    first.terminate()
    first.wait()
    await go.publish("a", [entry(number) for number in range(5)])
    made = time.monotonic()
    await until(lambda: time.monotonic() - made > 3.5, 20)  # streams that are just made may be older than their bucket
    with Alive(tmp_path, namespace, nats_server, mongod, QUICK) as second:
        await comes_back(second, go, database)


async def comes_back(second: Replica, go: Ancestor, database: Database[dict[str, Any]]) -> None:
    namespace = go.namespace
    await until(lambda: second.metric("collector_undeclared_stream_messages") == 5, 30)
    assert second.metric("collector_bucket_missing") == 1
    status, text = second.get("/readyz")
    assert status == 503
    assert f"{namespace}_logs" in text
    with pytest.raises(JetStreamError):
        await request(go.jetstream, f"STREAM.INFO.KV_{namespace}_logs")
    transfer = Transfer(go.jetstream, namespace=namespace)
    for key in KEYS:
        await transfer.set(Logger(key))
    await until(lambda: second.get("/readyz")[0] == 200, 20)
    await until(lambda: count(database, "a") == 5, 20)
    assert second.metric("collector_bucket_missing") == 0
    await until(lambda: second.metric("collector_undeclared_stream_messages") == 0, 20)


async def test_listing_leaves_no_consumer_behind_whatever_ends_it(
    start_replica: Callable[..., Replica], own_nats: Callable[..., NatsServer], namespace: str
) -> None:
    server = own_nats()
    replica = start_replica(nats=server, **QUICK)

    async def consumers(go: Ancestor) -> int:
        reply = json.loads(await request(go.jetstream, f"STREAM.INFO.KV_{namespace}_logs"))
        return int(reply["state"]["consumer_count"])

    async with ancestor(server.url, namespace) as go:
        await go.declare(*KEYS)
        await running(replica, *KEYS)
        for _ in range(20):
            assert await consumers(go) <= 1
            await anyio.sleep(0.5)
        replica.terminate()
        replica.wait()
        with anyio.fail_after(20):
            while await consumers(go):  # noqa: ASYNC110 - nobody in this process could set an event
                await anyio.sleep(0.1)


async def test_at_the_limit_of_consumers_loggers_are_seen_and_it_is_said(
    start_replica: Callable[..., Replica], go: Ancestor, namespace: str
) -> None:
    stream = f"KV_{namespace}_logs"
    config = {"name": stream, "subjects": [f"$KV.{namespace}_logs.>"], "max_msgs_per_subject": 1, "discard": "new"}
    config |= {"allow_rollup_hdrs": True, "deny_delete": True, "allow_direct": True, "max_consumers": 1}
    await request(go.jetstream, f"STREAM.CREATE.{stream}", config)
    await go.jetstream.add_consumer(stream, durable_name="somebodys", ack_policy="none")
    await go.declare("a")
    replica = start_replica(**QUICK)
    await running(replica, "a")
    await go.declare("b")
    await running(replica, "b")
    await until(lambda: "maximum consumers" in replica.status["last_error"], 20)
    bucket = await go.jetstream.key_value(f"{namespace}_logs")
    await bucket.delete("b")
    await until(lambda: state(replica, "b") == "none", 20)
    await bucket.delete("a")
    await until(lambda: state(replica, "a") == "none", 20)
    assert replica.metric("collector_bucket_missing") == 0


async def test_junk_in_the_bucket_is_parked_shown_and_counted_in_one_number(
    start_replica: Callable[..., Replica], go: Ancestor, nats_server: NatsServer, namespace: str
) -> None:
    replica = start_replica(**QUICK)
    await go.declare("a")
    bucket = f"$KV.{namespace}_logs"
    for key, value in {"a:b": b"x", "x.y": b"\x81", "fine": b"", "broken": b"\xc1"}.items():
        await go.jetstream.publish(f"{bucket}.{key}", value)
    await running(replica, "a")
    await until(lambda: replica.metric("collector_unreadable_declarations") == 4, 20)
    assert state(replica, "broken") == "parked"
    series = {line for line in replica.get("/metrics")[1].splitlines() if 'logger="' in line}
    assert series
    assert all('logger="a"' in line or 'logger=""' in line for line in series)
    async with await nats.connect(nats_server.url) as connection:
        found = await Transfer(connection.jetstream(), namespace=namespace).list()
    assert [one.key for one in found if isinstance(one, UnreadableSpec)] == ["a:b", "broken", "fine", "x.y"]
