"""The lag that a replica shows while entries come faster than they are stored, beside what the server says."""

from __future__ import annotations

import math
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import nats
import pytest
from anyio import create_task_group, to_thread

from tests.support.process import slow_inserts
from tests.support.waiting import until, until_empty
from transfer import Logger, Transfer
from transfer.jetstream.streams import stream_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.client import Client

    from collector.local import Mongod, NatsServer, Replica

pytestmark = [pytest.mark.timeout(300), pytest.mark.alone]
PERIOD = 1.0
AROUND = 0.3
"""Seconds around the time of a reading in which the server was asked for it, on an idle machine."""
BURST = 400
"""Entries that are published at once; one after the other until the replica has shown a lag of more than one."""


class Readings:
    """What the server and the replica said, and when."""

    def __init__(self) -> None:
        self.around = AROUND
        """`AROUND`, or on a busy machine three times the longest span in which this test itself read nothing."""
        self.server: list[tuple[float, int]] = []
        self.replica: list[tuple[float, float, int]] = []
        """When it was looked at, when the replica had read it, and what."""

    async def watch_server(self, connection: Client, stream: str) -> None:
        while True:
            state = await stream_state(connection.jetstream(), stream)
            now = time.time()
            if self.server:
                self.around = max(self.around, 3 * (now - self.server[-1][0]))
            self.server.append((now, state.messages))
            await anyio.sleep(0.01)

    async def watch_replica(self, replica: Replica) -> None:
        while True:
            page = (await to_thread.run_sync(replica.get, "/metrics"))[1]
            refreshed, shown = (_value(page, name) for name in ("lag_refresh_timestamp_seconds", "lag_messages"))
            self.replica.append((time.time(), refreshed, int(shown)))
            await anyio.sleep(0.05)

    @property
    def shown(self) -> dict[float, int]:
        """Return what the replica showed, by the time of its reading."""
        begun = self.server[0][0] + self.around if self.server else math.inf
        return {refreshed: lag for _, refreshed, lag in self.replica if refreshed >= begun}

    def possible(self, moment: float) -> tuple[int, int]:
        """Return the least and the most that the server said around a moment."""
        said = [messages for when, messages in self.server if abs(when - moment) <= self.around]
        return min(said), max(said)


def _value(page: str, name: str) -> float:
    (line,) = [line for line in page.splitlines() if line.startswith(f"collector_{name}{{")]
    return float(line.rpartition(" ")[2])


@asynccontextmanager
async def watched(replica: Replica, connection: Client, stream: str) -> AsyncIterator[Readings]:
    readings = Readings()
    async with create_task_group() as group:
        group.start_soon(readings.watch_server, connection, stream)
        group.start_soon(readings.watch_replica, replica)
        yield readings
        group.cancel_scope.cancel()


async def test_under_load_it_is_what_the_server_said_at_most_one_refresh_ago(
    start_replica: Callable[..., Replica], nats_server: NatsServer, mongod: Mongod, namespace: str
) -> None:
    replica = start_replica(COLLECTOR_LAG_PERIOD=str(PERIOD), COLLECTOR_BATCH_ENTRIES="50")
    async with await nats.connect(nats_server.url) as connection:
        transfer = Transfer(connection.jetstream(), namespace=namespace)
        await transfer.set(Logger("a"))
        with slow_inserts(mongod, f"{namespace}.a_logs"), anyio.fail_after(120):
            await transfer.publish("a", {"n": 0})
            await until(lambda: "collector_lag_messages{" in replica.get("/metrics")[1], 10)
            async with watched(replica, connection, transfer.names.stream("a")) as readings:
                while max(readings.shown.values(), default=0) <= BURST:
                    async with create_task_group() as group:
                        for number in range(BURST):
                            group.start_soon(transfer.publish, "a", {"n": number})
                await until_empty(connection.jetstream(), transfer.names.stream("a"), 20)
                await until(lambda: list(readings.shown.values())[-1] == 0, 5)
    for looked, refreshed, _ in readings.replica:
        assert looked - refreshed < PERIOD + readings.around
    for refreshed, lag in readings.shown.items():
        least, most = readings.possible(refreshed)
        assert least <= lag <= most, f"shown {lag}, the server said {least} to {most}"
