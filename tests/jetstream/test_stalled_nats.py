"""One logger ends while NATS stalls: the others hear it again as soon as it goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import create_task_group, fail_after, sleep

from collector.jetstream.link import BulkLink
from tests.chaos.proxy import Direction, Proxy
from tests.support.pulling import came, connected, durable, pulling, until
from transfer.jetstream.connection import Connection
from transfer.nats_settings import NatsSettings

if TYPE_CHECKING:
    from collector.local import NatsServer

HOLD = 4.0
"""Longer than the end of a subscription waits for the server."""


@pytest.mark.timeout(60)
async def test_a_logger_that_ends_while_nats_stalls_deafens_no_other(nats_server: NatsServer, namespace: str) -> None:
    ends, stays = f"{namespace}_a", f"{namespace}_b"
    proxy, connection = Proxy(nats_server.port), Connection()
    async with (
        durable(nats_server, ends),
        durable(nats_server, stays) as jetstream,
        connected(nats_server),
        create_task_group() as group,
    ):
        await group.start(proxy.serve)
        await connection.connect(**NatsSettings((f"nats://127.0.0.1:{proxy.port}",)).keywords())
        try:
            link = BulkLink(connection)
            pulls = [pulling(connection, link, name) for name in (ends, stays)]
            for pull in pulls:
                await pull.open()
                await pull.ask(100, 1_000_000)
            await connection.flush()
            proxy.stall(Direction.DOWN)
            await jetstream.publish(f"{stays}.log", b"while it stalls")
            began = time.monotonic()
            await pulls[0].drain()
            assert time.monotonic() - began < HOLD
            await sleep(HOLD - (time.monotonic() - began))
            proxy.open()
            with fail_after(2 * HOLD):  # a reading task that has ended is noticed by nats-py after 12 s
                await until(pulls[1], lambda: came(pulls[1], 1))
                await connection.flush()
            assert connection._reading_task is not None
            assert not connection._reading_task.done()
            assert connection.why_lost is None
        finally:
            with anyio.CancelScope(shield=True):
                await connection.close()
            group.cancel_scope.cancel()
