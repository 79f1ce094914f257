"""Faults of MongoDB: the server, the connections to it, writes that are slow or fail."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from anyio import sleep

from tests.chaos.faults.connections import connection_faults
from tests.chaos.faults.fault import Fault
from tests.chaos.replica import ACK_WAIT
from tests.chaos.world import blocking

if TYPE_CHECKING:
    from random import Random

    from tests.chaos.world import World

_WRITE_CONCERN = {"code": 91, "codeName": "ShutdownInProgress", "errmsg": "chaos"}


async def killed(world: World, chance: Random) -> None:
    """Kill the server with SIGKILL and have it back soon."""
    mongod = await world.primary()
    await blocking(mongod.kill)
    await sleep(chance.uniform(0, 1))
    await blocking(mongod.start)


async def restarted(world: World, chance: Random) -> None:
    """Restart the server as an administrator does."""
    await blocking((await world.primary()).restart)


async def paused(world: World, chance: Random) -> None:
    """Stop the server for longer than ack wait, and wake it up."""
    mongod = await world.primary()
    await blocking(mongod.pause)
    await sleep(ACK_WAIT + chance.uniform(0, 4))
    mongod.resume()


async def reset_in_an_insert(world: World, chance: Random) -> None:
    """Reset the connections while inserts are being worked on, which are done or not, and nobody hears of it."""
    await world.fail("alwaysOn", blockConnection=True, blockTimeMS=400)
    for _ in range(4):
        await sleep(chance.uniform(0.2, 0.6))
        if world.mongo_proxy is not None:
            world.mongo_proxy.reset()
    await world.fail("off")


async def failing(world: World, chance: Random, **data: Any) -> None:
    """Have every insert fail for a while, or every now and then."""
    for _ in range(chance.randint(1, 3)):
        await world.fail("alwaysOn", **data)
        await sleep(chance.uniform(0.3, 1.5))
        await world.fail("off")
        await sleep(chance.uniform(0.1, 0.5))


async def slow(world: World, chance: Random, *, seconds: float) -> None:
    """Have inserts take long."""
    await world.fail("alwaysOn", blockConnection=True, blockTimeMS=int(seconds * 1000))
    await sleep(seconds + chance.uniform(0, 2))
    await world.fail("off")


_FAILING: dict[str, dict[str, Any]] = {
    "closes connections in an insert": {"closeConnection": True},
    "not primary": {"errorCode": 10107},
    "shutdown in progress": {"errorCode": 91},
    "interrupted": {"errorCode": 11601},
    "out of disk space": {"errorCode": 14031},
    "quota exceeded": {"errorCode": 8000},
    "write concern not met": {"writeConcernError": _WRITE_CONCERN},
}
FAULTS = (
    Fault("mongodb: SIGKILL", killed),
    Fault("mongodb: graceful restart", restarted),
    Fault("mongodb: SIGSTOP beyond ack wait", paused),
    Fault("mongodb: reset in an insert", reset_in_an_insert),
    Fault("mongodb: writes slower than ack wait", partial(slow, seconds=ACK_WAIT + 1), cluster=True),
    Fault("mongodb: writes slower than their timeout", partial(slow, seconds=6.0)),
    *(Fault(f"mongodb: {name}", partial(failing, **data)) for name, data in _FAILING.items()),
    *connection_faults("mongodb", lambda world: world.mongo_proxy),
)
