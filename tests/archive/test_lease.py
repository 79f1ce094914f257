"""The lease of a capture on real servers: one claimant has it, and it does not hang on one server of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from anyio import fail_after, sleep

from collector.archive.owning.lease import Lease
from tests.chaos.servers import nats_cluster, running
from tests.support.pulling import connected
from transfer.errors import TransferError
from transfer.jetstream.api import request
from transfer.names import LEASES_STREAM

if TYPE_CHECKING:
    from pathlib import Path

    from nats.js import JetStreamContext

    from collector.local import NatsServer

pytestmark = pytest.mark.timeout(120)


async def copies(jetstream: JetStreamContext) -> int:
    """Return in how many copies the bucket is kept."""
    info = msgspec.json.decode(await request(jetstream, f"STREAM.INFO.{LEASES_STREAM}"))
    number: int = info["config"]["num_replicas"]
    return number


async def claimed(lease: Lease) -> bool:
    """Claim until the servers answer."""
    while True:
        try:
            if await lease.claim() or lease.other:
                return lease.is_held
        except TransferError:
            pass
        await sleep(0.05)


async def test_one_claimant_has_the_lease_until_it_gives_it_back(nats_server: NatsServer, namespace: str) -> None:
    with fail_after(60):
        async with connected(nats_server) as connection:
            jetstream = connection.jetstream()
            mine, others = Lease(jetstream, namespace, "mine"), Lease(jetstream, namespace, "other")
            assert await claimed(mine)
            assert not await claimed(others)
            assert (others.other, await mine.claim(), await copies(jetstream)) == ("mine", True, 1)
            await mine.release()
            assert await claimed(others)


async def test_a_lease_in_a_cluster_is_given_whichever_server_is_down(tmp_path: Path) -> None:
    nodes = nats_cluster(tmp_path, 3)
    with fail_after(110), running(nodes):
        async with connected(nodes[0]) as connection:
            assert await claimed(Lease(connection.jetstream(), "first", "mine"))
            assert await copies(connection.jetstream()) == 3
        nodes[0].restart()  # a copy in memory would be empty now
        nodes[1].kill()
        async with connected(nodes[2]) as connection:
            assert await claimed(Lease(connection.jetstream(), "second", "mine"))
