"""`docs/metrics.md`: every metric as a replica exports it, read from the very text of its `/metrics`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from collector.events import BatchSettled, LoggerState, State
from collector.events.archiving import ArchiveSampled
from collector.events.readings import Declared, Limit, Sampled, Storage, Store
from collector.model import Trigger
from collector.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

_OPEN_LABELS = ("log_namespace", "logger", "rule", "tier", "version")
"""Their values are those of the deployment; all other labels have closed lists."""
_ONE_DROPPED = BatchSettled(
    "example",
    batch=1,
    trigger=Trigger.AGE,
    messages=1,
    entries=1,
    bytes=1,
    written=0,
    duplicates=0,
    dead_letters=Counter(),
    write_seconds=0.0,
    latency_seconds=0.0,
    unanswered=0,
    dropped={"example": 1},
)
"""A rule has no child before it drops an entry."""
_SAME = "(same"
_HEAD = """\
# Metrics

Generated from the code by `make dashboards`. Each replica answers them at `/metrics`.
[The dashboards](../grafana/README.md) draw them, and [the runbooks](runbooks.md) say what to do.

- **same**: every replica reports what the server says of one shared stream and durable. Take
  `max by (log_namespace, logger)`, never `sum`. A reading older than 60 s is withdrawn: absent beats wrong.
  The counts of a durable are most often there on the logger's home alone: other replicas ask a durable seldom while its
  stream has few messages, and take all of them for the lag.
- **own, counted**: counters and histograms belong to a replica. Take `rate`, then `sum`.
- **own**: a gauge of this replica.
- Labels with a closed list have all their values from a logger's start, at 0, and go with the logger. An empty `logger`
  stands for the replica as a whole. A `rule` is there once it has dropped an entry. Nothing that a publisher wrote is
  ever a label.
- `collector_archive_…` are there for archived loggers alone. `collector archive run --listen` has them too, with the
  capture as `logger` and `archive` as `log_namespace`. Gauges of a process that is not the owner are 0: take `max`.
- With `COLLECTOR_HISTOGRAMS=service` the histograms have no label `logger`.
- A message is JetStream's unit, an entry ours: a message may carry many entries. Lag counts messages, writing entries.

| name | type | labels | on several replicas | meaning |
| --- | --- | --- | --- | --- |
"""


def exported() -> list[Metric]:
    """Return every metric with all its children for one logger; a histogram's buckets are samples of it."""
    metrics = Metrics("example", "0", buffer_limit=0)
    metrics.observe(LoggerState("example", State.RUNNING))
    metrics.observe(
        Sampled(
            "example",
            messages=0,
            bytes=0,
            oldest_age_seconds=0,
            pending=0,
            ack_pending=0,
            ack_pending_limit=0,
            redelivered=0,
            waiting_pulls=0,
            at=0,
        )
    )
    metrics.observe(_ONE_DROPPED)
    metrics.observe(ArchiveSampled(logger="example", is_owner=True))
    stores = [Store("file", "", 0, 1), Store("memory", "", 0, 1)]
    metrics.observe(Declared())
    metrics.observe(Storage(stores, {"example": dict.fromkeys(Limit, 0.0)}, {}, at=0))
    return list(text_string_to_metric_families(metrics.text(now=0).decode()))


def exported_name(metric: Metric) -> str:
    """Return the name that queries use."""
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def metrics_page() -> str:
    """Make the page."""
    return _HEAD + "".join(_line(metric) for metric in exported())


def _line(metric: Metric) -> str:
    meaning, _, same = metric.documentation.partition(_SAME)
    if same:
        replicas = "same: `max`, never `sum`"
    else:
        replicas = "own" if metric.type == "gauge" else "own, counted: `rate`, then `sum`"
    cells = (f"`{exported_name(metric)}`", metric.type, "; ".join(_labels(metric)), replicas, meaning.strip())
    return f"| {' | '.join(cells)} |\n"


def _labels(metric: Metric) -> Iterator[str]:
    values: dict[str, dict[str, None]] = {}
    for sample in metric.samples:
        for label, value in sample.labels.items():
            values.setdefault(label, {})[f"`{_bound(value) if label == 'le' else value}`"] = None
    for label in sorted(values, key=lambda name: (name not in _OPEN_LABELS, name)):
        yield f"`{label}`" if label in _OPEN_LABELS else f"`{label}`: {', '.join(values[label])}"


def _bound(text: str) -> str:
    """Write a bucket's bound the shortest way."""
    bound = float(text)
    return str(int(bound)) if bound.is_integer() else text
