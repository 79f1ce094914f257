"""Metrics as tables of numbers by their labels, and the text that Prometheus reads.

A child is a row of a table and no object of its own: 1,000 loggers have some 100,000 children from the start. One
thread changes the tables; any thread may read their text.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Labels: TypeAlias = tuple[str, ...]
ONE: tuple[Labels, ...] = ((),)
"""The single child of an unlabelled metric."""


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


class OpenNumbers(Numbers):
    """A counter of loggers whose last label has no closed list of values. A child is there when it is counted."""

    def __init__(self, family: Family) -> None:
        super().__init__(family, ())
        self._started: set[Labels] = set()

    def start(self, *labels: str) -> None:
        """Count children with these first labels from now on."""
        self._started.add(labels)

    def forget(self, *labels: str) -> None:
        """Have no child with these first labels any more."""
        self._started.discard(labels)
        self._values = {child: value for child, value in self._values.items() if child[:-1] != labels}

    def add(self, amount: float, *labels: str) -> None:
        """Add to a child."""
        if labels[:-1] in self._started:
            self._values[labels] = self._values.get(labels, 0) + amount


class Histogram:
    """Counts of values by the smallest bound that is not below them, and the sum of the values."""

    def __init__(self, family: Family, bounds: Sequence[float]) -> None:
        self._family = family
        self._bounds = tuple(bounds)
        self._names = [*map(floatToGoString, bounds), "+Inf"]
        self._values: dict[Labels, list[float]] = {}

    def start(self, *labels: str) -> None:
        """Have the child with these labels, at 0 where it is new."""
        self._values.setdefault(labels, [0] * (len(self._names) + 1))

    def forget(self, *labels: str) -> None:
        """Have no child with these labels any more."""
        self._values.pop(labels, None)

    def observe(self, value: float, *labels: str) -> None:
        """Count a value."""
        if (found := self._values.get(labels)) is not None:
            found[bisect_left(self._bounds, value)] += 1
            found[-1] += value

    def lines(self) -> Iterator[str]:
        """Yield head and samples."""
        yield self._family.head
        buckets = [self._family.line("_bucket", f',le="{name}"') for name in self._names]
        count_line, sum_line = self._family.line("_count"), self._family.line("_sum")
        for labels, found in self._values.copy().items():
            values = tuple(map(_escaped, labels))
            *counts, total = found.copy()
            seen = 0.0
            for bucket, count in zip(buckets, counts, strict=True):
                seen += count
                yield bucket % (*values, seen)
            yield count_line % (*values, seen)
            yield sum_line % (*values, float(total))


def _escaped(value: str) -> str:
    """Escape the value of a label (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def text_of(families: Iterable[Numbers | Histogram]) -> bytes:
    """Return the exposition format of all families."""
    return b"".join(["".join(family.lines()).encode() for family in families])
