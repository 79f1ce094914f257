"""What was measured: for each group, case and measure a value a round; the median counts, the spread goes with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the tables. `measure` names its unit."""

    group: str
    case: str
    measure: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The value in the middle."""
        return median(self.values)

    @property
    def spread(self) -> float:
        """Half the distance between the lowest and the highest value, as a part of the median."""
        return (max(self.values) - min(self.values)) / 2 / abs(self.median) if self.median else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return all that is known of it as JSON values."""
        names = {"group": self.group, "case": self.case, "measure": self.measure}
        return names | {
            "median": self.median,
            "lowest": min(self.values),
            "highest": max(self.values),
            "values": self.values,
        }


class Figures:
    """All figures of a run, in the order in which they were first seen."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str, str], Figure] = {}

    def add(self, group: str, case: str, measured: Mapping[str, float]) -> None:
        """Add what one round measured in one case."""
        for measure, value in measured.items():
            figure = self._figures.setdefault((group, case, measure), Figure(group, case, measure))
            figure.values.append(value)

    def find(self, group: str, case: str, measure: str) -> Figure | None:
        """Return a figure, None when it was not measured."""
        return self._figures.get((group, case, measure))

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._figures.values())
