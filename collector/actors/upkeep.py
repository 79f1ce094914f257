"""Upkeep: one actor does for all loggers that move entries what each of them would need a task of its own for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from anyio import create_task_group, lowlevel, sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from anyio import Event

    from collector.flow.in_hand import InHand

_PERIOD = 5.0
"""Seconds between two looks at a logger."""
_AT_ONCE = 500


class Kept(Protocol):
    """A logger while it moves entries."""

    @property
    def in_hand(self) -> InHand:
        """Its unanswered deliveries."""

    @property
    def ack_wait(self) -> float:
        """The ack wait of its durable."""

    @property
    def keeps_alive(self) -> bool:
        """Whether in progress is sent for its deliveries in hand."""

    def give_way(self) -> None:
        """Give back what is in hand when other loggers have waited too long for its room."""

    def rest(self) -> None:
        """Let go of what is needed only while entries come, when none came since the last call."""


class Upkeep:
    """Runs the periodic work for all loggers; each job runs until it is cancelled."""

    name = "upkeep"

    def __init__(self, *jobs: Callable[[], Coroutine[None, None, None]]) -> None:
        self._jobs = jobs

    async def run(self, stopping: Event) -> None:
        """Run all jobs until asked to stop."""
        async with create_task_group() as group:
            for job in self._jobs:
                group.start_soon(job)
            await stopping.wait()
            group.cancel_scope.cancel()


class Rounds:
    """Looks after all loggers in turn: one that rests lets go of tasks, one that others wait for gives way to them."""

    def __init__(self, loggers: Collection[Kept]) -> None:
        self._loggers = loggers

    async def run(self) -> None:
        """Look at all loggers, again and again, until cancelled."""
        while True:
            await sleep(_PERIOD)
            for number, logger in enumerate(list(self._loggers), 1):
                logger.give_way()
                logger.rest()
                if number % _AT_ONCE == 0:
                    await lowlevel.checkpoint()
