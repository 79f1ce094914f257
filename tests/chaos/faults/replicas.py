"""Faults of replicas."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from anyio import create_task_group, sleep

from tests.chaos.faults.fault import Fault
from tests.chaos.replica import ACK_WAIT, BLOCKED
from tests.chaos.traffic import Form
from tests.chaos.world import blocking

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from tests.chaos.replica import Victim
    from tests.chaos.world import World

_LONGER_THAN_ACK_WAIT = ACK_WAIT + 1.5
_SLOW_INSERT_MS = 1500


async def killed(world: World, chance: Random) -> None:
    """Kill one with SIGKILL, every other time the owner of the time-series logger; it is back soon."""
    replica = await _anyone(world, chance)
    await blocking(replica.kill)
    await sleep(chance.uniform(0, 1))
    await blocking(replica.start)


async def all_killed(world: World, chance: Random) -> None:
    """Kill all of them, and start them again."""
    await blocking(*(replica.kill for replica in world.replicas))
    await blocking(*(replica.start for replica in world.replicas))


async def terminated(world: World, chance: Random) -> None:
    """End one with SIGTERM, as a rollout does."""
    replica = await _anyone(world, chance)
    await blocking(replica.stop)
    await blocking(replica.start)


async def frozen(world: World, chance: Random, *, key: Form) -> None:
    """Stop one that moves a logger's entries until what it holds is another one's, then wake it up."""
    replica = await _mover(world, chance, key)
    await blocking(replica.pause)
    await _taken_over(world, key, replica)
    replica.resume()


async def frozen_while_the_server_writes(world: World, chance: Random, *, key: Form) -> None:
    """Stop one while MongoDB works on its insert: it wakes up to the reply when another one has taken over."""
    names = world.transfer.names
    namespace = f"{names.database}.{names.collection(key)}"
    await world.fail("alwaysOn", blockConnection=True, blockTimeMS=_SLOW_INSERT_MS, namespace=namespace)
    writing = await world.until("a write", lambda: next((one for one in world.replicas if one.is_writing(key)), None))
    await blocking(writing.pause)
    await world.fail("off")
    await _taken_over(world, key, writing)
    writing.resume()


async def frozen_before_it_sends(world: World, chance: Random, *, key: Form) -> None:
    """Stop one exactly between its last check and the sending of an insert, until another one has taken over."""
    replica = await _mover(world, chance, key)
    replica.arm(world.transfer.names.collection(key))
    await world.until("a write to stop in", replica.has_stopped, 10)
    await _taken_over(world, key, replica)
    replica.resume()


async def restart_storm(world: World, chance: Random) -> None:
    """Restart all of them, again and again, each at its own pace."""

    async def storm(replica: Victim, restarts: list[tuple[bool, float]]) -> None:
        for hard, pause in restarts:
            await blocking(replica.kill if hard else replica.stop)
            await blocking(replica.start)
            await sleep(pause)

    async with create_task_group() as group:
        for replica in world.replicas:
            restarts = [(chance.random() < 0.5, chance.uniform(0, 0.5)) for _ in range(3)]
            group.start_soon(storm, replica, restarts)


async def loop_blocked(world: World, chance: Random) -> None:
    """Block the event loop of one for longer than ack wait."""
    (await _anyone(world, chance)).block()
    await sleep(BLOCKED)


async def _anyone(world: World, chance: Random) -> Victim:
    """Return a replica, every other time the owner of the time-series logger."""
    return await _mover(world, chance, Form.SERIES) if chance.random() < 0.5 else chance.choice(world.replicas)


async def _mover(world: World, chance: Random, key: str) -> Victim:
    """Return a replica that stores a logger's entries now: the home of a small one, the owner of a time-series one."""
    return await _storing(world, chance.sample(world.replicas, len(world.replicas)), key)


async def _storing(world: World, replicas: Sequence[Victim], key: str) -> Victim:
    """Wait until one of these has stored more entries of a logger than it had, and return it."""
    before = [one.written(key) for one in replicas]

    def look() -> Victim | None:
        return next((one for one, count in zip(replicas, before, strict=True) if one.written(key) > count), None)

    return await world.until(f"a replica that stores entries of {key}", look)


async def _taken_over(world: World, key: str, frozen: Victim) -> None:
    """Wait until ack wait has ended and another replica stores the logger's entries."""
    await sleep(_LONGER_THAN_ACK_WAIT)
    await _storing(world, [one for one in world.replicas if one is not frozen], key)


_FROZEN = {
    "SIGSTOP beyond ack wait": frozen,
    "SIGSTOP while MongoDB writes": frozen_while_the_server_writes,
    "SIGSTOP before it sends": frozen_before_it_sends,
}
FAULTS = (
    Fault("replica: SIGKILL", killed, cluster=True),
    Fault("replica: SIGKILL of all", all_killed, cluster=True),
    Fault("replica: SIGTERM", terminated, cluster=True),
    Fault("replica: restart storm", restart_storm, cluster=True),
    Fault("replica: event loop blocked", loop_blocked),
    *(
        Fault(f"replica: {name}, {form}", partial(strike, key=form), cluster=form is Form.SERIES, alone=True)
        for name, strike in _FROZEN.items()
        for form in Form
    ),
)
