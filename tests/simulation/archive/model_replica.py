"""A replica: it waits for the lease, owns the capture for a tenure, and begins again after each doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.archive.record import BlockKind
from tests.simulation.archive.model_owner import Owner
from tests.simulation.archive.world import Lost, Stopped, Unknown, Wire
from tests.simulation.scheduler import Process, Sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from collector.archive.layout import Key
    from tests.simulation.archive.model_store import Store
    from tests.simulation.archive.model_stream import Inbox, Stream
    from tests.simulation.archive.world import World

ENTRIES = (1, 1, 1, 2, 0)
"""How many entries a message has, by its sequence."""
_LEASE = 10.0
_BEAT = 2.0


class Lease:
    """The key of the owner, with its time to live."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._owner = ""
        self._until = 0.0

    def claim(self, name: str) -> bool:
        """Take it, or keep it, unless another one has it."""
        now = self._world.scheduler.now
        if self._owner not in {name, ""} and now < self._until:
            return False
        self._world.tally["take-overs"] += self._owner != name
        self._owner, self._until = name, now + _LEASE
        return True


class Replica:
    """A process that archives whenever it may."""

    def __init__(
        self, world: World, name: str, stream: Stream, store: Store, lease: Lease, on_crash: Callable[[Replica], None]
    ) -> None:
        self.world = world
        self.process = Process(name)
        self.stream = stream
        self.store = store
        self.wire = Wire(world, self.process, lambda: on_crash(self))
        self.inboxes: list[Inbox] = []
        self.connection = 0
        self._lease = lease
        self._release = world.random.randrange(3)
        self._beat = 0.0
        world.scheduler.start(self.process, self._run())

    def keys_of(self, sequence: int) -> list[Key]:
        """Return the key of each entry of a message, as this release of the replica sees it."""
        keys: list[Key] = []
        for position in range(ENTRIES[sequence % len(ENTRIES)]):
            key = (sequence * 7 + position + self._release * (sequence % 2)) % 5
            keys.append(BlockKind.DEAD if key == 4 else f"k{key}")
        return keys

    def beside(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start a task beside the tenure."""
        self.world.scheduler.start(self.process, coroutine)

    def disconnect(self) -> None:
        """Lose the connection to JetStream with all that is on its way, and have a new one."""
        self.connection += 1
        self.inboxes = [inbox for inbox in self.inboxes if inbox.open]
        for inbox in self.inboxes:
            inbox.reconnect()

    async def keep_lease(self) -> None:
        """Say that this replica lives, now and then. Raises Lost."""
        if self.world.rules.has_lease and self.world.scheduler.now - self._beat >= _BEAT:
            self._beat = self.world.scheduler.now
            if not await self._claim(unknown=True):
                raise Lost("lease")

    async def _claim(self, *, unknown: bool) -> bool:
        try:
            mine: bool = await self.wire.call(self._lease.claim, self.process.name)
        except Unknown:
            return unknown
        return mine

    async def _run(self) -> None:
        while True:
            if self.world.rules.has_lease and not await self._claim(unknown=False):
                await Sleep(_BEAT)
                continue
            owner = Owner(self)
            try:
                await owner.run()
            except Lost as lost:
                self.world.say(self.process.name, "begins again: {}", lost)
            except Stopped as stopped:
                self.world.say(self.process.name, "stops: {}", stopped)
                self.world.stopped = str(stopped)
                self.world.tally["captures that stopped"] += 1
                return
            finally:
                owner.close()
            await Sleep(self.world.random.uniform(0.1, 1.0))
