"""All that the models of one schedule of the archive share, and the weather of that schedule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.scheduler import Answer, Bell, Process, Sleep
from tests.simulation.world import Scene

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from collector.archive.cut import CutPolicy
    from tests.simulation.archive.rules import Rules

_TIMEOUT = 5.0
_LATEST = 90.0


class Unknown(Exception):
    """No answer came in time: whatever was asked for may have happened, may happen later, or never."""


class Done:
    """Is set once, for the one task that waits for it."""

    def __init__(self) -> None:
        self._bell = Bell()
        self._is_set = False

    def set(self) -> None:
        """Let the task go on."""
        if not self._is_set:
            self._is_set = True
            self._bell.ring()

    async def wait(self) -> None:
        """Wait until it is set."""
        if not self._is_set:
            await self._bell


class Lost(Exception):
    """The tenure ends: somebody else has it, or the owner is not sure of anything any more."""


class Stopped(Exception):
    """The stream contradicts the log: nobody archives it any more until somebody has looked at it."""


class Weather:
    """How long things take in one schedule, and how often they go wrong. After the storm all is well."""

    def __init__(self, random: Random, until: float) -> None:
        self.until = until
        self.slow = random.choice((0.0, 0.02, 0.05))
        self.longest = random.choice((0.5, 2.0, 10.0))
        self.lost = random.choice((0.0, 0.03, 0.1))
        """How often a request, an answer or a message gets lost."""
        self.late = random.choice((0.0, 0.03, 0.1))
        """How often a put arrives up to 90 s late."""
        self.freezing = random.choice((0.0, 0.005, 0.02))
        """How often a replica freezes at the moment of a call."""
        self.crashing = random.choice((0.0, 0.005, 0.02))
        """How often it crashes there."""


@dataclass(slots=True)
class World(Scene[Weather]):
    """One schedule's."""

    rules: Rules = field(kw_only=True)
    policy: CutPolicy = field(kw_only=True)
    reads_on: bool = field(kw_only=True)
    """Whether owners read on while the blocks of a cut are created."""
    stopped: str = ""
    """Why the capture has stopped."""


class Wire:
    """How a replica reaches the servers: a request travels, arrives perhaps late or never, and so does its answer."""

    def __init__(self, world: World, process: Process, crash: Callable[[], None]) -> None:
        self.world = world
        self.process = process
        self._crash = crash

    async def call(self, act: Callable[..., Any], *arguments: Any, may_be_late: bool = False) -> Any:
        """Have something done elsewhere, and return its result. Raises Unknown."""
        world, weather, answer = self.world, self.world.weather, Answer()
        await self._disturbed()
        world.scheduler.after(_TIMEOUT, self.process, self._fail, answer)
        if not world.stormy(weather.lost / 2):
            late = may_be_late and world.stormy(weather.late)
            world.tally["late puts"] += late
            delay = 1.0 + world.random.random() * _LATEST if late else world.travel()
            world.scheduler.after(delay, None, self._arrive, answer, act, arguments)
        if world.stormy(weather.freezing):
            world.freeze(self.process, ", its request under way")
        return await answer

    async def _disturbed(self) -> None:
        world = self.world
        if world.stormy(world.weather.freezing):
            world.freeze(self.process, "")
            await Sleep(0.0)
        if world.stormy(world.weather.crashing):
            self._crash()
            await Sleep(0.0)

    def _arrive(self, answer: Answer, act: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        value = act(*arguments)
        if self.world.stormy(self.world.weather.lost):
            self.world.tally["answers lost"] += 1
        else:
            self.world.scheduler.after(self.world.travel(), self.process, self._give, answer, value)

    @staticmethod
    def _give(answer: Answer, value: Any) -> None:
        answer.give(value)

    def _fail(self, answer: Answer) -> None:
        if not answer.given:
            self.world.tally["unknown results"] += 1
            answer.give(error=Unknown())
