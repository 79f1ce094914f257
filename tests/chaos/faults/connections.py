"""Faults of the connections of all replicas to a server, by the proxy before it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from anyio import sleep

from tests.chaos.faults.fault import Fault
from tests.chaos.proxy import Direction, Proxy
from tests.chaos.replica import ACK_WAIT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from random import Random

    from tests.chaos.world import World

_SLOW = 30_000.0
"""Bytes a second of a connection that is slow: a tenth of what the traffic needs."""


def connection_faults(victim: str, proxy_of: Callable[[World], Proxy | None]) -> Iterator[Fault]:
    """Make the faults of the connections to one server."""
    both = (Direction.UP, Direction.DOWN)
    ways = (
        ("cut", _cut),
        ("reset", _reset),
        ("stalled up, then reset", partial(_stalled, directions=(Direction.UP,))),
        ("stalled down, then reset", partial(_stalled, directions=(Direction.DOWN,))),
        ("stalled, then going on", partial(_stalled, directions=both, then_reset=False)),
        ("slow", partial(_slow, directions=both)),
    )
    for name, strike in ways:
        yield Fault(f"{victim}: connections {name}", partial(_at, proxy_of, strike))


async def _at(
    proxy_of: Callable[[World], Proxy | None],
    strike: Callable[[Proxy, Random], Awaitable[None]],
    world: World,
    chance: Random,
) -> None:
    proxy = proxy_of(world)
    if proxy is None:
        raise ValueError("expected a world with proxies")
    await strike(proxy, chance)


async def _cut(proxy: Proxy, chance: Random) -> None:
    for _ in range(chance.randint(1, 4)):
        proxy.cut()
        await sleep(chance.uniform(0.05, 0.6))


async def _reset(proxy: Proxy, chance: Random) -> None:
    for _ in range(chance.randint(1, 4)):
        proxy.reset()
        await sleep(chance.uniform(0.05, 0.6))


async def _stalled(proxy: Proxy, chance: Random, *, directions: tuple[Direction, ...], then_reset: bool = True) -> None:
    """Stall; what is under way that way is gone with the reset, what the other direction brought has arrived."""
    proxy.stall(*directions)
    await sleep(chance.uniform(0.2, ACK_WAIT + 1.5))
    if then_reset:
        proxy.reset()
    proxy.open()


async def _slow(proxy: Proxy, chance: Random, *, directions: tuple[Direction, ...]) -> None:
    proxy.slow(_SLOW, *directions)
    await sleep(chance.uniform(1, ACK_WAIT + 1))
    proxy.open()
