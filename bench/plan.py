"""How much is measured: the plan of the figures that count, and a quick one for trying out the benchmark itself."""

from __future__ import annotations

from dataclasses import dataclass


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
)
