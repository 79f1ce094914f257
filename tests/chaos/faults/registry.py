"""Faults of the registry: loggers that are added, updated, removed and spoilt under load."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
from anyio import sleep

from tests.chaos.faults.fault import Fault
from tests.chaos.traffic import Form
from tests.chaos.ways import ByClient, InBundles
from transfer.jetstream.streams import bind_bucket

if TYPE_CHECKING:
    from random import Random

    from tests.chaos.world import World

_ENTRIES = 300
_CROWD = 20


async def added(world: World, chance: Random) -> None:
    """Add a logger of each form, publish to it, and leave it."""
    for form in Form:
        key = world.new_key("added")
        await world.set_logger(key, form)
        await world.publish(key, InBundles if form is Form.BUNDLES else ByClient, _ENTRIES)


async def crowd(world: World, chance: Random) -> None:
    """Add many loggers at once, and remove most of them again, those that hold entries after these are stored."""
    keys = [world.new_key("crowd") for _ in range(_CROWD)]
    for key in keys:
        await world.set_logger(key, Form.PLAIN)
    for key in keys[:5]:
        await world.publish(key, ByClient, 20)
    for key in keys[1:]:
        await world.patiently(partial(world.transfer.remove, key, drain=True))


async def updated(world: World, chance: Random) -> None:
    """Update the loggers under load, again and again."""
    for number in range(6):
        for traffic in world.aims:
            logger = traffic.form.logger(traffic.key, len(world.nats))
            changed = msgspec.structs.replace(logger, description=f"change {number}")
            await world.patiently(partial(world.transfer.update, changed))
        await sleep(chance.uniform(0, 0.5))


async def removed_and_set(world: World, chance: Random) -> None:
    """Remove a logger after draining, and set it again: its stream counts from 1 once more."""
    traffic = chance.choice(world.aims)
    async with traffic.gate.closed():
        await world.patiently(partial(world.transfer.remove, traffic.key, drain=True, timeout=30))
        await sleep(chance.choice((0.0, 1.0)))
        await world.set_logger(traffic.key, traffic.form)


async def spoilt(world: World, chance: Random) -> None:
    """Put a value for a logger under load that nobody can read; its entries wait until it is mended."""
    traffic = chance.choice(world.aims)
    bucket = await world.patiently(partial(bind_bucket, world.jetstream, world.transfer.names))
    value = chance.choice((b"\xc1", b"", b"\x81\xa3key\xa5other"))
    await world.patiently(partial(bucket.put, traffic.key, value))
    await sleep(chance.uniform(0.2, 2))
    await world.set_logger(traffic.key, traffic.form)


async def deleted_and_put(world: World, chance: Random) -> None:
    """Delete only the entry in the bucket, under load; stream and entries stay and wait until it is put again."""
    traffic = chance.choice(world.aims)
    bucket = await world.patiently(partial(bind_bucket, world.jetstream, world.transfer.names))
    await world.patiently(partial(bucket.delete, traffic.key))
    await sleep(chance.uniform(0.2, 2))
    await world.set_logger(traffic.key, traffic.form)


FAULTS = (
    Fault("registry: loggers added", added, cluster=True),
    Fault("registry: a crowd added and removed", crowd),
    Fault("registry: loggers updated", updated, cluster=True),
    Fault("registry: a logger removed and set again", removed_and_set),
    Fault("registry: a spec that cannot be read", spoilt),
    Fault("registry: an entry deleted and put again", deleted_and_put),
)
