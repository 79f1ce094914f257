"""Outages, minute by minute, as the metrics of two replicas tell of them, and what Prometheus has of that.

Made of the service's own `Metrics` and events, so that a panel is judged by what a replica would export.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from collector.events import Event, Failure, Held, LoggerState, Received, Retried, Stage, State
from collector.events.lifecycle import ConnectionChanged, Ready
from collector.events.readings import Declared, Limit, Sampled, Storage, Store
from collector.telemetry.metrics import Metrics
from tests.support.batches import settled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

STEP = 30
CALM = 10 * 60
"""Seconds before the outage begins."""
LONG = 15 * 60
"""Seconds that it lasts, at the end of which it is looked at."""
_EPOCH = 1_800_000_000.0
_RATE = 100 * STEP
LOGGERS = ("x", "y", "z")


@dataclass(frozen=True)
class Now:
    """How one replica is: what an outage changes of it."""

    scraped: bool = True
    kept: bool = True
    """Prometheus keeps what it scrapes."""
    nats: bool = True
    mongodb: bool = True
    ready: bool = True
    failing: frozenset[str] = frozenset()
    misconfigured: frozenset[str] = frozenset()
    loggers: Sequence[str] = LOGGERS
    stuck: bool = False
    """Its event loop does not turn: it reports nothing."""
    stored: float = 0.1
    """The share of what the account may store that it does."""
    limited: bool = True
    """The account and the streams have limits."""
    undeclared: int = 0
    bucket: bool = True


WELL = Now()
_DOWN = replace(WELL, ready=False)
_ALL = frozenset(LOGGERS)
OUTAGES: dict[str, tuple[Now, Now]] = {
    "none": (WELL, WELL),
    "mongodb away": (replace(_DOWN, mongodb=False, failing=_ALL),) * 2,
    "no majority": (replace(_DOWN, failing=_ALL),) * 2,
    "nats away": (replace(_DOWN, nats=False),) * 2,
    "collector down": (replace(WELL, scraped=False),) * 2,
    "one replica down": (WELL, replace(WELL, scraped=False)),
    "insert revoked for one replica": (WELL, replace(_DOWN, failing=_ALL)),
    "one logger failing": (replace(WELL, failing=frozenset("x")),) * 2,
    "one logger misconfigured": (replace(WELL, misconfigured=frozenset("x")),) * 2,
    "jetstream full": (replace(WELL, stored=0.99),) * 2,
    "no limits": (replace(WELL, limited=False),) * 2,
    "an undeclared stream": (replace(WELL, undeclared=500),) * 2,
    "bucket missing": (replace(WELL, bucket=False),) * 2,
    "prometheus restarted": (replace(WELL, kept=False),) * 2,
    "event loops stuck": (replace(_DOWN, stuck=True),) * 2,
    "no loggers": (replace(WELL, loggers=()),) * 2,
}


@dataclass
class _Replica:
    metrics: Metrics = field(default_factory=lambda: Metrics("beta", "1", 1000))
    lag: dict[str, int] = field(default_factory=dict)
    series: dict[str, list[str]] = field(default_factory=dict)
    steps: int = 0

    def step(self, now: Now, seconds: int) -> None:
        """Let one step pass, and scrape."""
        at = _EPOCH + seconds
        if not now.stuck:
            for event in self._events(now, at):
                self.metrics.observe(event)
        text = self.metrics.text(at, ready=now.ready, loop_lag=500.0 if now.stuck else 0.0).decode()
        self._keep({} if not now.scraped else dict(_samples(text)), lost=not now.kept)

    def _events(self, now: Now, at: float) -> Iterator[Event]:
        yield ConnectionChanged("nats", now.nats)
        yield ConnectionChanged("mongodb", now.mongodb)
        yield Ready(now.ready)
        yield Declared(trouble="" if now.bucket else "it is gone")
        for key in LOGGERS:
            if key not in now.loggers:
                yield LoggerState(key, None)
                continue
            yield from self._logger(key, now, at)
        limits = dict.fromkeys(Limit, now.stored) if now.limited else {}
        messages = {**dict.fromkeys(now.loggers, 5), "undeclared": now.undeclared}
        if now.nats:
            stores = [
                Store("file", "", int(1000 * now.stored), 1000 if now.limited else None),
                Store("memory", "", 0, None),
            ]
            yield Storage(stores, dict.fromkeys(now.loggers, limits), messages, at)

    def _logger(self, key: str, now: Now, at: float) -> Iterator[Event]:
        idle = key in now.misconfigured or not now.nats
        state = (
            State.MISCONFIGURED if key in now.misconfigured else State.FAILING if key in now.failing else State.RUNNING
        )
        yield LoggerState(key, state)
        if key in now.failing:
            yield Retried(key, Stage.WRITE, Failure.UNAVAILABLE, 1, 2.0, "no majority")
            yield Held(key, 100, 200)
        elif not idle:
            yield Received(key, _RATE, _RATE, 10 * _RATE, 0)
            yield Held(key, 10, 20)
            yield settled(key, messages=_RATE, entries=_RATE, written=_RATE, duplicates=0, dead_letters=Counter())
        if not now.nats:
            return
        waits = key in now.failing or key in now.misconfigured
        self.lag[key] = self.lag.get(key, 0) + _RATE if waits else 5
        yield Sampled(
            key,
            messages=self.lag[key],
            bytes=10,
            oldest_age_seconds=self.lag[key] / _RATE * STEP if waits else 0.1,
            pending=self.lag[key],
            ack_pending=0,
            ack_pending_limit=100_000,
            redelivered=0,
            waiting_pulls=1,
            at=at,
        )

    def _keep(self, samples: dict[str, float], *, lost: bool) -> None:
        """Note what Prometheus has: a series that is not in a scrape any more ends there."""
        for name in self.series.keys() | samples.keys():
            values = self.series.setdefault(name, ["_"] * self.steps)
            ends = values and values[-1] not in ("_", "stale")
            values.append("_" if lost else str(samples[name]) if name in samples else "stale" if ends else "_")
        self.steps += 1


def _samples(text: str) -> Iterator[tuple[str, float]]:
    for line in text.splitlines():
        if not line.startswith("#"):
            named, _, value = line.rpartition(" ")
            yield _series(named), float(value)


@cache
def _series(named: str) -> str:
    """Return a series as promtool takes it. Each is parsed once, though it is in every scrape of every outage."""
    ((sample,),) = (family.samples for family in text_string_to_metric_families(f"{named} 0\n"))
    labels = ", ".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{labels}}}"


def played(outage: tuple[Now, Now]) -> list[dict[str, str]]:
    """Play a calm time and then an outage; return what Prometheus has of it, as promtool takes it."""
    series: list[dict[str, str]] = []
    for number, now in enumerate(outage, 1):
        one = _Replica()
        for seconds in range(0, CALM + LONG + STEP, STEP):
            over = not now.kept and seconds > CALM + LONG - STEP
            one.step(WELL if seconds < CALM or over else now, seconds)
        of = f'job="collector", instance="{number}", '
        series += [
            {"series": name.replace("{", f"{{{of}", 1), "values": " ".join(values)}
            for name, values in one.series.items()
        ]
    return series


def evaluated(series: list[dict[str, str]], exprs: Sequence[str], folder: Path) -> list[float | None]:
    """Return what each expression is at the end: promtool says what it got where it expected something else."""
    nowhere = [{"labels": "expected_nowhere", "value": 1}]
    asked = [{"expr": expr, "eval_time": f"{CALM + LONG}s", "exp_samples": nowhere} for expr in exprs]
    case = {"interval": f"{STEP}s", "input_series": series, "promql_expr_test": asked}
    (folder / "case.yml").write_bytes(msgspec.json.encode({"tests": [case]}))
    said = subprocess.run(
        ["promtool", "test", "rules", "case.yml"], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    found = [line.partition("got:")[2].strip() for line in (said.stdout + said.stderr).splitlines() if "got:" in line]
    if len(found) != len(exprs):
        raise ValueError(f"expected {len(exprs)} answers of promtool, got {said.stdout}{said.stderr}")
    return [None if one == "nil" else float(one.rpartition(" ")[2]) for one in found]
