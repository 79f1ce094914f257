"""A replica: it watches the claim, takes it, moves entries while it is the owner, and stands by again.

From the service: `Shares`, `Claim`, `Board`. Written after it: `Owners`, `Candidacy`, `Pipeline._own`, and
`Claims.take` with its order of steps: compare and set, a fence in each session, the mark. That order is rule 2 and half
of rule 5.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from collector.errors import OwnershipLost, SinkUnavailable
from collector.sinks.timeseries.ownership import Board, Claim, Shares, Tenure, write_number
from tests.simulation.model_client import Client
from tests.simulation.model_mongo import CLAIM, HistoryLost, Mongo, NotDurable
from tests.simulation.model_tenure import Moving
from tests.simulation.scheduler import Bell, Process, Sleep

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from tests.simulation.model_jetstream import JetStream
    from tests.simulation.world import World

    OnEnd: TypeAlias = Callable[["Replica"], None]

_PERIOD = 3.0
"""Seconds between two looks at the claim: the service looks more often."""
_LONG_AGO = 3600.0


class Replica:
    """One life of a replica's process."""

    def __init__(self, world: World, name: str, mongo: Mongo, jetstream: JetStream, *, on_end: OnEnd) -> None:
        self.process = Process(name)
        self.client = Client(world, self.process, mongo)
        self.moving: Moving | None = None
        self.stopping = False
        self._world = world
        self._mongo = mongo
        self._jetstream = jetstream
        self._on_end = on_end
        self._slots = world.random.choice((1, 2, 2, 3))
        self._batch_entries = world.random.choice((1, 2, 4))
        self._shares = Shares(name)
        self._seen = Claim(None, 0)
        self._turn = Bell()
        world.scheduler.start(self.process, self._watch())
        world.scheduler.start(self.process, self._run())

    def kill(self) -> None:
        """End it here."""
        self.process.kill()
        if self.moving is not None:
            self.moving.gone()

    def stop(self) -> None:
        """Hand over, and end."""
        self.stopping = True
        self._turn.ring()
        if self.moving is not None:
            self.moving.stop()

    async def _watch(self) -> None:
        name, world = self.process.name, self._world
        await Sleep(world.random.random() * _PERIOD)
        while True:
            try:
                board: Board = await self.client.read(self._mongo.board, name)
            except SinkUnavailable:
                pass
            else:
                self._tell(board)
            await Sleep(_PERIOD)

    def _tell(self, board: Board) -> None:
        """Act on the board as `Owners._tell` does; an impatient replica takes all others for dead."""
        world = self._world
        if world.stormy(world.weather.impatient):
            others = dict.fromkeys(board.silent, _LONG_AGO)
            board = Board(board.claims, others, board.willing)
        moving = self.moving
        owning = {CLAIM: moving.epoch} if moving is not None else {}
        decision = self._shares.decide(board, () if owning else (CLAIM,), owning, world.scheduler.now)
        if decision.take:
            self._seen = board.claims[CLAIM]
            self._turn.ring()
        if moving is not None and decision.hand_over:
            moving.stop()
        if moving is not None and decision.lost:
            moving.lose()

    async def _run(self) -> None:
        while not self.stopping:
            await self._turn
            await self._own()
        self._world.scheduler.after(1.0, None, self._on_end, self)

    async def _own(self) -> None:
        tenure = None if self.stopping else await self._take(self._seen)
        if tenure is None:
            return
        self._world.say(self.process.name, "owns the claim: epoch {}, mark {}", tenure.epoch, tenure.mark)
        moving = self.moving = Moving(self.client, self._jetstream, tenure, batch_entries=self._batch_entries)
        if self.stopping:
            moving.stop()
        await moving.ended
        self.moving = None
        if not moving.lost:
            await self._give_back(tenure.epoch)

    async def _give_back(self, epoch: int) -> None:
        self._world.tally["given back"] += 1
        with suppress(SinkUnavailable):
            await self.client.call(self._mongo.give_back, self.process.name, epoch)

    async def _take(self, seen: Claim) -> Tenure | None:
        """Take the claim as `Claims.take` does, in its order."""
        try:
            taken = await self.client.call(self._mongo.take, self.process.name, seen, self._slots)
            if taken is None:
                return None
            epoch, slots = taken
            self._world.say(self.process.name, "has the claim, epoch {}", epoch)
            world, rules = self._world, self._world.rules
            early = await self._read_mark(epoch) if rules.reads_mark_first else 0
            if world.stormy(world.weather.slow * 3):
                await Sleep(world.travel() + world.random.random() * world.weather.longest / 3)
            for slot in range(slots if rules.fences else 0):
                await self._fence(epoch, slot)
            mark = early if rules.reads_mark_first else await self._read_mark(epoch)
        except (OwnershipLost, SinkUnavailable):
            return None
        return rules.tenure(CLAIM, epoch, self._slots, mark)

    async def _read_mark(self, epoch: int) -> int:
        mark: int | None = await self.client.read(self._mongo.read_mark, epoch)
        if mark is None:
            raise OwnershipLost(CLAIM)
        return mark

    async def _fence(self, epoch: int, slot: int) -> None:
        fence = partial(self._mongo.fence, epoch, slot)
        try:
            changed = await self.client.write(slot, write_number(epoch, 0), [fence])
        except (HistoryLost, NotDurable) as exc:
            raise SinkUnavailable("the fence is not known to stand") from exc
        if changed != 1:
            raise OwnershipLost(CLAIM)
        self._world.say(self.process.name, "has fenced slot {}", slot)
