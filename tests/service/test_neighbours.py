"""A logger in trouble is in trouble alone: what another one publishes can be seen in MongoDB soon, all the time."""

from __future__ import annotations

import gzip
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import fail_after

from tests.support.ancestor import Ancestor, entry
from tests.support.calm import KEY, RATE
from tests.support.flood import flood, header_block
from tests.support.process import refusing_inserts
from tests.support.waiting import count, numbers, state, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer, Replica

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

CALM = "before any trouble"
LONGEST, TIMES_LONGER = 2.0, 10
"""Seconds that an entry may take longer than an insert straight into MongoDB at the same time, or so many times as long
as before any trouble."""


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


def slowest(said: bytes, began: dict[str, float]) -> dict[str, float]:
    """Return the most seconds that an entry took longer than an insert, by the trouble in which it was published."""
    took: dict[str, float] = {}
    for published, seen, inserted in json.loads(said):
        name = max((name for name in began if began[name] <= published), key=began.__getitem__, default=CALM)
        took[name] = max(took.get(name, 0.0), seen - published - inserted)
    return took


async def test_the_flow_of_an_undisturbed_logger_never_stops(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    nats_server: NatsServer,
    mongod: Mongod,
    database: Database[dict[str, Any]],
) -> None:
    replica = start_replica()
    await go.declare(KEY, *ALL)
    await until(lambda: all(state(replica, key) == "running" for key in (KEY, *ALL)), 10)
    troubles = Troubles(go, nats_server, mongod, database)
    began: dict[str, float] = {}
    watching = [sys.executable, "-m", "tests.support.calm", nats_server.url, mongod.url, go.namespace]
    with fail_after(240):
        async with await anyio.open_process(watching, stderr=None) as calm:
            assert calm.stdin
            assert calm.stdout
            await until(lambda: count(database, KEY) > RATE, 20)
            for name in ALL:
                began[name] = time.monotonic()
                await getattr(troubles, name)()
                enough = count(database, KEY) + RATE // 4
                await until(lambda enough=enough: count(database, KEY) > enough, 20)  # type: ignore[misc]
            await calm.stdin.aclose()
            said = b"".join([part async for part in calm.stdout])
    took = slowest(said, began)
    print(f"visible so many seconds later than an insert, at the longest: {took}")  # noqa: T201 - figures
    assert took.keys() >= set(ALL)
    assert max(took.values()) < max(LONGEST, TIMES_LONGER * took[CALM])
    assert set(numbers(database, KEY).values()) == {1}
    await until(lambda: database.poison_fail.count_documents({}) == 5000, 30)
    assert state(replica, KEY) == "running"
