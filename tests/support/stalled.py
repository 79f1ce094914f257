"""A replica set whose secondaries stop replicating while all of them look well, and then its primary dies."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from tests.chaos.servers import initiate, members, primary, replication, running, start_all, step_up, uri

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from collector.local import Mongod


class ReplicaSet:
    """Three members, the last of them an arbiter or not."""

    def __init__(self, mongods: Sequence[Mongod], *, arbiter: bool) -> None:
        self.mongods = mongods
        self.url = uri(mongods)
        self.data_bearing = mongods[:-1] if arbiter else mongods

    async def primary(self) -> Mongod:
        """Return the member that takes writes; wait for one."""
        while True:
            found = await to_thread.run_sync(primary, self.mongods)
            if found is not None:
                return found
            await anyio.sleep(0.01)

    async def stall(self) -> Mongod:
        """Let the secondaries get nothing more; return the primary, which goes on as before."""
        found = await self.primary()
        await to_thread.run_sync(self._replication, found, True)
        return found

    async def go_on(self) -> None:
        """Let the secondaries replicate again."""
        await to_thread.run_sync(self._replication, None, False)

    async def fail_over(self, old: Mongod) -> None:
        """Kill a stalled set's primary; a secondary that lacks its last writes is elected, and it comes back."""
        await to_thread.run_sync(old.kill)
        await to_thread.run_sync(self._replication, old, False)
        others = [mongod for mongod in self.data_bearing if mongod is not old]
        while not await to_thread.run_sync(step_up, others[0]):  # noqa: ASYNC110 - nobody could set an event
            await anyio.sleep(0.05)
        await to_thread.run_sync(start_all, [old])
        await self.primary()

    def _replication(self, but: Mongod | None, stopped: bool) -> None:
        replication([mongod for mongod in self.data_bearing if mongod is not but], stopped=stopped)


@contextmanager
def replica_set(*, arbiter: bool) -> Iterator[ReplicaSet]:
    """Start one; leaving kills it."""
    with TemporaryDirectory(prefix="stalled-") as folder:
        mongods = members(Path(folder), 3)
        with running(mongods):
            initiate(mongods, arbiter=arbiter)
            yield ReplicaSet(mongods, arbiter=arbiter)
