"""Faults that only clusters have: nodes killed one at a time, leaders and primaries that step down."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from anyio import sleep
from pymongo.errors import AutoReconnect, OperationFailure

from tests.chaos.faults.fault import Fault
from tests.chaos.replica import WRITE_TIMEOUT
from tests.chaos.servers import STANDING_STILL, Node, direct
from tests.chaos.world import blocking
from transfer.jetstream.api import request

if TYPE_CHECKING:
    from random import Random

    from collector.local import Mongod
    from tests.chaos.world import World


async def node_killed(world: World, chance: Random) -> None:
    """Kill any node of the NATS cluster."""
    node = chance.choice(world.nats)
    await blocking(node.kill)
    await sleep(chance.uniform(0, 3))
    await blocking(node.start)


async def leader_killed(world: World, chance: Random) -> None:
    """Kill the node that leads the stream of a logger."""
    stream = world.transfer.names.stream(chance.choice(world.aims).key)
    leader = await world.patiently(partial(_leader, world, stream))
    for node in world.nats:
        if isinstance(node, Node) and node.server_name == leader:
            await blocking(node.kill)
            await sleep(chance.uniform(0, 3))
            await blocking(node.start)


async def all_nodes_killed(world: World, chance: Random) -> None:
    """Kill all nodes of the NATS cluster at once: the state of the durables was in their memory."""
    await blocking(*(node.kill for node in world.nats))
    await sleep(chance.uniform(0, 3))
    await blocking(*(node.start for node in world.nats))


async def rolling_restart(world: World, chance: Random) -> None:
    """Restart one node after the other, as an upgrade does."""
    for node in world.nats:
        await blocking(node.restart)
        await sleep(chance.uniform(1, 2))


async def leaders_stepped_down(world: World, chance: Random, *, of: str) -> None:
    """Have streams or durables led by another node, twice."""
    for _ in range(2):
        for traffic in world.aims:
            stream = world.transfer.names.stream(traffic.key)
            subject = f"{of}.LEADER.STEPDOWN.{stream}" + (f".{stream}" if of == "CONSUMER" else "")
            await world.patiently(partial(request, world.jetstream, subject))
        await sleep(chance.uniform(0.2, 1.5))


async def primary_stepped_down(world: World, chance: Random) -> None:
    """Have MongoDB's primary step down."""
    await blocking(partial(_step_down, await world.primary()))


async def primary_killed(world: World, chance: Random) -> None:
    """Kill MongoDB's primary; the others elect a new one meanwhile."""
    mongod = await world.primary()
    await blocking(mongod.kill)
    await sleep(chance.uniform(2, 5))
    await blocking(mongod.start)


async def primary_paused(world: World, chance: Random) -> None:
    """Stop MongoDB's primary until the others have a new one; it wakes up and still thinks that it is the primary."""
    mongod = await world.primary()
    await blocking(mongod.pause)
    await sleep(chance.uniform(3, 6))
    mongod.resume()


async def secondary_killed(world: World, chance: Random) -> None:
    """Kill a secondary of MongoDB: two of three are still a majority."""
    primary = await world.primary()
    secondary = chance.choice([mongod for mongod in world.mongods if mongod is not primary])
    await blocking(secondary.kill)
    await sleep(chance.uniform(1, 3))
    await blocking(secondary.start)


async def stalled_then_killed(world: World, chance: Random, *, how: str) -> None:
    """Have all secondaries stand still for longer than a write waits, then kill the primary, which alone has it all."""
    stand_still, old = STANDING_STILL[how], await world.primary()
    others = [mongod for mongod in world.data_bearing if mongod is not old]
    await blocking(partial(stand_still, others, stopped=True))
    try:
        await sleep(WRITE_TIMEOUT + chance.uniform(1, 4))
        await blocking(old.kill)
    finally:
        await blocking(partial(stand_still, others, stopped=False))
    await sleep(chance.uniform(0, 4))
    await blocking(old.start)


async def stalled_then_going_on(world: World, chance: Random, *, how: str) -> None:
    """Have all secondaries stand still for longer than a write waits, and then go on."""
    stand_still, old = STANDING_STILL[how], await world.primary()
    others = [mongod for mongod in world.data_bearing if mongod is not old]
    await blocking(partial(stand_still, others, stopped=True))
    try:
        await sleep(WRITE_TIMEOUT + chance.uniform(1, 4))
    finally:
        await blocking(partial(stand_still, others, stopped=False))


async def _leader(world: World, stream: str) -> str:
    info: dict[str, Any] = msgspec.json.decode(await request(world.jetstream, f"STREAM.INFO.{stream}"))
    return str(info["cluster"]["leader"])


def _step_down(mongod: Mongod) -> None:
    with direct(mongod) as client, suppress(AutoReconnect, OperationFailure):
        client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)


FAULTS = tuple(
    Fault(f"cluster: {name}", strike, single=False, cluster=True, arbiter=name.startswith("primary"))
    for name, strike in (
        ("nats node killed", node_killed),
        ("leader of a stream killed", leader_killed),
        ("all nats nodes killed", all_nodes_killed),
        ("rolling restart of nats", rolling_restart),
        ("leaders of streams stepped down", partial(leaders_stepped_down, of="STREAM")),
        ("leaders of durables stepped down", partial(leaders_stepped_down, of="CONSUMER")),
        ("primary stepped down", primary_stepped_down),
        ("primary killed", primary_killed),
        ("primary paused", primary_paused),
        ("secondary killed", secondary_killed),
    )
) + tuple(
    Fault(f"cluster: secondaries {how}, {end}", partial(strike, how=how), single=False, cluster=True, arbiter=True)
    for how in STANDING_STILL
    for end, strike in (("then the primary dies", stalled_then_killed), ("then go on", stalled_then_going_on))
)
