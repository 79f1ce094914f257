"""How much is measured: the plan of the figures that count, and a quick one for trying out the benchmark itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from bench.checkout import Checkout


@dataclass(frozen=True, slots=True)
class Load:
    """A trickle: how many loggers, how many entries a second each of them gets, and how many replicas share them."""

    loggers: int
    rate: float
    replicas: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `100x10`, which is 100 loggers with 10 entries a second each, or `100x10x4` with four replicas.

        Raises ValueError.
        """
        loggers, rate, *replicas = text.split("x")
        load = cls(int(loggers), float(rate), *map(int, replicas))
        if min(load.loggers, load.rate, load.replicas) <= 0:
            raise ValueError(f"expected numbers above 0, got {text}")
        return load

    def __str__(self) -> str:
        shared = f", {self.replicas} replicas" if self.replicas > 1 else ""
        loggers = "1 logger" if self.loggers == 1 else f"{self.loggers:,} loggers"
        return f"{loggers}, {self.rate:,g}/s each{shared}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of everything; durations in seconds."""

    backlog: int = 300_000
    """Entries of a drain, a multiple of 100; those of 4 KiB are fewer, as many bytes as these in about three times."""
    large_backlog: int = 60_000
    bare_messages: int = 300_000
    latency_seconds: float = 5.0
    floor_inserts: int = 200
    loggers: int = 1000
    idle_seconds: float = 20.0
    flow_entries: int = 50_000
    quiet_seconds: float = 5.0
    hot_backlog: int = 400_000
    """More than is drained while the quiet loggers are measured."""
    added_loggers: int = 200
    published: int = 2_000
    """One by one."""
    published_at_once: int = 20_000
    sent: int = 300_000
    """Handed over in the background."""
    backlogs: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    spread_backlog: int = 100_000
    logger_counts: tuple[int, ...] = (1, 10, 100, 1000)
    loads: tuple[Load, ...] = (
        *(Load(loggers, rate) for loggers in (1, 10, 100, 1000) for rate in (1, 10)),
        Load(1, 1000),
        Load(10, 100),
        Load(100, 10, replicas=4),
    )
    warm_up_seconds: float = 3.0
    """Of a trickle: the age of batches follows the load by then."""
    trickle_seconds: float = 5.0
    against: Checkout | None = None
    """Another checkout, whose collector gets each trickle too."""


FULL = Plan()
QUICK = Plan(
    backlog=40_000,
    large_backlog=8_000,
    bare_messages=40_000,
    latency_seconds=2.0,
    floor_inserts=50,
    loggers=200,
    idle_seconds=5.0,
    flow_entries=10_000,
    quiet_seconds=2.0,
    hot_backlog=150_000,
    added_loggers=20,
    published=300,
    published_at_once=3_000,
    sent=30_000,
    spread_backlog=20_000,
    backlogs=(1_000, 10_000, 100_000),
    logger_counts=(1, 10, 100),
    loads=(Load(1, 10), Load(1, 1000), Load(10, 10), Load(100, 1), Load(100, 10), Load(100, 10, replicas=4)),
    warm_up_seconds=1.5,
    trickle_seconds=1.5,
)
