"""A replica under load is asked to stop while nats-server hangs: it ends when its shutdown timeout says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.support.ancestor import ancestor, entry
from tests.support.flood import flood
from tests.support.process import refusing_inserts
from tests.support.waiting import state, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.local import Mongod, NatsServer, Replica

LOGGERS, EACH = 4, 4000
SHUTDOWN = 12.0
pytestmark = pytest.mark.timeout(200)


async def test_a_hang_of_nats_under_load_does_not_outlive_the_shutdown_timeout(
    start_replica: Callable[..., Replica],
    own_nats: Callable[..., NatsServer],
    own_mongod: Callable[[], Mongod],
    namespace: str,
) -> None:
    """In progress of all that is in hand is more than the sockets and nats-py's buffer take."""
    server, mongod = own_nats(), own_mongod()
    timeouts = {"COLLECTOR_SHUTDOWN_TIMEOUT": f"{SHUTDOWN}s", "COLLECTOR_WRITE_TIMEOUT": "2s"}
    replica = start_replica(nats=server, mongo=mongod, COLLECTOR_ACK_WAIT="1s", **timeouts)
    keys = [f"stalled{number}" for number in range(LOGGERS)]
    async with ancestor(server.url, namespace) as go:
        await go.declare(*keys)
        await until(lambda: all(state(replica, key) == "running" for key in keys), 20)
        with refusing_inserts(mongod):
            for key in keys:
                await flood(server, f"{namespace}.logs.{key}", (entry(number) for number in range(EACH)))
            await until(lambda: replica.metric("collector_buffer_messages") >= LOGGERS * EACH / 2, 60)
            await anyio.to_thread.run_sync(server.pause)
            try:
                await anyio.sleep(3)  # nine times in progress
                began = time.monotonic()
                replica.terminate()
                await anyio.to_thread.run_sync(replica.wait)
                took = time.monotonic() - began
            finally:
                await anyio.to_thread.run_sync(server.resume)
    print(f"ended after {took:.1f} s")  # noqa: T201
    assert took < 2 * SHUTDOWN, "without a deadline it would not have ended at all"
