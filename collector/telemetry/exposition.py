"""Metrics as tables of numbers by their labels, and the text that Prometheus reads.

A child is a place in a table and no object of its own: 10,000 loggers have more than a million children from the start.
All loggers whose numbers are 0 share one row. One thread changes the tables; any thread may read their text.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Protocol, TypeAlias

from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Labels: TypeAlias = tuple[str, ...]
ONE: tuple[Labels, ...] = ((),)
"""The single child of an unlabelled metric."""
_CHUNK = 64 * 1024
"""Characters of a piece of the text: no thread holds the interpreter for longer than it takes to make one."""
_LOGGER = "\0"
"""Stands for the logger in the text of a row of zeros."""

_NOTHING: dict[str, float] = {}
"""The row of a logger without a child; nothing is put into it."""


class Metric(Protocol):
    """A metric as it is exported."""

    def lines(self) -> Iterator[str]:
        """Yield head and samples."""


class OfLoggers(Metric, Protocol):
    """A metric that has children for every logger."""

    def start(self, *labels: str) -> None:
        """Have all children with these first labels, at 0 where they are new."""

    def forget(self, *labels: str) -> None:
        """Have no child with these first labels any more."""


@dataclass(frozen=True, slots=True)
class Family:
    """The name of a metric and of its labels. All children have `log_namespace` as their first label."""

    kind: str
    name: str
    text: str
    namespace: str
    labels: Labels = ()

    @property
    def head(self) -> str:
        """The two lines above the samples."""
        return f"# HELP {self.name} {self.text}\n# TYPE {self.name} {self.kind}\n"

    def line(self, suffix: str = "", label: str = "") -> str:
        """Return the line of a sample, with a `%s` for each label's value and one for the sample's."""
        values = "".join(f',{name}="%s"' for name in self.labels)
        return f'{self.name}{suffix}{{log_namespace="{self.namespace}"{values}{label}}} %s\n'


class Numbers:
    """A counter or a gauge. Changes of a child that was not started, or is forgotten, are passed over."""

    def __init__(self, family: Family, children: Iterable[Labels] = ONE) -> None:
        self._family = family
        self._children = tuple(children)
        self._values: dict[Labels, float] = {}

    def start(self, *labels: str) -> None:
        """Have all children with these first labels, at 0 where they are new."""
        for child in self._children:
            self._values.setdefault((*labels, *child), 0)

    def start_one(self, *labels: str) -> None:
        """Add a child that belongs to no logger."""
        self._values[labels] = 0

    def replace(self, values: Mapping[Labels, float]) -> None:
        """Have exactly these children."""
        self._values = dict(values)

    def forget(self, *labels: str) -> None:
        """Have no child with these first labels any more."""
        for child in self._children:
            self._values.pop((*labels, *child), None)

    def add(self, amount: float, *labels: str) -> None:
        """Add to a child."""
        if labels in self._values:
            self._values[labels] += amount

    def set(self, value: float, *labels: str) -> None:
        """Set a child."""
        if labels in self._values:
            self._values[labels] = value

    def lines(self) -> Iterator[str]:
        """Yield head and samples."""
        yield self._family.head
        line = self._family.line()
        for labels, value in self._values.copy().items():
            yield line % (*map(_escaped, labels), float(value))


class Readings:
    """A gauge of loggers whose values are taken from what was last read, whenever they are exported."""

    def __init__(self, family: Family, values: Callable[[], Iterable[tuple[str, float]]]) -> None:
        self._family = family
        self._values = values

    def lines(self) -> Iterator[str]:
        """Yield head and samples."""
        yield self._family.head
        line = self._family.line()
        for logger, value in self._values():
            yield line % (_escaped(logger), float(value))


class LoggerNumbers:
    """A counter or a gauge with the same closed list of children for every logger.

    Changes of a child that was not started, or is forgotten, are passed over.
    """

    def __init__(self, family: Family, children: Iterable[Labels] = ONE) -> None:
        self._family = family
        self._at = {child: at for at, child in enumerate(children)}
        self._zeros: list[float] = [0.0] * len(self._at)
        self._rows: dict[str, list[float]] = {}
        self._others: dict[Labels, float] = {}

    def start(self, *labels: str) -> None:
        """Have all children of a logger, at 0 where they are new."""
        (logger,) = labels
        self._rows.setdefault(logger, self._zeros)

    def start_one(self, *labels: str) -> None:
        """Add a child that belongs to no logger."""
        self._others[labels] = 0

    def forget(self, *labels: str) -> None:
        """Have no child of a logger any more."""
        (logger,) = labels
        self._rows.pop(logger, None)

    def add(self, amount: float, logger: str, *labels: str) -> None:
        """Add to a child."""
        row, at = self._rows.get(logger), self._at.get(labels)
        if row is not None and at is not None and amount:
            if row is self._zeros:
                row = self._rows[logger] = self._zeros.copy()
            row[at] += amount
        elif (logger, *labels) in self._others:
            self._others[logger, *labels] += amount

    def set(self, value: float, logger: str, *labels: str) -> None:
        """Set a child."""
        row, at = self._rows.get(logger), self._at.get(labels)
        if row is not None and at is not None and row[at] != value:
            if row is self._zeros:
                row = self._rows[logger] = self._zeros.copy()
            row[at] = value

    def lines(self) -> Iterator[str]:
        """Yield head and samples."""
        yield self._family.head
        line = self._family.line()
        for labels, value in self._others.copy().items():
            yield line % (*map(_escaped, labels), float(value))
        lines = [line % (_LOGGER, *map(_escaped, child), "%s") for child in self._at]
        yield from _rows_of(self._rows, self._zeros, "".join(lines), lambda row: row)


class OpenNumbers:
    """A counter of loggers whose last label has no closed list of values. A child is there when it is counted."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._rows: dict[str, dict[str, float]] = {}

    def start(self, *labels: str) -> None:
        """Count children of a logger from now on."""
        (logger,) = labels
        self._rows.setdefault(logger, _NOTHING)

    def forget(self, *labels: str) -> None:
        """Have no child of a logger any more."""
        (logger,) = labels
        self._rows.pop(logger, None)

    def add(self, amount: float, logger: str, label: str) -> None:
        """Add to a child."""
        row = self._rows.get(logger)
        if row is _NOTHING:
            row = self._rows[logger] = {}
        if row is not None:
            row[label] = row.get(label, 0) + amount

    def lines(self) -> Iterator[str]:
        """Yield head and samples."""
        yield self._family.head
        line = self._family.line()
        for logger, row in self._rows.copy().items():
            for label, value in row.copy().items():
                yield line % (_escaped(logger), _escaped(label), float(value))


class Histogram:
    """Counts of values by the smallest bound that is not below them, and the sum of the values."""

    def __init__(self, family: Family, bounds: Sequence[float]) -> None:
        self._family = family
        self._bounds = tuple(bounds)
        self._names = [*map(floatToGoString, bounds), "+Inf"]
        self._zeros: list[float] = [0.0] * (len(self._names) + 1)
        self._rows: dict[str, list[float]] = {}

    def start(self, *labels: str) -> None:
        """Have the child with these labels, a logger or nothing, at 0 where it is new."""
        self._rows.setdefault("".join(labels), self._zeros)

    def forget(self, *labels: str) -> None:
        """Have no child with these labels any more."""
        self._rows.pop("".join(labels), None)

    def observe(self, value: float, *labels: str) -> None:
        """Count a value."""
        key = "".join(labels)
        if (row := self._rows.get(key)) is None:
            return
        if row is self._zeros:
            row = self._rows[key] = self._zeros.copy()
        row[bisect_left(self._bounds, value)] += 1
        row[-1] += value

    def lines(self) -> Iterator[str]:
        """Yield head and samples."""
        yield self._family.head
        labels = [_LOGGER] * len(self._family.labels)
        suffixes = [*(("_bucket", f',le="{name}"') for name in self._names), ("_count", ""), ("_sum", "")]
        text = "".join([self._family.line(*suffix) % (*labels, "%s") for suffix in suffixes])
        yield from _rows_of(self._rows, self._zeros, text, _summed)


def _summed(row: list[float]) -> list[float]:
    """Return the values of a histogram's samples: the counts up to each bound, the count of all, and the sum."""
    *counts, total = row
    sums = [*accumulate(counts)]
    return [*sums, sums[-1], total]


def _rows_of(
    rows: dict[str, list[float]], zeros: list[float], text: str, values: Callable[[list[float]], list[float]]
) -> Iterator[str]:
    """Yield the samples of each logger; `text` has a place for each value, and stands for all loggers."""
    parts_of_zeros = (text % (*map(float, values(zeros)),)).split(_LOGGER)
    for logger, row in rows.copy().items():
        parts = parts_of_zeros if row is zeros else (text % (*map(float, values(row.copy())),)).split(_LOGGER)
        yield _escaped(logger).join(parts)


def _escaped(value: str) -> str:
    """Escape the value of a label (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def chunks_of(families: Iterable[Metric]) -> Iterator[bytes]:
    """Yield the exposition format of all families in pieces, so that it is never in memory as a whole."""
    lines, size = list[str](), 0
    for line in chain.from_iterable([family.lines() for family in families]):
        lines.append(line)
        size += len(line)
        if size >= _CHUNK:
            yield "".join(lines).encode()
            lines, size = [], 0
    yield "".join(lines).encode()


def text_of(families: Iterable[Metric]) -> bytes:
    """Return the exposition format of all families."""
    return b"".join(chunks_of(families))
