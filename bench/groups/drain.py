"""Drain: a backlog that was published before the collector knew of its logger, until the last entry is stored.

The time is that from the first delivery of the logger's durable, which is looked for every 2 ms, until its stream is
empty, looked for every 10 ms: every message is acknowledged by then, so every entry is stored with majority. That all
entries are there is counted afterwards. CPU time is that of the processes between the logger's declaration and that
moment; the peak is that of the replica's resident memory in the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bench import declaring
from bench.backlog import publish
from bench.entries import Form, Traffic
from bench.errors import NotAsExpected
from bench.groups import ceiling
from bench.processes import cores, peak_mib, reset_peak
from bench.waiting import until_delivered, until_empty, waiting
from bench.wire import wired
from collector.sinks.timeseries.claims import CLAIMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.stand import Space, Stand
    from collector.local import Replica

NAME = "drain"
Kind = Literal["plain", "timeseries"]
_KEY = "drained"
_FORMS = (Form.GO, Form.CLIENT, Form.JSON, Form.BUNDLE)
_KINDS: tuple[Kind, Kind] = ("plain", "timeseries")


@dataclass(frozen=True, slots=True)
class Case:
    """What is drained into what, by how many replicas."""

    form: Form
    kind: Kind = "plain"
    size: int = 300
    replicas: int = 1

    def __str__(self) -> str:
        size = "" if self.size == 300 else f", {self.size} B"
        return f"{self.kind}, {self.form}{size}{', 2 replicas' if self.replicas == 2 else ''}"


@dataclass(frozen=True, slots=True)
class Drained:
    """What one drain took; `cpu` in seconds by process, `written` by replica."""

    entries: int
    seconds: float
    cpu: Mapping[str, float]
    peak_mib: float
    written: tuple[float, ...]
    barriers: int
    """How often a write had to be repeated, and what it did was waited for."""

    @property
    def rate(self) -> float:
        """Entries a second."""
        return self.entries / self.seconds

    def measures(self) -> dict[str, float]:
        """Return the figures; `limit` is the rate at which these processes would have all cores busy."""
        cost = {f"{name} µs": seconds * 1e6 / self.entries for name, seconds in self.cpu.items()}
        limit = cores() * self.entries / sum(self.cpu.values())
        rates = {"entries/s": self.rate, "limit": limit, "efficiency": self.rate / limit}
        return rates | cost | {"peak MiB": self.peak_mib}


def measure(stand: Stand) -> None:
    """Measure the ceilings and every case in each round."""
    for _ in stand.rounds():
        ceiling.nats_delivers(stand)
        ceiling.barrier_takes(stand)
        for kind in _KINDS:
            top = ceiling.mongod_takes(stand, kind, 300, stand.plan.backlog)
            alone = {form: _measure(stand, Case(form, kind), top) for form in _FORMS}
            both = _measure(stand, Case(Form.GO, kind, replicas=2), top)
            stand.figures.add(NAME, f"{kind}, go, 2 replicas", {"of one": both.rate / alone[Form.GO].rate})
        for size in (100, 4096):
            count = stand.plan.large_backlog if size > 300 else stand.plan.backlog
            _measure(stand, Case(Form.GO, size=size), ceiling.mongod_takes(stand, "plain", size, count), count)


def _measure(stand: Stand, case: Case, top: float, count: int | None = None) -> Drained:
    stand.progress.doing(str(case))
    drained = drain(stand, case, count or stand.plan.backlog)
    measures = drained.measures() | {"of ceiling": drained.rate / top}
    if case.replicas == 2 and case.kind == "plain":
        measures["smaller share"] = min(drained.written) / sum(drained.written)
    stand.figures.add(NAME, str(case), measures)
    if case.kind == "timeseries":
        stand.figures.add(NAME, str(case), {"barriers": drained.barriers})
    if case.kind == "timeseries" and case.replicas == 1:
        plain = stand.figures.find(NAME, str(Case(case.form)), "entries/s")
        if plain is not None:
            stand.figures.add(NAME, str(case), {"of plain": drained.rate / plain.values[-1]})
    return drained


def drain(stand: Stand, case: Case, entries: int) -> Drained:
    """Publish a backlog, then let fresh replicas drain it."""
    with stand.space() as space, wired(stand.nats.port) as wire:
        _publish_backlog(stand, space, case, entries)
        with stand.replicas(space, case.replicas) as replicas:
            for replica in replicas:
                reset_peak(replica.pid)
            meter = stand.meter(replicas)
            declaring.declare(stand.nats, space, [_KEY], case.kind)
            started = until_delivered(wire, space, _KEY)
            ended = until_empty(wire, space, [_KEY])
            cpu = meter.used()
            peak = max(peak_mib(replica.pid) for replica in replicas)
            _check(space, replicas, entries)
            barriers = sum(claim.get("barriers", 0) for claim in space.database[CLAIMS].find())
            written = tuple(replica.metric("collector_written_entries_total") for replica in replicas)
    return Drained(entries, ended - started, cpu, peak, written, barriers)


def _publish_backlog(stand: Stand, space: Space, case: Case, entries: int) -> None:
    declaring.make_streams(stand.nats, space, [_KEY])
    traffic = Traffic(case.form, case.size)
    messages = entries // traffic.entries_a_message
    publish(stand.nats.port, traffic, [space.names.subject(_KEY)], messages)
    with wired(stand.nats.port) as wire:
        found = waiting(wire, space, [_KEY])
    if found != [messages]:
        raise NotAsExpected(f"expected a backlog of {messages} messages, got {found}")


def _check(space: Space, replicas: list[Replica], entries: int) -> None:
    stored = space.database[space.names.collection(_KEY)].count_documents({})
    dead = space.database[space.names.dead_letters(_KEY)].count_documents({})
    if (stored, dead) != (entries, 0):
        words = "\n".join(replica.log_path.read_text(errors="replace")[-2000:] for replica in replicas)
        raise NotAsExpected(f"expected {entries} stored, none dead, got {stored} and {dead}; the replica said\n{words}")
