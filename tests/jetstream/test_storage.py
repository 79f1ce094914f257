"""How full JetStream is, read from real servers with every kind of limit."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import nats
import pytest
from anyio import Event, create_task_group, fail_after

from collector.actors.storage import StorageWatcher
from collector.events import Failed
from collector.events.readings import Limit, Storage
from collector.jetstream.storage import JetStreamStorage
from tests.support.fakes import Reports
from tests.support.waiting import until
from transfer.errors import Refused, Unavailable
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.js import JetStreamContext

    from collector.local import NatsServer, Replica
    from tests.support.ancestor import Ancestor

pytestmark = pytest.mark.timeout(60)
BODY = b"x" * 1000


@asynccontextmanager
async def connected(server: NatsServer, **login: str) -> AsyncIterator[JetStreamContext]:
    connection = await nats.connect(server.url, **login)
    try:
        yield connection.jetstream()
    finally:
        await connection.close()


async def make(jetstream: JetStreamContext, names: Names, key: str, **limits: Any) -> None:
    await jetstream.add_stream(name=names.stream(key), subjects=[names.subject(key)], retention="workqueue", **limits)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, {}),
        ({"max_msgs": 10}, {Limit.MESSAGES: 0.4}),
        ({"max_msgs": 100, "max_msgs_per_subject": 8}, {Limit.MESSAGES: 0.5}),
        ({"max_bytes": 50_000}, {Limit.BYTES: 0.0822}),
        ({"max_bytes": 50_000, "storage": "memory"}, {Limit.BYTES: 0.0822}),
        ({"max_age": 3600}, {Limit.AGE: 0.0}),
        ({"max_msgs": 2}, {Limit.MESSAGES: 1.0}),
        ({"max_msgs": 10, "max_bytes": 50_000, "max_age": 3600}, dict.fromkeys(Limit)),
    ],
)
async def test_a_stream_says_how_much_of_each_of_its_limits_is_used(
    nats_server: NatsServer, namespace: str, limits: dict[str, Any], expected: dict[Limit, float | None]
) -> None:
    async with connected(nats_server) as jetstream:
        names = Names(namespace)
        await make(jetstream, names, "a", **limits)
        await make(jetstream, names, "empty", **limits)
        for _ in range(4):
            await jetstream.publish(names.subject("a"), BODY)
        found = await JetStreamStorage(jetstream, names).read()
        assert found.filled.get("a", {}).keys() == expected.keys()
        for limit, share in expected.items():
            assert share is None or found.filled["a"][limit] == pytest.approx(share, abs=0.02)
        assert set(found.filled.get("empty", {}).values()) <= {0.0}
        await jetstream.delete_stream(names.stream("a"))
        await jetstream.delete_stream(names.stream("empty"))


ACCOUNTS = """accounts {
    LIMITED { jetstream { max_file: 1MB, max_mem: 256KB }, users: [{user: limited, password: right}] }
    OPEN { jetstream: enabled, users: [{user: open, password: right}] }
    BLIND { jetstream: enabled, users: [{user: blind, password: right, permissions: {
        publish: {deny: "$JS.API.INFO"}, subscribe: ">"}}] }
}"""


async def test_an_account_says_what_it_stores_and_its_limits_where_it_has_any(
    own_nats: Callable[..., NatsServer], namespace: str
) -> None:
    server, names = await anyio.to_thread.run_sync(own_nats, ACCOUNTS), Names(namespace)
    for user, limits in {"limited": [1 << 20, 256 << 10], "open": [None, None]}.items():
        async with connected(server, user=user, password="right") as jetstream:
            await make(jetstream, names, "a")
            for _ in range(100):
                await jetstream.publish(names.subject("a"), BODY)
            file, memory = (await JetStreamStorage(jetstream, names).read()).stores
            assert [file.kind, memory.kind] == ["file", "memory"]
            assert [file.limit, memory.limit] == limits
            assert (file.bytes > 100_000, memory.bytes) == (True, 0)


async def test_who_may_not_ask_is_told_what_is_missing(own_nats: Callable[..., NatsServer], namespace: str) -> None:
    server = await anyio.to_thread.run_sync(own_nats, ACCOUNTS)
    async with connected(server, user="blind", password="right") as jetstream:
        with pytest.raises((Refused, Unavailable)):
            await JetStreamStorage(jetstream, Names(namespace)).read()


async def test_a_replica_exports_it(start_replica: Callable[..., Replica], go: Ancestor) -> None:
    replica = start_replica(COLLECTOR_LAG_PERIOD="200ms")
    await go.declare("system")
    await until(lambda: replica.metric("collector_jetstream_storage_bytes") > 0, 20)


class Scripted:
    """Readings that are played by the test."""

    def __init__(self, *script: Exception | Storage) -> None:
        self.script = list(script)

    async def read(self) -> Storage:
        found = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(found, Exception):
            raise found
        return found


async def test_a_failing_reading_is_said_and_the_next_one_comes() -> None:
    storage, reports, stopping = Scripted(Unavailable("down"), Storage((), {}, {}, 1.0)), Reports(), Event()
    with fail_after(20):
        async with create_task_group() as group:
            group.start_soon(StorageWatcher(storage, reports, 0.01).run, stopping)
            await reports.until(lambda: reports.of(Storage))
            stopping.set()
    assert [failed.error for failed in reports.of(Failed)] == ["down"]


async def test_what_is_not_permitted_is_not_asked_again_and_again() -> None:
    reports, stopping = Reports(), Event()
    with fail_after(20):
        async with create_task_group() as group:
            group.start_soon(StorageWatcher(Scripted(Refused("not permitted")), reports, 0.01).run, stopping)
            await reports.until(lambda: reports.of(Failed))
            stopping.set()
    assert [failed.action for failed in reports.of(Failed)] == ["asking how full JetStream is again in 600 s"]
