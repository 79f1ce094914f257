"""Faults of the data: poison among good entries, entries at every limit of size, entries that are published twice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from anyio import create_task_group, sleep

from tests.chaos.content import fingerprint
from tests.chaos.faults.fault import Fault
from tests.chaos.found import ENTRY_HEADER
from tests.chaos.ledger import Special
from tests.chaos.poison import REFUSED, UNENCODABLE, UNREADABLE, bad_in_bundle
from tests.chaos.sizes import EVERYWHERE, PLAIN_ONLY
from tests.chaos.traffic import Form
from tests.chaos.ways import bundle, encode, publish_once, publish_until_confirmed
from transfer import new_id
from transfer.wire import BUNDLE, CONTENT_TYPE, TRANSFER_ATTEMPT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from tests.chaos.ledger import Source
    from tests.chaos.poison import Maker
    from tests.chaos.traffic import Traffic
    from tests.chaos.world import World

_IN_BUNDLE = 20
_LARGE_BUNDLE = 12_000
"""Entries, more than the service writes with one command."""
_TWICE = 200


async def poisoned(world: World, chance: Random, *, makers: Sequence[Maker]) -> None:
    """Publish one of each kind to each logger, while good entries go on around them."""
    for traffic in world.aims:
        if makers is REFUSED and traffic.form is Form.SERIES:
            continue  # such collections have neither validation rules nor unique indexes
        source = world.source(traffic.key, "poison")
        for make in chance.sample(makers, len(makers)):
            (number,) = numbers = source.take()
            poison = make(source.name, number)
            source.special[number] = Special(fingerprint(poison.body), poison.reason)
            headers = {**poison.headers, ENTRY_HEADER: f"{source.name} {number}"}
            subject = world.transfer.names.subject(traffic.key)
            await publish_once(world.jetstream, subject, poison.body, headers, source, numbers)
            await sleep(chance.uniform(0, 0.05))


async def poisoned_bundles(world: World, chance: Random) -> None:
    """Publish bundles in which some entries are bad, the first and the last among them."""
    for traffic in world.aims:
        source = world.source(traffic.key, "half-bad")
        for _ in range(5):
            numbers = source.take(_IN_BUNDLE)
            bad = set(chance.sample(numbers, 3)) | chance.choice(({numbers[0]}, {numbers[-1]}, set()))
            entries = [_entry(source, number, bad=number in bad) for number in numbers]
            await _publish_bundle(world, source, numbers, entries)


async def sized(world: World, chance: Random) -> None:
    """Publish entries at every limit of size and in every form, and a bundle of very many."""
    for traffic in world.aims:
        source = world.source(traffic.key, "sized")
        for make in EVERYWHERE + (() if traffic.form is Form.SERIES else PLAIN_ONLY):
            (number,) = numbers = source.take()
            message = make(source.name, number, world.connection.max_payload)
            source.special[number] = Special(fingerprint(message.data))
            subject = world.transfer.names.subject(traffic.key)
            await publish_until_confirmed(world.jetstream, subject, message.body, message.headers, source, numbers)
        numbers = source.take(_LARGE_BUNDLE)
        await _publish_bundle(world, source, numbers, [encode(source, number, new_id()) for number in numbers])


async def published_twice(world: World, chance: Random) -> None:
    """Publish entries twice, at the same time and again when they are stored, past JetStream's own window."""
    async with create_task_group() as group:
        for traffic in world.aims:
            group.start_soon(_publish_twice, world, traffic, chance.uniform(0, 2))


async def _publish_twice(world: World, traffic: Traffic, pause: float) -> None:
    source = world.source(traffic.key, "twice")
    subject = world.transfer.names.subject(traffic.key)
    numbers = source.take(_TWICE)
    bodies = {number: encode(source, number, new_id()) for number in numbers}

    async def send(number: int, attempt: int) -> None:
        headers = {TRANSFER_ATTEMPT: str(attempt)} if attempt > 1 else {}
        await publish_until_confirmed(world.jetstream, subject, bodies[number], headers, source, [number])

    async with create_task_group() as group:
        for number in numbers:
            group.start_soon(send, number, 1)
            group.start_soon(send, number, 2)
    await sleep(pause)
    for number in numbers[::2]:
        await send(number, 3)
    everything = bundle(list(bodies.values()))
    headers = {CONTENT_TYPE: BUNDLE, TRANSFER_ATTEMPT: "4"}
    await publish_until_confirmed(world.jetstream, subject, everything, headers, source, numbers)


def _entry(source: Source, number: int, *, bad: bool) -> bytes:
    if not bad:
        return encode(source, number, new_id())
    entry = bad_in_bundle(source.name, number)
    source.special[number] = Special(fingerprint(entry), "malformed")
    return entry


async def _publish_bundle(world: World, source: Source, numbers: Sequence[int], entries: Sequence[bytes]) -> None:
    subject, headers = world.transfer.names.subject(source.key), {CONTENT_TYPE: BUNDLE}
    await publish_until_confirmed(world.jetstream, subject, bundle(entries), headers, source, numbers)


FAULTS = (
    Fault("data: unreadable messages", partial(poisoned, makers=UNREADABLE), cluster=True),
    Fault("data: entries that BSON cannot hold", partial(poisoned, makers=UNENCODABLE)),
    Fault("data: entries that MongoDB's rules refuse", partial(poisoned, makers=REFUSED), cluster=True),
    Fault("data: bad entries in bundles", poisoned_bundles),
    Fault("data: entries at the limits of size", sized),
    Fault("data: entries published twice", published_twice, cluster=True),
)
