"""The game of the archive: rounds of faults while publishers publish and readers look, and the verdict in the end."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from anyio import Event, create_task_group, current_time, move_on_after, sleep

from tests.chaos.archive.faults import CHANGEABLE, MILD, nats_killed
from tests.chaos.archive.found import sighting
from tests.chaos.archive.log import faults_of
from tests.chaos.game import Outcome, Round, said
from tests.chaos.verdict import Damage, Harm, Verdict, judge
from tests.chaos.world import blocking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from tests.chaos.archive.faults import ArchiveFault
    from tests.chaos.archive.world import ArchiveWorld

_FAULT_TIMEOUT = 240.0
"""Seconds: in bad weather a replica waits up to 15 s between two tries, and some faults wait for four creates."""
_SETTLE_TIMEOUT = 120.0
_DRAIN_TIMEOUT = 180.0
_ANOTHER = 0.6
"""The share of rounds in which a fault of another victim is struck at the same time; and again, of a third one."""
_KILL_WITHIN = 2.0


def draw(faults: Sequence[ArchiveFault], chance: Random) -> Iterator[list[ArchiveFault]]:
    """Draw the faults of round after round: each comes before any comes again, and others of other victims join."""
    while True:
        for fault in chance.sample(faults, len(faults)):
            drawn = [fault]
            for other in chance.sample(faults, len(faults)):
                if all(other.victims.isdisjoint(one.victims) for one in drawn) and chance.random() < _ANOTHER:
                    drawn.append(other)
            yield drawn


class ArchiveGame:
    """Plays rounds in one world of the archive. In every round a nats-server is killed besides."""

    def __init__(
        self, world: ArchiveWorld, faults: Sequence[ArchiveFault], seed: int, on_round: Callable[[Round], None]
    ) -> None:
        self._world = world
        self._faults = faults
        self._seed = seed
        self._on_round = on_round

    async def play(self, rounds: int, first: int = 1) -> Outcome:
        """Play; return when all that was published is archived, or had time enough."""
        world, played = self._world, list[Round]()
        drawn = draw(self._faults, Random(self._seed))  # noqa: S311 - the same rounds from the same seed
        async with self._looks():
            async with self._publishers():
                await self._mended()
                for number, faults in zip(range(first, first + rounds), drawn, strict=False):
                    played.append(await self._round(number, faults))
                    self._on_round(played[-1])
            await world.heal()
            left = await self._until_all_is_archived()
        await blocking(*(capturer.stop for capturer in world.capturers))
        with move_on_after(_SETTLE_TIMEOUT):
            while not await world.looks.look_at_all():  # noqa: ASYNC110 - a store has no event
                await sleep(0.5)
        return Outcome(played, self.judge(), left)

    @asynccontextmanager
    async def _looks(self) -> AsyncIterator[None]:
        async with create_task_group() as group:
            group.start_soon(self._world.looks.watch, name="looks")
            yield
            group.cancel_scope.cancel()

    @asynccontextmanager
    async def _publishers(self) -> AsyncIterator[None]:
        stopping = Event()
        async with create_task_group() as group:
            for publisher in self._world.publishers.values():
                group.start_soon(publisher.run, stopping, name=publisher.source.name)
            try:
                yield
            finally:
                stopping.set()

    async def _round(self, number: int, faults: Sequence[ArchiveFault]) -> Round:
        world, name, played = self._world, self._world.name, Round(number, [])
        world.round = number
        world.ledger.begin_round(number)
        world.looks.begin()
        world.strikes.clear()
        blows, started = Counter(world.place.all_blows()), current_time()
        try:
            with move_on_after(_FAULT_TIMEOUT) as patience:
                await self._strike(played, faults)
            if patience.cancelled_caught:
                played.trouble = f"the fault did not end within {_FAULT_TIMEOUT:.0f} s"
        except Exception as failure:  # noqa: BLE001 - a fault that fails is trouble of its round alone
            played.trouble = said(failure)
        await world.heal()
        world.place.set_weather(MILD)
        played.struck = current_time() - started
        if not await self._mended():
            played.trouble += f" not archived within {_SETTLE_TIMEOUT:.0f} s: {await world.waiting()}"
        played.stops = {f"{name} {key}": seconds for key, seconds in world.looks.longest.items()}
        for blow, times in (Counter(world.place.all_blows()) - blows).items():
            world.strikes[f"store: requests {blow}"] += times
        played.strikes = {f"{name}: {struck}": times for struck, times in world.strikes.items()}
        played.faults = [*played.strikes]
        return played

    async def _strike(self, played: Round, faults: Sequence[ArchiveFault]) -> None:
        self._world.place.set_weather(CHANGEABLE)
        async with create_task_group() as group:
            for place, fault in enumerate(faults):
                chance = Random(f"{self._seed} {played.number} {place}")  # noqa: S311 - as above
                group.start_soon(fault.strike, self._world, chance, name=fault.name)
                self._world.strikes.update([fault.name] * fault.counted)
            if not any("nats" in fault.victims for fault in faults):
                group.start_soon(self._kill_nats, played)
        if not played.nats_killed:
            await self._kill_nats(played)

    async def _kill_nats(self, played: Round) -> None:
        chance = Random(f"{self._seed} {played.number} nats")  # noqa: S311 - as above
        await sleep(chance.uniform(0, _KILL_WITHIN))
        await nats_killed(self._world, chance)
        played.nats_killed = True

    async def _mended(self) -> bool:
        """Wait until all that was published so far is visible; return whether that came in time."""
        world, published = self._world, self._world.published()
        with move_on_after(_SETTLE_TIMEOUT):
            while any(world.unseen(published).values()):  # noqa: ASYNC110 - the looks go on meanwhile
                await sleep(0.3)
            return True
        return False

    async def _until_all_is_archived(self) -> dict[str, int]:
        """Wait until nothing waits and no late request is to come; return what is left."""
        left: dict[str, int] = {}
        with move_on_after(_DRAIN_TIMEOUT):
            while (left := await self._world.waiting()) or self._world.place.late:  # noqa: ASYNC110
                await sleep(0.5)
        return left

    def judge(self) -> Verdict:
        """Return what became of all messages, by what was seen so far."""
        world = self._world
        looks, sequences = world.looks, {one.source.name: one.sequences for one in world.publishers.values()}
        seen = (sighting(found, path, sequences) for path, rows in looks.blocks.items() for found in rows)
        verdict = judge(world.ledger, seen)
        verdict.damages += looks.damages
        wrong = partial(Damage, Harm.WRONG, "", number=-1, round=world.round)
        verdict.damages += [wrong(source=path, what=what) for path, what in faults_of(looks.records, looks.blocks)]
        return verdict
