"""Two replicas under load with all that a dashboard has to show: poison, bundles, a time-series logger, failures.

The same stage serves the tests and, for some minutes, the pictures (`python -m tests.grafana`).
"""

from __future__ import annotations

import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec
from anyio import create_task_group, current_time, sleep, to_thread

from collector.demo.signals import in_threads
from collector.local import LocalServers, Replica, local_servers
from tests.grafana.prometheus import Prometheus
from transfer import Transfer
from transfer.entries.entry import encode_entry
from transfer.jetstream.connection import Connection
from transfer.wire import BUNDLE, CONTENT_TYPE, ArchiveSpec, CollectionSpec, LoggerSpec, StreamSpec, encode_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.client import Client

NAMESPACE = "shop"
MISSING = "refunds"
"""A logger that is declared, but has no stream: its pipelines back off."""
_SETTINGS = {"COLLECTOR_ACK_WAIT": "2s", "COLLECTOR_WRITE_TIMEOUT": "1s", "COLLECTOR_LAG_PERIOD": "1s"}
_LIMITED = """
    accounts { LIMITED { jetstream { max_file: 4GB, max_mem: 64MB }, users: [{user: stage, password: stage}] } }
    no_auth_user: stage
"""
_LIMITS = StreamSpec(max_age=86_400.0, max_bytes=256 << 20)
_TICK = 0.1
_POISON = b"\xc1 is no msgpack"


@dataclass(frozen=True, slots=True)
class Source:
    """A logger, and what is published to it: messages a second, entries in each, and the share that is poison."""

    key: str
    rate: float
    entries: int = 1
    poison: float = 0.0
    timeseries: bool = False
    archived: bool = False


SOURCES = (
    Source("orders", 150, poison=0.02),
    Source("web", 400),
    Source("audit", 20, entries=50),
    Source("sensors", 100, timeseries=True),
    Source("payments", 50, archived=True),
)


@dataclass
class Stage:
    """Everything that runs."""

    servers: LocalServers
    replicas: list[Replica]
    prometheus: Prometheus
    connection: Client

    def __post_init__(self) -> None:
        self.transfer = Transfer(self.connection.jetstream(), namespace=NAMESPACE)

    async def declare(self) -> None:
        """Declare all loggers."""
        for source in SOURCES:
            collection = CollectionSpec(kind="timeseries") if source.timeseries else None
            archive = ArchiveSpec(window=2.0) if source.archived else None
            await self.transfer.set(LoggerSpec(source.key, collection=collection, stream=_LIMITS, archive=archive))
        bucket = await self.connection.jetstream().key_value(self.transfer.names.bucket)
        await bucket.put(MISSING, encode_spec(LoggerSpec(MISSING)))

    async def publish(self, pace: Callable[[Source], float] = lambda _: 1.0) -> None:
        """Publish until cancelled; `pace` says by what the rate of a source is multiplied now."""
        chance = random.Random(7)  # noqa: S311 - the same poison every time
        due = dict.fromkeys(SOURCES, 0.0)
        last = current_time()
        while True:
            await sleep(_TICK)
            now = current_time()
            for source in SOURCES:
                due[source] += source.rate * pace(source) * (now - last)
                for _ in range(int(due[source])):
                    await self._send(source, chance)
                due[source] %= 1
            last = now

    async def _send(self, source: Source, chance: random.Random) -> None:
        subject = self.transfer.names.subject(source.key)
        if chance.random() < source.poison:
            await self.connection.publish(subject, _POISON)
        elif source.entries == 1:
            await self.connection.publish(subject, _entry(chance))
        else:
            body = msgspec.msgpack.encode([msgspec.Raw(_entry(chance)) for _ in range(source.entries)])
            await self.connection.publish(subject, body, headers={CONTENT_TYPE: BUNDLE})


def _entry(chance: random.Random) -> bytes:
    data = {"path": "/items", "status": 200, "took": chance.random(), "agent": "x" * chance.randrange(20, 400)}
    return encode_entry(data, time.time_ns(), {"host": "web-1"}, None)


@asynccontextmanager
async def stage(settings: dict[str, str] = _SETTINGS, *, port: int | None = None) -> AsyncIterator[Stage]:
    """Start everything in a temporary folder; all of it ends with the block. `port` is Prometheus's."""
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(in_threads(local_servers(nats_config=_LIMITED)))
        connection = Connection()
        await connection.connect(servers.nats.url)
        stack.push_async_callback(connection.close)
        archive = stack.enter_context(TemporaryDirectory(prefix="archive-"))
        folders = [Path(stack.enter_context(TemporaryDirectory(prefix="replica-"))) for _ in range(2)]
        replicas = [
            Replica(folder, NAMESPACE, servers.nats, servers.mongod, {**settings, "COLLECTOR_ARCHIVE": archive})
            for folder in folders
        ]
        for replica in replicas:
            stack.callback(replica.kill)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="prometheus-")))
        prometheus = Prometheus(folder, replicas, port=port)
        stack.callback(prometheus.kill)
        async with create_task_group() as group:
            for server in (*replicas, prometheus):
                group.start_soon(to_thread.run_sync, server.start)
        one = Stage(servers, replicas, prometheus, connection)
        await one.declare()
        yield one
