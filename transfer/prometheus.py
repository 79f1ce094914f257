"""The counters of senders for Prometheus: `REGISTRY.register(TransferCollector(handler))`. Needs prometheus_client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from transfer.background.drops import Dropped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

    from transfer.background.sender import Stats


class HasStats(Protocol):
    """A `Transfer`, a `BlockingTransfer`, a `TransferHandler` or a bridge."""

    def stats(self) -> Stats:
        """Return the counters of this process."""


class TransferCollector(Collector):
    """The counters of all given senders, summed at each scrape. Every reason is there from the start, at 0."""

    def __init__(self, *sources: HasStats) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        """Read the counters."""
        every = [source.stats() for source in self._sources]
        yield _gauge("queued_entries", "Entries neither confirmed nor dropped yet", [one.queued for one in every])
        yield _gauge("queued_bytes", "Bytes that they take", [one.queued_bytes for one in every])
        yield _gauge("connections", "Senders that are connected to NATS", [one.connected for one in every])
        yield _counter("published_entries", "Entries that JetStream has confirmed", [one.published for one in every])
        yield _counter("publish_retries", "Messages that were sent again", [one.retries for one in every])
        dropped = CounterMetricFamily("transfer_dropped_entries", "Entries that were not sent", labels=["reason"])
        for why in Dropped:
            dropped.add_metric([why.value], sum(one.dropped.get(why.value, 0) for one in every))
        yield dropped


def _gauge(name: str, said: str, values: list[int] | list[bool]) -> Metric:
    return GaugeMetricFamily(f"transfer_{name}", said, value=sum(values))


def _counter(name: str, said: str, values: list[int]) -> Metric:
    return CounterMetricFamily(f"transfer_{name}", said, value=sum(values))
