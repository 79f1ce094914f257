"""Many schedules, over several processes: their counts together, and the first broken promise."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING

from tests.simulation.protocols import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from tests.simulation.schedule import Verdict

_CHUNK = 200
_AHEAD = 2
"""Chunks for each process that are handed out before their turn."""


@dataclass(slots=True)
class Findings:
    """What came out of schedules: all of them, or those up to a broken promise."""

    schedules: int = 0
    tally: Counter[str] = field(default_factory=Counter)
    broken: Verdict | None = None

    def add(self, other: Findings) -> None:
        """Take in the findings of further schedules; of broken promises that of the lowest seed counts."""
        self.schedules += other.schedules
        self.tally.update(other.tally)
        if other.broken is not None and (self.broken is None or other.broken.seed < self.broken.seed):
            self.broken = other.broken


def explore(first: int, schedules: int, off: str | None = None, protocol: str = "timeseries") -> Findings:
    """Run the schedules of these seeds one after the other, up to the first broken promise."""
    simulated = PROTOCOLS[protocol]
    findings, rules = Findings(), simulated.without(off)
    for seed in range(first, first + schedules):
        verdict = simulated.run(seed, rules)
        findings.add(Findings(1, verdict.tally, verdict if verdict.broken else None))
        if findings.broken is not None:
            break
    return findings


def campaign(
    first: int,
    schedules: int,
    off: str | None,
    jobs: int,
    progress: Callable[[Findings], None],
    protocol: str = "timeseries",
) -> Findings:
    """Run schedules in several processes; after a broken promise only those that have begun are ended."""
    findings = Findings()
    chunks = _chunks(first, schedules)
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        running: set[Future[Findings]] = set()
        while True:
            wanted = jobs * _AHEAD - len(running) if findings.broken is None else 0
            running.update(pool.submit(explore, start, count, off, protocol) for start, count in islice(chunks, wanted))
            if not running:
                return findings
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                findings.add(future.result())
            progress(findings)


def _chunks(first: int, schedules: int) -> Iterator[tuple[int, int]]:
    for start in range(0, schedules, _CHUNK):
        yield first + start, min(_CHUNK, schedules - start)
