"""A logger in trouble is in trouble alone: what another one publishes can be seen in MongoDB within 2 seconds."""

from __future__ import annotations

import gzip
import os
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group, fail_after
from pymongo import AsyncMongoClient

from tests.integration.ancestor import Ancestor, entry
from tests.integration.flood import flood, header_block
from tests.integration.process import refusing_inserts
from tests.integration.waiting import numbers, state, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer, Replica

pytestmark = pytest.mark.timeout(180)

RATE = 200
LONGEST = 2.0
"""Seconds, on a machine that is not busy with other work; else that much longer."""


class Calm:
    """An undisturbed logger: publishes steadily, and looks at when each entry can be seen."""

    def __init__(self, go: Ancestor, url: str) -> None:
        self._go = go
        self._url = url
        self._published: dict[int, float] = {}
        self.visible_after: dict[int, float] = {}
        self._ending = False

    async def publish(self) -> None:
        """Publish until told to end."""
        subject, number = f"{self._go.namespace}.logs.calm", 0
        started = time.monotonic()
        while not self._ending:
            self._published[number] = time.monotonic()
            await self._go.connection.publish(subject, entry(number))
            number += 1
            await anyio.sleep(max(0.0, started + number / RATE - time.monotonic()))

    async def look(self) -> None:
        """Look until told to end and all that was published could be seen."""
        async with AsyncMongoClient[dict[str, Any]](self._url) as client:
            log = client[self._go.namespace].calm_logs
            while not self._ending or len(self.visible_after) < len(self._published):
                now = time.monotonic()
                first = min(self._published.keys() - self.visible_after.keys(), default=0)
                async for found in log.find({"number": {"$gte": first}}, {"number": 1}):
                    self.visible_after.setdefault(found["number"], now - self._published[found["number"]])
                await anyio.sleep(0.02)

    def end(self) -> None:
        """Publish no more."""
        self._ending = True


class Troubles:
    """What can be wrong with a logger, one after the other; each has a logger of its own."""

    def __init__(self, go: Ancestor, nats: NatsServer, mongod: Mongod, database: Database[dict[str, Any]]) -> None:
        self._go = go
        self._nats = nats
        self._mongod = mongod
        self._database = database

    async def poison(self) -> None:
        await flood(self._nats, f"{self._go.namespace}.logs.poison", [b"\xc1 is no msgpack"] * 5000)

    async def bombs(self) -> None:
        tiny = gzip.compress(b"\xdd\x00\x00\xff\x00" + b"\x80" * 0xFF00, 1)
        large = gzip.compress(bytes(100_000_000), 1)
        values = gzip.compress(b"\x81\xa4data\x81\xa1a\xdd\x00\x90\x00\x00" + b"\x80" * 0x900000, 1)
        headers = header_block(Content_Type="application/vnd.transfer.bundle+msgpack", Content_Encoding="gzip")
        await flood(self._nats, f"{self._go.namespace}.logs.bombs", [tiny, large, values] * 5, headers)

    async def gone(self) -> None:
        for _ in range(3):
            await self._go.publish("gone", (entry(number) for number in range(500)))
            await self._go.jetstream.delete_stream(f"{self._go.namespace}:logs:gone")
            await self._go.make_stream("gone")

    async def refused(self) -> None:
        self._database.create_collection("refused_logs", validator={"number": {"$lt": 0}})
        await flood(self._nats, f"{self._go.namespace}.logs.refused", [entry(number) for number in range(5000)])

    async def slow(self) -> None:
        with refusing_inserts(self._mongod, f"{self._go.namespace}.slow_logs"):
            await flood(self._nats, f"{self._go.namespace}.logs.slow", [entry(number) for number in range(100_000)])
            await anyio.sleep(2)

    async def unreadable(self) -> None:
        for _ in range(10):
            await self._go.put("unreadable", b"\xc1 is no spec")
            await self._go.put("unreadable")

    async def flapping(self) -> None:
        bucket = await self._go.jetstream.key_value(f"{self._go.namespace}_logs")
        await flood(self._nats, f"{self._go.namespace}.logs.flapping", [entry(number) for number in range(20_000)])
        for _ in range(10):
            await bucket.delete("flapping")
            await self._go.put("flapping")


ALL = [name for name in vars(Troubles) if not name.startswith("_")]


async def test_the_flow_of_an_undisturbed_logger_never_stops_for_more_than_2_seconds(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    nats_server: NatsServer,
    mongod: Mongod,
    database: Database[dict[str, Any]],
) -> None:
    replica = start_replica()
    await go.declare("calm", *ALL)
    await until(lambda: all(state(replica, key) == "running" for key in ("calm", *ALL)), 10)
    calm, troubles = Calm(go, mongod.url), Troubles(go, nats_server, mongod, database)
    with fail_after(120):
        async with create_task_group() as group:
            group.start_soon(calm.publish)
            group.start_soon(calm.look)
            for name in ALL:
                before = len(calm.visible_after)
                await getattr(troubles, name)()
                await until(lambda before=before: len(calm.visible_after) > before + RATE // 4, 20)  # type: ignore[misc]
                longest = max(list(calm.visible_after.values())[before:])
                print(f"{name}: visible after {longest:.2f} s at the longest")  # noqa: T201 - figures
            calm.end()
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert max(calm.visible_after.values()) < LONGEST * busy
    assert set(numbers(database, "calm").values()) == {1}
    await until(lambda: database.poison_fail.count_documents({}) == 5000, 30)
    assert state(replica, "calm") == "running"
