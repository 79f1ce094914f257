"""A trickle: few entries a second to each of many loggers, as most installations have it, and what an entry costs then.

Entries are published one by one, evenly spaced, to the loggers in turn, for a while before the window and in it. CPU
time is that of collector, nats-server and mongod in the window, rest included, for each entry that was stored in it.
The publisher is none of the three. Latency is that of the entries published in the window, from before the publish
until MongoDB's oplog notes the insert; an entry that is not there when the patience is over counts with the time until
then. A replica that falls behind writes larger batches and looks cheap: the part of the entries that were stored
within 3 s tells. The bare servers get the same load without a collector: that is what publishing alone costs.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from bench.errors import NotAsExpected
from bench.fleet import Fleet
from bench.oplog import Oplog
from bench.publisher import Publisher
from bench.reader import quantiles_ms
from bench.waiting import until_acquainted, until_consuming
from bench.wire import wired

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.plan import Load
    from bench.publisher import Sent
    from bench.stand import Stand
    from collector.local import Replica

NAME = "trickle"
BEFORE = "trickle, before"
OF_BEFORE = "trickle, of before"
FLOW = "published to all"
_FLOW_LOGGERS = 1000
LIVE = "stored within 3 s"
_LIVE = 3.0
_PATIENCE = 5.0
_COLLECTOR = "collector µs"
_OURS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time in which entries trickled: the clock of `time.time`, CPU seconds, commands that insert."""

    sent: Sent
    started: float
    ended: float
    cpu: Mapping[str, float]
    inserts: int

    def costs(self, entries: float) -> dict[str, float]:
        """Return the CPU time of each process, and of all, in microseconds for each of so many entries."""
        costs = {f"{name} µs": seconds * 1e6 / max(1, entries) for name, seconds in self.cpu.items()}
        return costs | {"sum µs": sum(costs.values())}

    def measures(self, stored: Mapping[int, float], looked: float) -> dict[str, float]:
        """Return the figures, with what was stored when somebody looked."""
        seconds = self.ended - self.started
        entries = sum(self.started <= moment < self.ended for moment in stored.values())
        latencies = sorted(stored.get(number, looked) - moment for number, moment in self.sent.moments.items())
        return {
            **self.costs(entries),
            **quantiles_ms(latencies),
            "entries/s": entries / seconds,
            "entries a write": entries / max(1, self.inserts),
            "sent in time": self.sent.in_time,
            LIVE: sum(latency < _LIVE for latency in latencies) / max(1, len(latencies)),
            **{f"{name} % of a core": cpu / seconds * 100 for name, cpu in self.cpu.items()},
        }


class Trickles:
    """The trickles of one fleet. No number is published twice in it."""

    def __init__(self, stand: Stand, fleet: Fleet) -> None:
        self._stand = stand
        self._fleet = fleet
        self._next = 0

    def alone(self, load: Load) -> float:
        """Return what the servers pay for each entry that nobody consumes, in microseconds."""
        self._fleet.forget_durables()
        with self._publishing(load) as publisher:
            publisher.go_on(self._stand.plan.warm_up_seconds / 3)
            window = self._window(publisher, [])
        return window.costs(len(window.sent.moments))["sum µs"]

    def stored(self, load: Load, settings: Mapping[str, str]) -> dict[str, float]:
        """Let replicas with these settings store a trickle, and return the figures."""
        self._fleet.forget_durables()
        oplog, first = Oplog(self._fleet.space.database), self._next
        with self._stand.replicas(self._fleet.space, load.replicas, settings) as replicas:
            with wired(self._stand.nats.port) as wire:
                until_consuming(wire, self._fleet.space, self._fleet.keys)
            until_acquainted(replicas)
            with self._publishing(load) as publisher:
                publisher.go_on(self._stand.plan.warm_up_seconds)
                window = self._window(publisher, replicas)
                stored = oplog.wait(first, publisher.next - 1, _PATIENCE)
            looked = time.time()
            _end(replicas)
        return window.measures(stored, looked)

    @contextmanager
    def _publishing(self, load: Load) -> Iterator[Publisher]:
        """Publish to all loggers, see that the streams took every message, and leave them empty."""
        fleet, names = self._fleet, self._fleet.space.names
        before, first = fleet.published(), self._next
        with wired(self._stand.nats.port) as wire:
            publisher = Publisher(wire, [names.subject(key) for key in fleet.keys], load.rate * load.loggers, first)
            yield publisher
        self._next = publisher.next
        if (taken := fleet.published() - before) != publisher.next - first:
            raise NotAsExpected(f"expected the streams to take {publisher.next - first} messages, they took {taken}")
        fleet.forget_messages()

    def _window(self, publisher: Publisher, replicas: Sequence[Replica]) -> Window:
        inserts, started, meter = self._inserts(), time.time(), self._stand.meter(replicas)
        sent = publisher.go_on(self._stand.plan.trickle_seconds)
        cpu, ended = meter.used(), time.time()
        return Window(sent, started, ended, cpu, self._inserts() - inserts)

    def _inserts(self) -> int:
        status = self._stand.mongo.admin.command("serverStatus")
        return int(status["metrics"]["commands"]["insert"]["total"])


def _end(replicas: Sequence[Replica]) -> None:
    """Let replicas end as they do when somebody asks them, so that the next ones do not take them for living."""
    for replica in replicas:
        replica.terminate()
    for replica in replicas:
        replica.wait()


def measure(stand: Stand) -> None:
    """Measure all loads of as many loggers in each round, then those of more."""
    loads = sorted(stand.plan.loads, key=attrgetter("loggers"))
    for size, cases in groupby(loads, attrgetter("loggers")):
        with stand.space() as space:
            fleet = Fleet(stand, space, size)
            fleet.declare()
            _measure_fleet(stand, fleet, list(cases))


def _measure_fleet(stand: Stand, fleet: Fleet, loads: Sequence[Load]) -> None:
    trickles = Trickles(stand, fleet)
    for _ in stand.rounds():
        for load in loads:
            measure_load(stand, trickles, load)
        if stand.plan.against is not None and len(fleet.keys) == _FLOW_LOGGERS:
            sides = (_OURS, stand.plan.against.settings)
            _compare(stand, FLOW, *(_flow(stand, fleet, settings) for settings in sides))


def measure_load(stand: Stand, trickles: Trickles, load: Load) -> None:
    """Measure one load: published alone, stored by our replicas, and by those of the other checkout."""
    case = str(load)
    if load.replicas == 1:
        stand.progress.doing(f"{case}, published alone")
        stand.figures.add(NAME, case, {"published alone µs": trickles.alone(load)})
    stand.progress.doing(case)
    now = trickles.stored(load, _OURS)
    if stand.plan.against is None:
        stand.figures.add(NAME, case, now)
    else:
        stand.progress.doing(f"{case}, {stand.plan.against.commit}")
        _compare(stand, case, now, trickles.stored(load, stand.plan.against.settings))
    one = stand.figures.find(NAME, str(replace(load, replicas=1)), _COLLECTOR)
    if load.replicas > 1 and one is not None:
        stand.figures.add(NAME, case, {"collector, of one": now[_COLLECTOR] / one.values[-1]})


def _flow(stand: Stand, fleet: Fleet, settings: Mapping[str, str]) -> dict[str, float]:
    """Return the figures of entries that are published as fast as JetStream takes them, as the group `many` has it."""
    stand.progress.doing(FLOW)
    fleet.forget_durables()
    with stand.replicas(fleet.space, settings=settings) as (replica,), wired(stand.nats.port) as wire:
        until_consuming(wire, fleet.space, fleet.keys)
        measures = fleet.flow(replica, stand.plan.flow_entries)
        _end([replica])
    return measures


def _compare(stand: Stand, case: str, now: Mapping[str, float], before: Mapping[str, float]) -> None:
    ratios = {name: now[name] / before[name] for name in now if name[-2:] in {"µs", "ms"} and before.get(name)}
    for group, measures in ((NAME, now), (BEFORE, before), (OF_BEFORE, ratios)):
        stand.figures.add(group, case, measures)
