"""The metrics of one replica as they are made: each for the replica as a whole, or with children for every logger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.telemetry.exposition import (
    ONE,
    Family,
    Histogram,
    LoggerNumbers,
    Numbers,
    OpenNumbers,
    Readings,
    chunks_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from collector.telemetry.exposition import Labels, Metric, OfLoggers


class Families:
    """Makes metrics, and exports them in the order in which they were made.

    A metric of loggers has no child until `start`, and loses those of a logger with `forget`.
    """

    def __init__(self, namespace: str, *, logger_histograms: bool) -> None:
        """Make histograms with a label for the logger, or without one: then each is of all loggers together."""
        self._namespace = namespace
        self._logger_histograms = logger_histograms
        self._all: list[Metric] = []
        self._of_loggers: list[OfLoggers] = []

    def numbers(
        self, kind: str, name: str, text: str, labels: Labels = (), children: Iterable[Labels] = ONE
    ) -> Numbers:
        """Make a counter or gauge without any child."""
        numbers = Numbers(self._family(kind, name, text, labels), children)
        self._all.append(numbers)
        return numbers

    def of_service(
        self, kind: str, name: str, text: str, labels: Labels = (), children: Iterable[Labels] = ONE
    ) -> Numbers:
        """Make a counter or gauge of the replica, with all children at 0."""
        numbers = self.numbers(kind, name, text, labels, children)
        numbers.start()
        return numbers

    def readings(self, name: str, text: str, values: Callable[[], Iterable[tuple[str, float]]]) -> None:
        """Make a gauge of loggers from values that are read whenever they are exported."""
        self._all.append(Readings(self._family("gauge", name, text, ("logger",)), values))

    def gauge(self, name: str, text: str) -> LoggerNumbers:
        """Make a gauge of loggers."""
        return self._of_logger(LoggerNumbers(self._family("gauge", name, text, ("logger",))))

    def counter(self, name: str, text: str, labels: Labels = (), children: Iterable[Labels] = ONE) -> LoggerNumbers:
        """Make a counter of loggers; its name ends with `_total`."""
        family = self._family("counter", f"{name}_total", text, ("logger", *labels))
        return self._of_logger(LoggerNumbers(family, children))

    def open_counter(self, name: str, text: str, label: str) -> OpenNumbers:
        """Make a counter of loggers whose children are not known before they are counted."""
        numbers = OpenNumbers(self._family("counter", f"{name}_total", text, ("logger", label)))
        self._all.append(numbers)
        self._of_loggers.append(numbers)
        return numbers

    def histogram(self, name: str, text: str, bounds: Sequence[float]) -> Histogram:
        """Make a histogram, to be observed with `histogram_labels`."""
        labels = ("logger",) if self._logger_histograms else ()
        histogram = Histogram(self._family("histogram", name, text, labels), bounds)
        self._all.append(histogram)
        if self._logger_histograms:
            self._of_loggers.append(histogram)
        else:
            histogram.start()
        return histogram

    def histogram_labels(self, logger: str) -> Labels:
        """Return the labels of a logger's values in a histogram."""
        return (logger,) if self._logger_histograms else ()

    def start(self, logger: str) -> None:
        """Have all children of a logger, at 0 where they are new."""
        for family in self._of_loggers:
            family.start(logger)

    def forget(self, logger: str) -> None:
        """Have no child of a logger any more."""
        for family in self._of_loggers:
            family.forget(logger)

    def chunks(self) -> Iterator[bytes]:
        """Yield the exposition format (https://prometheus.io/docs/instrumenting/exposition_formats/) in pieces."""
        return chunks_of(self._all)

    def _of_logger(self, numbers: LoggerNumbers) -> LoggerNumbers:
        self._all.append(numbers)
        self._of_loggers.append(numbers)
        return numbers

    def _family(self, kind: str, name: str, text: str, labels: Labels) -> Family:
        return Family(kind, f"collector_{name}", text, self._namespace, labels)
