"""A run as a picture: load, lag and replicas, one above the other over the same time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from bench.autoscale.run import CEILING, SPEED
from bench.autoscale.verdict import ACCEPTED, BURST, QUIET, drained_after, oldest
from bench.svg import FAINT, GRID, INK, Drawing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.autoscale.run import Run, Sample
    from bench.svg import Point

_WIDTH, _LEFT, _RIGHT = 900, 72, 24
_TOP, _HEIGHT, _GAP = 92, 150, 62
_BLUE, _AMBER, _GREY, _BAND = "#2b6cb0", "#b7791f", "#9aa5b1", "#f5f1e6"
_LETTER = 6.2
"""About the width of one in the size of a legend."""
_EVERY = 10
"""Seconds between two marks of the time."""
_RATE_OVER = 4
"""Samples over which a rate is taken: a second."""

Series = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Panel:
    """One measure from 0 to `top`."""

    drawing: Drawing
    place: int
    seconds: float
    top: float

    @property
    def base(self) -> float:
        return _TOP + self.place * (_HEIGHT + _GAP) + _HEIGHT

    def at(self, seconds: float, value: float) -> Point:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * seconds / self.seconds
        return across, self.base - _HEIGHT * value / self.top

    def frame(self, title: str, step: float) -> None:
        left, right = self.at(BURST, 0)[0], self.at(QUIET, 0)[0]
        self.drawing.bar((left, self.base - _HEIGHT), right - left, _HEIGHT, _BAND)
        self.drawing.text((_LEFT, self.base - _HEIGHT - 12), title, size=13)
        for tick in range(round(self.top / step) + 1):
            (left, y), (right, _) = self.at(0, tick * step), self.at(self.seconds, tick * step)
            self.drawing.line([(left, y), (right, y)], GRID)
            self.drawing.text((left - 8, y + 4), f"{tick * step:,.0f}", size=11, anchor="end", colour=FAINT)

    def line(self, series: Series, colour: str, width: float = 2) -> None:
        self.drawing.line([self.at(*point) for point in series], colour, width)

    def note(self, seconds: float, height: float, words: str) -> None:
        """Write words at a part of the height."""
        self.drawing.text(self.at(seconds, self.top * height), words, colour=FAINT)

    def legend(self, *names: tuple[str, str]) -> None:
        """Name the lines above the upper right corner, each in its colour."""
        x, y = self.at(self.seconds, self.top)
        for name, colour in reversed(names):
            self.drawing.text((x, y - 12), name, anchor="end", colour=colour)
            x -= _LETTER * len(name) + 16


def draw(run: Run, title: str) -> str:
    """Return the picture as SVG."""
    drawing = Drawing(_WIDTH, _TOP + 3 * (_HEIGHT + _GAP) + 4)
    drawing.text((_LEFT - 48, 32), title, size=15)
    words = f"The recipe's time runs {SPEED:.0f} times faster: the accepted delay of {ACCEPTED * SPEED:.0f} s is"
    drawing.text((_LEFT - 48, 54), f"{words} {ACCEPTED:.0f} s here. Shaded: the burst.", colour=FAINT)
    seconds = math.ceil(run.samples[-1].at / _EVERY) * _EVERY
    most = max(one.wanted for one in run.samples) + 1
    load = _Panel(drawing, 0, seconds, most * CEILING)
    lag = _Panel(drawing, 1, seconds, most * run.recipe.threshold)
    count = _Panel(drawing, 2, seconds, most)
    _draw_load(load, run)
    _draw_lag(lag, run)
    _draw_replicas(count, run)
    for second in range(0, seconds + 1, _EVERY):
        x, y = count.at(second, 0)
        drawing.text((x, y + 18), f"{second} s", size=11, anchor="middle", colour=FAINT)
    return str(drawing)


def _draw_load(panel: _Panel, run: Run) -> None:
    panel.frame("Entries a second", CEILING)
    panel.legend(("published", _AMBER), ("stored", _BLUE), ("what the replicas that are ready can write", FAINT))
    panel.line(_steps(run.samples, [one.ready * CEILING for one in run.samples]), _GREY, 1.5)
    panel.line(_rate(run.samples, [one.stored for one in run.samples]), _BLUE)
    panel.line(_rate(run.samples, [one.published for one in run.samples]), _AMBER)


def _draw_lag(panel: _Panel, run: Run) -> None:
    panel.frame("Messages that wait", run.recipe.threshold)
    panel.legend(("messages", _BLUE), ("threshold, times replicas", FAINT))
    panel.line(_steps(run.samples, [one.wanted * run.recipe.threshold for one in run.samples]), _GREY, 1.5)
    panel.line([(one.at, one.lag) for one in run.samples], _BLUE)
    drained = drained_after(run.samples)
    if drained is not None:
        panel.drawing.dot(panel.at(QUIET + drained, 0), INK)
        panel.note(QUIET + drained + 1.5, 0.21, f"all written {drained:.1f} s after the burst;")
        panel.note(QUIET + drained + 1.5, 0.07, f"no message waited more than {oldest(run.samples):.1f} s")


def _draw_replicas(panel: _Panel, run: Run) -> None:
    panel.frame("Replicas", 1)
    panel.legend(("wanted", FAINT), ("ready", _BLUE))
    panel.line(_steps(run.samples, [one.wanted for one in run.samples]), _GREY, 1.5)
    panel.line(_steps(run.samples, [one.ready for one in run.samples]), _BLUE)
    window = run.recipe.down.window
    panel.note(QUIET + 1.5, 0.07, f"one goes when it was not wanted for {window:.0f} s")


def _rate(samples: Sequence[Sample], counts: Sequence[int]) -> Series:
    pairs = zip(samples, samples[_RATE_OVER:], counts, counts[_RATE_OVER:], strict=False)
    return [(after.at, (later - sooner) / (after.at - before.at)) for before, after, sooner, later in pairs]


def _steps(samples: Sequence[Sample], values: Sequence[float]) -> Series:
    return list(_corners([(one.at, value) for one, value in zip(samples, values, strict=True)]))


def _corners(series: Series) -> Iterator[tuple[float, float]]:
    yield series[0]
    for (_, before), (at, after) in pairwise(series):
        if before != after:
            yield at, before
            yield at, after
    yield series[-1]
