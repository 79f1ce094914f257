"""What all models of one schedule share: time, chance, how bad the weather is, and what is counted and told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar

from tests.simulation.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.rules import Rules
    from tests.simulation.scheduler import Process

Identity: TypeAlias = int
"""The `_id` of an entry."""


Line: TypeAlias = "Callable[[str], object]"
"""Takes what happens, a line each."""


AnySky = TypeVar("AnySky", bound="Sky")


class Broken(Exception):
    """A promise was broken: an entry was lost or written twice."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise


class Weather:
    """How long things take in one schedule, and how often they go wrong. After the storm all is well."""

    def __init__(self, random: Random, until: float) -> None:
        self.until = until
        self.slow = random.choice((0.0, 0.03, 0.1))
        """How often something is very late."""
        self.lost = random.choice((0.0, 0.02, 0.1))
        """How often something that travels gets lost."""
        self.freezing = random.choice((0.0, 0.01, 0.03))
        """How often a replica freezes at the very moment of a call."""
        self.killed = random.choice((0.0, 0.02, 0.1))
        """How often MongoDB ends a command half-way."""
        self.forgetful = random.choice((0.0, 0.0, 0.1))
        """How often a session has lost the history of its last number."""
        self.impatient = random.choice((0.0, 0.1, 0.5))
        """How often a replica takes all others for dead."""
        self.longest = random.choice((1.0, 12.0, 45.0))
        """Seconds that something very late takes at most."""


class Sky(Protocol):
    """The weather as every schedule has it."""

    until: float
    slow: float
    longest: float


@dataclass(slots=True)
class Scene(Generic[AnySky]):
    """One schedule's, whatever protocol it plays."""

    random: Random
    weather: AnySky
    line: Line | None = None
    scheduler: Scheduler = field(default_factory=Scheduler)
    tally: Counter[str] = field(default_factory=Counter)

    def say(self, who: str, text: str, *details: object) -> None:
        """Tell that somebody did something; the details go into the gaps of the text."""
        if self.line is not None:
            self.line(f"{self.scheduler.now:8.3f}  {who:12} {text.format(*details)}")

    def stormy(self, chance: float) -> bool:
        """Tell whether something of this chance goes wrong now."""
        return chance > 0.0 and self.scheduler.now < self.weather.until and self.random.random() < chance

    def travel(self) -> float:
        """Return how long a message is under way."""
        if self.stormy(self.weather.slow):
            return self.random.random() * self.weather.longest
        return 0.001 + 0.004 * self.random.random()

    def freeze(self, process: Process, when: str) -> None:
        """Freeze a process: sometimes for longer than its claim lasts, or than ack wait."""
        seconds = self.random.choice((0.5, 5.0, 15.0, 40.0, 70.0)) * (0.5 + self.random.random())
        process.frozen_until = max(process.frozen_until, self.scheduler.now + seconds)
        self.tally["freezes"] += 1
        self.say(process.name, "freezes until {:.3f}{}", process.frozen_until, when)


@dataclass(slots=True)
class World(Scene[Weather]):
    """One schedule's of the protocol for time-series collections."""

    rules: Rules = field(kw_only=True)
