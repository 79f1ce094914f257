"""Faults of NATS: the server, the connections to it, durables and streams."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from anyio import create_task_group, sleep

from tests.chaos.faults.connections import connection_faults
from tests.chaos.faults.fault import Fault
from tests.chaos.ledger import State
from tests.chaos.world import blocking
from transfer.jetstream.api import request
from transfer.jetstream.streams import delete_stream

if TYPE_CHECKING:
    from random import Random

    from tests.chaos.world import World

_BURST = 2000


async def killed(world: World, chance: Random) -> None:
    """Kill a server with SIGKILL and have it back soon."""
    server = chance.choice(world.nats)
    await blocking(server.kill)
    await sleep(chance.uniform(0, 2))
    await blocking(server.start)


async def restarted(world: World, chance: Random) -> None:
    """Restart a server as an administrator does."""
    await blocking(chance.choice(world.nats).restart)


async def killed_amid_deliveries(world: World, chance: Random) -> None:
    """Kill a server in the moment of many deliveries and acks, which it forgets."""
    server = chance.choice(world.nats)
    async with create_task_group() as group:
        for traffic in world.aims:
            group.start_soon(traffic.burst, _BURST)
        await sleep(chance.uniform(0.1, 0.6))
        await blocking(server.kill)
        await blocking(server.start)


async def killed_twice(world: World, chance: Random) -> None:
    """Kill a server again as soon as it is back."""
    server = chance.choice(world.nats)
    for _ in range(2):
        await blocking(server.kill)
        await blocking(server.start)
        await sleep(chance.uniform(0, 0.5))


async def durables_deleted(world: World, chance: Random) -> None:
    """Delete the durable of each logger under load."""
    for traffic in world.aims:
        stream = world.transfer.names.stream(traffic.key)
        await world.patiently(partial(request, world.jetstream, f"CONSUMER.DELETE.{stream}.{stream}"))
        await sleep(chance.uniform(0, 0.3))


async def stream_made_anew(world: World, chance: Random) -> None:
    """Delete a stream while entries wait in it, which destroys them, and make it again: it counts from 1 once more."""
    traffic = chance.choice(world.aims)
    async with traffic.gate.closed():
        await world.drained(traffic.key)
        source, numbers = await traffic.burst(_BURST)
        source.set(numbers, State.MAYBE)
        await world.patiently(partial(delete_stream, world.jetstream, world.transfer.names.stream(traffic.key)))
        await sleep(chance.choice((0, 0, 0.5)))
        await world.set_logger(traffic.key, traffic.form)


FAULTS = (
    Fault("nats: SIGKILL", killed),
    Fault("nats: graceful restart", restarted),
    Fault("nats: SIGKILL amid deliveries", killed_amid_deliveries),
    Fault("nats: SIGKILL twice", killed_twice),
    Fault("nats: durables deleted", durables_deleted, cluster=True),
    Fault("nats: stream made anew", stream_made_anew, cluster=True),
    *connection_faults("nats", lambda world: world.nats_proxy),
)
