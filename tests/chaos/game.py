"""The game: rounds of faults drawn from a seed while producers publish, and the verdict when all is quiet again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from anyio import CancelScope, Event, create_task_group, current_time, move_on_after, sleep, to_thread

from tests.chaos.faults.nats import killed
from tests.chaos.flow import Flow
from tests.chaos.found import sightings
from tests.chaos.replica import ACK_WAIT
from tests.chaos.verdict import Verdict, judge
from tests.chaos.world import CALM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from tests.chaos.faults.fault import Fault
    from tests.chaos.world import World

_FAULT_TIMEOUT = 90.0
_KILL_WITHIN = 2.0
"""Seconds within which a nats-server is killed in a round."""
_SETTLE_TIMEOUT = 90.0
_DRAIN_TIMEOUT = 120.0
_SECOND_FAULT = 0.2
"""The share of rounds in which two faults are struck at the same time."""
_BACKLOG = 1.0
"""Seconds of traffic that may wait in a stream for its flow to count as mended."""


@dataclass(slots=True)
class Round:
    """What was done in a round and how long the flow stood still."""

    number: int
    faults: list[str]
    struck: float = 0.0
    """Seconds until everything that was broken had been mended."""
    stops: dict[str, float] = field(default_factory=dict)
    """The longest stop of the flow into each logger, in seconds."""
    nats_killed: bool = False
    """Whether a nats-server was killed besides, as in every round."""
    strikes: dict[str, int] = field(default_factory=dict)
    """How often each fault was struck, where that is not once."""
    trouble: str = ""
    """What kept the round from being played as it should: the fault failed, or the flow did not come back."""

    @property
    def longest_stop(self) -> float:
        """Of all loggers that were aimed at."""
        return max((seconds for key, seconds in self.stops.items() if key != CALM), default=0.0)


@dataclass(slots=True)
class Outcome:
    """What came of it all."""

    rounds: list[Round]
    verdict: Verdict
    left: dict[str, int]
    """Messages that still wait in streams although they had time enough."""

    @property
    def good(self) -> bool:
        """Whether nothing was harmed, nothing is left, and every round was played, with its kill of a nats-server."""
        played = all(one.nats_killed and not one.trouble for one in self.rounds)
        return self.verdict.good and not self.left and played


def draw(faults: Sequence[Fault], chance: Random) -> Iterator[list[Fault]]:
    """Draw the faults of round after round: each comes before any comes again; now and then another one joins."""
    while True:
        for fault in chance.sample(faults, len(faults)):
            others = [other for other in faults if other.victim != fault.victim and not (fault.alone or other.alone)]
            both = bool(others) and chance.random() < _SECOND_FAULT
            yield [fault, chance.choice(others)] if both else [fault]


class Game:
    """Plays rounds in one world. In every round a nats-server is killed once: amid the faults, or after them."""

    def __init__(self, world: World, faults: Sequence[Fault], seed: int, on_round: Callable[[Round], None]) -> None:
        self._world = world
        self._faults = faults
        self._seed = seed
        self._on_round = on_round
        self._flow = Flow(world.mongo_uri, world.transfer.names, world.traffics)

    async def play(self, rounds: int, first: int = 1) -> Outcome:
        """Play; return when all that was published is stored, or had time enough."""
        played: list[Round] = []
        drawn = draw(self._faults, Random(self._seed))  # noqa: S311 - the same rounds from the same seed
        async with self._traffic():
            await self._mended(current_time())
            for number, faults in zip(range(first, first + rounds), drawn, strict=False):
                played.append(await self._round(number, faults))
                self._on_round(played[-1])
        left = await self._until_all_is_stored()
        return Outcome(played, await to_thread.run_sync(self._judge), left)

    @asynccontextmanager
    async def _traffic(self) -> AsyncIterator[None]:
        stopping = Event()
        async with create_task_group() as watching:
            watching.start_soon(self._flow.watch, name="flow")
            with CancelScope() as patience:
                async with create_task_group() as group:
                    for traffic in self._world.traffics.values():
                        group.start_soon(traffic.run, stopping, name=traffic.key)
                    yield
                    stopping.set()
                    patience.deadline = current_time() + _DRAIN_TIMEOUT
            watching.cancel_scope.cancel()

    async def _round(self, number: int, faults: Sequence[Fault]) -> Round:
        world, played = self._world, Round(number, [fault.name for fault in faults])
        world.ledger.begin_round(number)
        self._flow.begin()
        started = current_time()
        try:
            with move_on_after(_FAULT_TIMEOUT) as patience:
                async with create_task_group() as group:
                    for place, fault in enumerate(faults):
                        chance = Random(f"{self._seed} {number} {place}")  # noqa: S311 - as above
                        group.start_soon(fault.strike, world, chance, name=fault.name)
                    if not any(fault.needs_nats for fault in faults):
                        group.start_soon(self._kill_nats, played)
                if not played.nats_killed:
                    await self._kill_nats(played)
            if patience.cancelled_caught:
                played.trouble = f"the fault did not end within {_FAULT_TIMEOUT:.0f} s"
        except Exception as failure:  # noqa: BLE001 - a fault that fails is trouble of its round alone
            played.trouble = said(failure)
        await world.heal()
        played.struck = current_time() - started
        if not await self._mended(current_time()):
            late = await world.waiting()
            played.trouble += f" the flow was not mended within {_SETTLE_TIMEOUT:.0f} s, there wait {late}"
        played.stops = self._flow.longest_stops
        return played

    async def _kill_nats(self, played: Round) -> None:
        """Kill a nats-server at some moment; one that stands alone loses its durables."""
        chance = Random(f"{self._seed} {played.number} nats")  # noqa: S311 - as above
        await sleep(chance.uniform(0, _KILL_WITHIN))
        await killed(self._world, chance)
        played.nats_killed = True

    async def _mended(self, since: float) -> bool:
        """Wait until each logger's entries flow again and none has a backlog; return whether that came in time."""
        traffics = self._world.traffics
        with move_on_after(_SETTLE_TIMEOUT):
            while True:
                flowing = all(self._flow.last_growth[key] > since for key in traffics)
                if flowing:
                    waiting = await self._world.waiting()
                    if all(waiting.get(key, 0) <= _BACKLOG * traffic.rate for key, traffic in traffics.items()):
                        return True
                await sleep(0.1)
        return False

    async def _until_all_is_stored(self) -> dict[str, int]:
        """Wait until nothing waits, and then for those who may still wake up and write; return what is left."""
        left: dict[str, int] = {}
        with move_on_after(_DRAIN_TIMEOUT):
            while left := {key: count for key, count in (await self._world.waiting()).items() if count}:  # noqa: ASYNC110
                await sleep(0.1)
        await sleep(ACK_WAIT + 1)
        return left

    def _judge(self) -> Verdict:
        world = self._world
        keys = sorted({source.key for source in world.ledger.sources.values()})
        return judge(world.ledger, sightings(world.mongo_uri, world.transfer.names, keys, world.ledger))


def said(failure: BaseException) -> str:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return f"{type(failure).__name__}: {failure}"
