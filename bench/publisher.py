"""Publishing at a steady rate, whatever becomes of the entries that were published before."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.entries import Form, Traffic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.wire import Wire

_NAP = 0.001
"""A publisher sleeps so long at least; entries that are due by then leave together."""
_IN_TIME = 0.05


@dataclass(frozen=True, slots=True)
class Sent:
    """Entries of one stretch of time: the moment at which each number was sent, by the clock of `time.time`."""

    moments: dict[int, float] = field(default_factory=dict)
    late: set[int] = field(default_factory=set)

    @property
    def in_time(self) -> float:
        """The part of the entries that left within 50 ms of the moment at which they were due."""
        return 1 - len(self.late) / max(1, len(self.moments))


class Publisher:
    """Sends entries to subjects in turn, evenly spaced, with numbers that go up by one."""

    def __init__(self, wire: Wire, subjects: Sequence[str], rate: float, first: int) -> None:
        self._wire = wire
        self._subjects = [subject.encode() for subject in subjects]
        self._traffic = Traffic(Form.CLIENT, 300)
        self._rate = rate
        self._first = self.next = first
        self._started = time.perf_counter()

    def go_on(self, seconds: float) -> Sent:
        """Send for so long, and return what was sent. The pace goes on where the call before left it."""
        sent = Sent()
        over = time.perf_counter() + seconds
        while (now := time.perf_counter()) < over:
            numbers = range(self.next, self._first + int((now - self._started) * self._rate))
            if numbers:
                self._send(numbers, sent)
            due = self._due(self.next)
            time.sleep(max(_NAP, min(due, over) - time.perf_counter()))
        return sent

    def _due(self, number: int) -> float:
        return self._started + (number - self._first + 1) / self._rate

    def _send(self, numbers: range, sent: Sent) -> None:
        subjects, command = self._subjects, self._traffic.command
        data = b"".join([command(subjects[number % len(subjects)], number) for number in numbers])
        moment, now = time.time(), time.perf_counter()
        self._wire.send(data)
        self.next = numbers.stop
        sent.moments.update(dict.fromkeys(numbers, moment))
        sent.late.update(number for number in numbers if now - self._due(number) > _IN_TIME)
