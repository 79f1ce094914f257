"""One run: the load changes, the autoscaler looks and scales, and what all of it comes to is written down.

Two cores cannot show eight replicas at full speed. So every insert is made to take `WRITE_SECONDS`, by a fail point of
mongod, and a replica writes one batch of `BATCH_ENTRIES` at a time: each has a ceiling of 1,000 entries a second that
is its own. The time of the recipe, of Kubernetes and of the sampler runs `SPEED` times faster; the load and the servers
do not.
"""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient

from bench import declaring
from bench.autoscale.autoscaler import SYNC_PERIOD, Autoscaler
from bench.autoscale.load import Load, Phase, Shape
from bench.autoscale.replicas import Replicas, reading
from bench.errors import NotAsExpected
from bench.stand import Space
from bench.waiting import until, until_empty, waiting
from bench.wire import wired
from collector.local import LocalServers, Mongod, NatsServer
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.autoscale.recipe import Recipe
    from bench.progress import Progress
    from bench.wire import Wire

SPEED = 10.0
DELAY = 60.0
"""Seconds of the recipe's time: the delay that is accepted, of which the threshold follows."""
BATCH_ENTRIES = 200
WRITE_SECONDS = 0.2
CEILING = BATCH_ENTRIES / WRITE_SECONDS
"""Entries a second that one replica writes at most."""
STEADY = CEILING / 2
SHAPE = Shape([Phase("steady", 15, STEADY), Phase("burst", 40, 10 * STEADY), Phase("quiet again", 0, STEADY)])

NAMESPACE, LOGGER = "logs", "orders"
METRIC = 'collector_backlog_messages{log_namespace="logs"}'
OLDEST = 'collector_lag_oldest_message_age_seconds{log_namespace="logs",logger="orders"}'
_LAG_PERIOD = 5.0
_SETTINGS = {
    "COLLECTOR_BATCH_ENTRIES": str(BATCH_ENTRIES),
    "COLLECTOR_WRITES": "1",
    "COLLECTOR_LAG_PERIOD": str(_LAG_PERIOD / SPEED),
}
_LOOK = 0.25
_REST = 60.0
"""Seconds of the recipe's time with the least replicas, at the end: what comes after them does not scale any more."""
_PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What was so at a time of the run: counts of entries, replicas, and seconds."""

    at: float
    published: int
    stored: int
    lag: int
    """Messages in the stream, as JetStream says."""
    oldest: float | None
    """Age of the oldest one, as a replica says."""
    wanted: int
    ready: int


@dataclass(frozen=True, slots=True)
class Run:
    """What a run came to."""

    recipe: Recipe
    """As it was applied, in the time of the run."""
    samples: list[Sample]
    published: int
    documents: int
    distinct: int
    """Different entries among the documents."""
    letters: int


def run(shipped: Recipe, progress: Progress) -> Run:
    """Let the recipe work. Raises NotAsExpected when replicas or servers do what cannot be measured."""
    recipe = replace(shipped.faster(SPEED), threshold=CEILING * DELAY / SPEED)
    with _servers() as (servers, space), Replicas(servers, NAMESPACE, _SETTINGS) as replicas:
        declaring.declare(servers.nats, space, [LOGGER])
        replicas.scale(recipe.least)
        until(lambda: len(replicas.ready) == recipe.least, "the first replicas to be ready", _LOOK)
        load = Load(servers.nats.port, space.names.subject(LOGGER), SHAPE)
        scene = _Scene(space, replicas, load, Autoscaler(recipe))
        samples: list[Sample] = []
        over, started = Event(), time.perf_counter()
        with ThreadPoolExecutor(1) as pool, wired(servers.nats.port) as wire:
            publishing = pool.submit(load.run, started, over)
            try:
                for sample in scene.watch(wire, started, progress):
                    samples.append(sample)
                    if publishing.done():
                        break
            finally:
                over.set()
            publishing.result()
            until_empty(wire, space, [LOGGER], _LOOK)
        replicas.finish()
        return Run(recipe, samples, load.published, **_count(space))


@dataclass
class _Scene:
    """What changes during a run, and who changes it."""

    space: Space
    replicas: Replicas
    load: Load
    autoscaler: Autoscaler
    _asked: Iterator[int] = field(default_factory=itertools.count)

    def watch(self, wire: Wire, started: float, progress: Progress) -> Iterator[Sample]:
        """Scale, and look every quarter of a second; over when the least replicas are enough again for a while."""
        quiet, least = SHAPE.starts[-1], self.autoscaler.recipe.least
        next_sync = rest_since = now = 0.0
        while now < max(quiet, rest_since) + _REST / SPEED:
            now = time.perf_counter() - started
            if now > _PATIENCE:
                raise NotAsExpected(f"expected {least} replicas again within {_PATIENCE:.0f} s")
            if now >= next_sync:
                next_sync += SYNC_PERIOD / SPEED
                self._scale(now)
            if self.replicas.wanted > least:
                rest_since = now
            yield self._look(wire, now)
            progress.doing(f"{self.replicas.wanted} replicas, {self.load.published:,} published")
            time.sleep(_LOOK)

    def _scale(self, now: float) -> None:
        """Ask another replica each time: they all know the backlog."""
        ready = self.replicas.ready
        backlog = reading(ready[next(self._asked) % len(ready)], METRIC)
        self.replicas.scale(self.autoscaler.replicas(now, self.replicas.wanted, backlog))

    def _look(self, wire: Wire, now: float) -> Sample:
        ready = self.replicas.ready
        return Sample(
            at=now,
            published=self.load.published,
            stored=self.space.database[self.space.names.collection(LOGGER)].estimated_document_count(),
            lag=waiting(wire, self.space, [LOGGER])[0],
            oldest=reading(ready[0], OLDEST),
            wanted=self.replicas.wanted,
            ready=len(ready),
        )


@contextmanager
def _servers() -> Iterator[tuple[LocalServers, Space]]:
    with TemporaryDirectory(prefix="autoscale-") as name:
        folder, parameters = Path(name), {"enableTestCommands": 1}
        with NatsServer(folder) as nats, Mongod(folder, parameters=parameters) as mongod:
            client: MongoClient[dict[str, Any]] = MongoClient(mongod.url, w="majority")
            with client:
                slow = {"failCommands": ["insert"], "blockConnection": True, "blockTimeMS": round(WRITE_SECONDS * 1000)}
                client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=slow)
                names = Names(NAMESPACE)
                yield LocalServers(folder, nats, mongod), Space(names, client[names.database])
            nats.kill()
            mongod.kill()


def _count(space: Space) -> dict[str, int]:
    collection = space.database[space.names.collection(LOGGER)]
    counted = collection.aggregate([{"$group": {"_id": "$number"}}, {"$count": "distinct"}])
    letters = space.database[space.names.dead_letters(LOGGER)].count_documents({})
    return {"documents": collection.count_documents({}), "distinct": next(counted)["distinct"], "letters": letters}
