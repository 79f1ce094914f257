"""The metrics of a replica in a test, and values of events that they count."""

from __future__ import annotations

from collections import Counter
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from collector import events
from collector.events import LoggerState, State, readings
from collector.model import Reason, Trigger
from collector.telemetry.metrics import Metrics

NOW = 1_800_000_000.0


class Scene:
    """The metrics of a replica with one running logger."""

    def __init__(self, *loggers: str, logger_histograms: bool = True) -> None:
        self.metrics = Metrics("beta", "1.2.3", 64 * 1024 * 1024, logger_histograms=logger_histograms)
        for logger in loggers:
            self.metrics.observe(LoggerState(logger, State.RUNNING))

    def samples(self, now: float = NOW) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name.removeprefix("collector_"), frozenset(sample.labels.items() - {("log_namespace", "beta")})): (
                sample.value
            )
            for family in text_string_to_metric_families(self.metrics.text(now).decode())
            for sample in family.samples
        }

    def value(self, name: str, now: float = NOW, /, **labels: str) -> float | None:
        return self.samples(now).get((name, frozenset(labels.items())))


def settled(**changes: Any) -> events.BatchSettled:
    values: dict[str, Any] = {
        "logger": "a",
        "batch": 1,
        "trigger": Trigger.BYTES,
        "messages": 10,
        "entries": 30,
        "bytes": 4096,
        "written": 20,
        "duplicates": 7,
        "dead_letters": Counter({Reason.RULE: 2, Reason.MALFORMED: 1}),
        "write_seconds": 0.25,
        "latency_seconds": 1.5,
        "unanswered": 0,
    }
    return events.BatchSettled(**values | changes)


def sampled(logger: str = "a", at: float = NOW, **changes: Any) -> readings.Sampled:
    values: dict[str, Any] = {
        "messages": 100,
        "bytes": 5000,
        "oldest_age_seconds": 12.5,
        "pending": 60,
        "ack_pending": 30,
        "ack_pending_limit": 1000,
        "redelivered": 4,
        "waiting_pulls": 2,
    }
    return readings.Sampled(logger, at=at, **values | changes)
