"""The replication of MongoDB: what is written is seen by the majority a little later, in the order it was written.

Until then a change of primary may undo it. Only what the majority has is acknowledged, and looked up.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import World

    Change: TypeAlias = Callable[[], None]


class Oplog:
    """The writes that the majority does not have yet."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._open: deque[tuple[Change, Change]] = deque()
        self._durable = 0
        self._waiting: deque[tuple[int, Change, Change]] = deque()
        self._stalled_until = 0.0

    def stall(self, seconds: float) -> None:
        """Let the majority get nothing for so long."""
        self._stalled_until = max(self._stalled_until, self._world.scheduler.now + seconds)

    def append(self, commit: Change, undo: Change) -> None:
        """Take a write: what makes it seen by the majority, and what undoes it before that."""
        self._open.append((commit, undo))
        if len(self._open) == 1:
            self._world.scheduler.after(self._world.travel(), None, self._commit, self._durable + 1)

    @property
    def durable(self) -> bool:
        """Whether the majority has everything."""
        return not self._open

    def when_durable(self, then: Change, undone: Change) -> None:
        """Do something when the majority has all that is written by now, or something else if that is undone."""
        if self._open:
            self._waiting.append((self._durable + len(self._open), then, undone))
        else:
            then()

    def roll_back(self) -> int:
        """Change the primary: the new one may lack the last of the open writes; return how many were undone."""
        kept = self._world.random.randrange(len(self._open) + 1)
        undone = [self._open.pop() for _ in range(len(self._open) - kept)]
        self._stalled_until = 0.0
        for _, undo in undone:
            undo()
        cut, self._waiting = self._waiting, deque()
        self._commit(self._durable + 1)
        for _, _, answer in cut:
            answer()
        return len(undone)

    def _commit(self, expected: int) -> None:
        if expected != self._durable + 1:
            return  # a change of primary came first
        missing = self._stalled_until - self._world.scheduler.now
        if missing > 0:
            self._world.scheduler.after(missing, None, self._commit, expected)
            return
        while self._open:
            commit, _ = self._open.popleft()
            self._durable += 1
            commit()
        while self._waiting and self._waiting[0][0] <= self._durable:
            self._waiting.popleft()[1]()
