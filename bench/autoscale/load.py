"""What applications publish: entries at a rate that changes in phases, each confirmed by JetStream."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from bench.entries import Form, Traffic
from bench.errors import NotAsExpected
from bench.wire import wired

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event

_TICK = 0.05
_TRAFFIC = Traffic(Form.GO, 300)


@dataclass(frozen=True, slots=True)
class Phase:
    """So many entries a second for so many seconds."""

    name: str
    seconds: float
    rate: float


@dataclass(frozen=True, slots=True)
class Shape:
    """Phases in their order; the last one goes on for as long as it is needed."""

    phases: Sequence[Phase]

    @property
    def starts(self) -> list[float]:
        """Return when each phase begins."""
        return list(accumulate((phase.seconds for phase in self.phases[:-1]), initial=0.0))

    def due(self, seconds: float) -> int:
        """Return how many entries have to be published by then."""
        edges = [*self.starts, seconds]
        lengths = [max(0.0, min(end, seconds) - start) for start, end in pairwise(edges)]
        return int(sum(phase.rate * length for phase, length in zip(self.phases, lengths, strict=True)))


class Load:
    """Publishes numbers 0, 1, 2 ... to one subject."""

    def __init__(self, port: int, subject: str, shape: Shape) -> None:
        self._port = port
        self._subject = subject.encode()
        self._shape = shape
        self.published = 0
        """Entries that JetStream has confirmed."""

    def run(self, started: float, over: Event) -> None:
        """Publish from `started`, on the clock of `time.perf_counter`, until it is over."""
        with wired(self._port) as wire:
            while not over.wait(_TICK):
                due = self._shape.due(time.perf_counter() - started)
                if due == self.published:
                    continue
                *before, last = range(self.published, due)
                commands = [_TRAFFIC.command(self._subject, number) for number in before]
                wire.send(b"".join([*commands, _TRAFFIC.command(self._subject, last, wire.next_reply())]))
                while not (answers := wire.receive()):
                    continue
                # the number of the last one in the stream: none before it is missing
                if b'"seq":%d' % due not in answers[0].body:
                    raise NotAsExpected(f"expected JetStream to have {due} entries, got {answers[0].body!r}")
                self.published = due
