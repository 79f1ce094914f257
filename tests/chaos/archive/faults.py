"""The faults of the archive: of its replicas, of NATS, and of the store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from anyio import create_task_group, move_on_after, sleep

from tests.chaos.archive.weather import Blow, Weather
from tests.chaos.faults.connections import connection_faults
from tests.chaos.world import blocking, patiently
from transfer.jetstream.api import request

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from random import Random

    from tests.chaos.archive.capturer import Capturer
    from tests.chaos.archive.world import ArchiveWorld

    Strike: TypeAlias = Callable[[ArchiveWorld, Random], Coroutine[Any, Any, None]]
_ARMED_WITHIN = 30.0
_LONGER_THAN_A_LEASE = (10.5, 13.0)
_TAKEN_OVER_WITHIN = 20.0
_LEADER_WITHIN = 20.0


@dataclass(frozen=True, slots=True)
class ArchiveFault:
    """A fault by its name: `victim: what happens`."""

    name: str
    strike: Strike
    worlds: tuple[str, ...] = ("archive-folder", "archive-s3", "archive-azure", "archive-cluster")
    """Where it is struck."""
    counted: bool = True
    """Whether it counts as one; the others count by themselves, as the weather does each request that it strikes."""
    also: frozenset[str] = frozenset()
    """Further victims."""

    @property
    def victims(self) -> frozenset[str]:
        """All that is struck: `replica`, `nats`, `store`."""
        return self.also | {self.name.partition(":")[0]}

    def suits(self, world: str) -> bool:
        """Tell whether it is struck in a world."""
        return world in self.worlds


# --- replicas


async def killed(world: ArchiveWorld, chance: Random) -> None:
    """Kill replicas with SIGKILL, one after the other; each is back soon."""
    for capturer in chance.sample(world.capturers, min(6, len(world.capturers))):
        world.strikes["replica: SIGKILL"] += 1
        await blocking(capturer.kill)
        await sleep(chance.uniform(0, 0.5))
        await blocking(capturer.start)


async def all_killed(world: ArchiveWorld, chance: Random) -> None:
    """Kill all that capture a stream, and start them again."""
    capturers = world.of(chance.choice(world.captures).stream)
    await blocking(*(capturer.kill for capturer in capturers))
    await blocking(*(capturer.start for capturer in capturers))


async def terminated(world: ArchiveWorld, chance: Random) -> None:
    """End one with SIGTERM, as a rollout does."""
    capturer = chance.choice(world.capturers)
    await blocking(capturer.stop)
    await blocking(capturer.start)


async def frozen(world: ArchiveWorld, chance: Random) -> None:
    """Stop some for a moment, each of another stream, let them go on, and so again; in the end for longer."""
    for seconds in (*(chance.uniform(0.05, 1.5) for _ in range(4)), chance.uniform(*_LONGER_THAN_A_LEASE)):
        chosen = [chance.choice(world.of(captured.stream)) for captured in world.captures]
        await blocking(*(capturer.pause for capturer in chosen))
        await sleep(seconds)
        for capturer in chosen:
            capturer.resume()
        world.strikes["replica: SIGSTOP"] += len(chosen)


async def killed_at_a_create(world: ArchiveWorld, chance: Random, *, when: str, of: str) -> None:
    """Have a replica of each stream be killed just before or just after it creates a record or a block."""
    async with create_task_group() as group:
        for captured in world.captures:
            group.start_soon(_armed, world, captured.stream, "kill", when, of)
    for capturer in world.capturers:
        if not capturer.alive:
            await blocking(capturer.kill)
            await blocking(capturer.start)


async def stopped_at_a_create(world: ArchiveWorld, chance: Random, *, when: str, of: str) -> None:
    """Have a replica of each stream stop just before or just after it creates a record or a block, again and again.

    The last time they stop until others have taken over.
    """
    for _ in range(3):
        stopped = await _stopped(world, when, of)
        await sleep(chance.uniform(0, 1))
        for capturer in stopped:
            capturer.resume()
    stopped = await _stopped(world, when, of)
    await _taken_over(world, [capturer.captured.stream for capturer in stopped])
    for capturer in stopped:
        capturer.resume()


async def _taken_over(world: ArchiveWorld, streams: Sequence[str]) -> None:
    """Wait until others archive these streams: there are two records more than when all stood still."""
    await sleep(1)
    before = world.looks.records_of()
    with move_on_after(_TAKEN_OVER_WITHIN):
        while any(world.looks.records_of()[stream] < before[stream] + 2 for stream in streams):  # noqa: ASYNC110
            await sleep(0.1)


async def new_leader_before_the_record(world: ArchiveWorld, chance: Random) -> None:
    """Have each stream and durable led by another server between the count and the creation of the record."""
    for _ in range(3):
        stopped = await _stopped(world, "before", "record")
        for captured in world.captures:
            await _stepped_down(world, f"STREAM.LEADER.STEPDOWN.{captured.stream}")
            if captured.durable:
                await _stepped_down(world, f"CONSUMER.LEADER.STEPDOWN.{captured.stream}.{captured.durable}")
                await _has_leader(world, f"CONSUMER.INFO.{captured.stream}.{captured.durable}")
            world.strikes["nats: new leaders between count and record"] += 1
        for capturer in stopped:
            capturer.resume()


async def nats_killed_before_the_record(world: ArchiveWorld, chance: Random) -> None:
    """Kill nats-server between the count and the creation of the record, and have it back before that goes on."""
    for _ in range(2):
        stopped = await _stopped(world, "before", "record")
        await nats_killed(world, chance)
        for capturer in stopped:
            capturer.resume()
        world.strikes["nats: SIGKILL between count and record"] += 1


async def _stopped(world: ArchiveWorld, when: str, of: str) -> list[Capturer]:
    """Return the replicas that stopped themselves, one of each stream where it came in time."""
    async with create_task_group() as group:
        for captured in world.captures:
            group.start_soon(_armed, world, captured.stream, "stop", when, of)
    return [capturer for capturer in world.capturers if capturer.alive and capturer.has_stopped()]


async def _armed(world: ArchiveWorld, stream: str, do: str, when: str, of: str) -> None:
    armed = world.arm(stream, do=do, when=when, of=of)
    with move_on_after(_ARMED_WITHIN):
        while armed.exists():  # noqa: ASYNC110 - nobody in this process could set an event
            await sleep(0.02)
        world.strikes[f"replica: {_DOING[do]} {when} it creates a {of}"] += 1
    armed.unlink(missing_ok=True)


# --- NATS


async def nats_killed(world: ArchiveWorld, chance: Random) -> None:
    """Kill a nats-server with SIGKILL, and have it back soon."""
    server = chance.choice(world.nats)
    await blocking(server.kill)
    await sleep(chance.uniform(0, 1.5))
    await blocking(server.start)


async def nats_restarted(world: ArchiveWorld, chance: Random) -> None:
    """Restart a nats-server as an administrator does."""
    await blocking(chance.choice(world.nats).restart)


async def all_nats_killed(world: ArchiveWorld, chance: Random) -> None:
    """Kill all nodes of the cluster at once."""
    await blocking(*(node.kill for node in world.nats))
    await blocking(*(node.start for node in world.nats))


async def leaders_stepped_down(world: ArchiveWorld, chance: Random) -> None:
    """Have streams and durables led by another server, again and again."""
    for _ in range(3):
        for captured in world.captures:
            await _stepped_down(world, f"STREAM.LEADER.STEPDOWN.{captured.stream}")
            if captured.durable:
                await _stepped_down(world, f"CONSUMER.LEADER.STEPDOWN.{captured.stream}.{captured.durable}")
            world.strikes["nats: new leaders"] += 1
        await sleep(chance.uniform(0.1, 1.0))


async def _stepped_down(world: ArchiveWorld, subject: str) -> None:
    await patiently(partial(request, world.jetstream, subject))


async def _has_leader(world: ArchiveWorld, subject: str) -> None:
    """Wait until there is a leader again."""
    with move_on_after(_LEADER_WITHIN):
        while True:
            info = msgspec.json.decode(await patiently(partial(request, world.jetstream, subject)))
            if info.get("cluster", {}).get("leader"):
                return
            await sleep(0.05)


# --- the store


async def weather(world: ArchiveWorld, chance: Random, *, of: Weather) -> None:
    """Have a share of all requests struck for some seconds."""
    world.place.set_weather(of)
    await sleep(chance.uniform(4, 7))
    world.place.set_weather(CHANGEABLE)


async def store_killed(world: ArchiveWorld, chance: Random) -> None:
    """Kill the server of the store with SIGKILL, and have it back soon."""
    server = world.place.server
    assert server is not None
    await blocking(server.kill)
    await sleep(chance.uniform(0, 1))
    await blocking(server.start)


async def store_frozen(world: ArchiveWorld, chance: Random) -> None:
    """Stop the server of the store for a while."""
    server = world.place.server
    assert server is not None
    await blocking(server.pause)
    await sleep(chance.uniform(0.5, 5))
    server.resume()


async def store_away(world: ArchiveWorld, chance: Random) -> None:
    """Have no connection to the store, or the folder not be there, again and again."""
    for _ in range(3):
        if world.place.proxy is not None:
            world.place.proxy.open = False
        else:
            world.place.move_away()
        await sleep(chance.uniform(0.1, 1.5))
        world.place.mend()
        world.strikes["store: away"] += 1
        await sleep(chance.uniform(0, 0.5))


async def disk_full(world: ArchiveWorld, chance: Random) -> None:
    """Have no room on the disk, again and again."""
    for _ in range(3):
        await blocking(world.place.fill)
        await sleep(chance.uniform(0.2, 1.5))
        world.place.mend()
        world.strikes["store: disk full"] += 1
        await sleep(chance.uniform(0, 0.5))


_DOING = {"kill": "SIGKILL", "stop": "SIGSTOP"}
_FOLDER, _S3, _AZURE, _CLUSTER = ("archive-folder", "archive-s3", "archive-azure", "archive-cluster")
_REMOTE = (_S3, _AZURE, _CLUSTER)
_SINGLE = (_FOLDER, _S3, _AZURE)
_ALSO = frozenset({"replica"})
CHANGEABLE = Weather(dict.fromkeys(Blow, 0.05), 0.5)
"""The weather while faults are struck."""
MILD = Weather(dict.fromkeys(Blow, 0.03), 0.5)
"""The weather while all is mended, so that no round goes without blows."""
_HALF = {blow: Weather({blow: 0.5}) for blow in Blow}
_ON_THE_WIRE = {Blow.CUT, Blow.CUT_ANSWER, Blow.CONFLICT}
_CREATES = [(when, of) for when in ("before", "after") for of in ("record", "block")]
FAULTS = (
    ArchiveFault("replica: SIGKILL", killed, counted=False),
    ArchiveFault("replica: SIGKILL of all", all_killed),
    ArchiveFault("replica: SIGTERM", terminated),
    ArchiveFault("replica: SIGSTOP", frozen, counted=False),
    *(
        ArchiveFault(
            f"replica: {_DOING[do]} {when} it creates a {of}", partial(strike, when=when, of=of), counted=False
        )
        for do, strike in (("kill", killed_at_a_create), ("stop", stopped_at_a_create))
        for when, of in _CREATES
    ),
    ArchiveFault(
        "nats: new leaders between count and record",
        new_leader_before_the_record,
        (_CLUSTER,),
        counted=False,
        also=_ALSO,
    ),
    ArchiveFault("nats: new leaders", leaders_stepped_down, (_CLUSTER,), counted=False),
    ArchiveFault("nats: SIGKILL of all nodes", all_nats_killed, (_CLUSTER,)),
    ArchiveFault("nats: SIGKILL between count and record", nats_killed_before_the_record, counted=False, also=_ALSO),
    ArchiveFault("nats: graceful restart", nats_restarted),
    *(
        ArchiveFault(each.name, each.strike, _SINGLE)  # type: ignore[arg-type]
        for each in connection_faults("nats", lambda world: world.nats_proxy)
    ),
    *(
        ArchiveFault(
            f"store: requests {blow}",
            partial(weather, of=_HALF[blow]),
            _REMOTE if blow in _ON_THE_WIRE else (_FOLDER, *_REMOTE),
            counted=False,
        )
        for blow in Blow
    ),
    ArchiveFault("store: bad weather", partial(weather, of=Weather(dict.fromkeys(Blow, 0.08), 3.0)), counted=False),
    ArchiveFault("store: SIGKILL", store_killed, (_S3, _CLUSTER)),
    ArchiveFault("store: SIGSTOP", store_frozen, _REMOTE),
    ArchiveFault("store: away", store_away, counted=False),
    ArchiveFault("store: disk full", disk_full, (_FOLDER,), counted=False),
)
