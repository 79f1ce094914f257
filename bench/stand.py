"""Where it is measured: fresh servers for a group, namespaces in them that leave nothing behind, replicas."""

from __future__ import annotations

import itertools
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.processes import Meter
from bench.wire import wired
from collector.local import Replica
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pymongo import MongoClient
    from pymongo.database import Database

    from bench.figures import Figures
    from bench.plan import Plan
    from bench.progress import Progress
    from bench.wire import Wire
    from collector.local import LocalServers, Mongod, NatsServer

_NO_SETTINGS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Space:
    """One namespace, with its database."""

    names: Names
    database: Database[dict[str, Any]]


@dataclass(frozen=True)
class Stand:
    """The servers of one group, and where its figures go."""

    servers: LocalServers
    mongo: MongoClient[dict[str, Any]]
    plan: Plan
    figures: Figures
    progress: Progress
    repeat: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def nats(self) -> NatsServer:
        """The one nats-server."""
        return self.servers.nats

    @property
    def mongod(self) -> Mongod:
        """The one mongod."""
        return self.servers.mongod

    def rounds(self) -> Iterator[int]:
        """Count the rounds, and show them: every case is measured once in each, so that what is compared lies close."""
        for number in range(1, self.repeat + 1):
            self.progress.round(number, self.repeat)
            yield number

    @contextmanager
    def space(self) -> Iterator[Space]:
        """Give a namespace that nobody used; its streams and its database are gone afterwards."""
        names = Names(f"bench_{next(self._numbers)}")
        try:
            yield Space(names, self.mongo[names.database])
        finally:
            with wired(self.nats.port) as wire:
                filters = (names.all_subjects, f"$KV.{names.bucket}.>")
                streams = [name for subject in filters for name in stream_names(wire, subject)]
                wire.requests([f"$JS.API.STREAM.DELETE.{name}" for name in streams])
            self.mongo.drop_database(names.database)

    @contextmanager
    def replicas(
        self, space: Space, count: int = 1, settings: Mapping[str, str] = _NO_SETTINGS
    ) -> Iterator[list[Replica]]:
        """Start replicas with the default settings and these; they are ready, and killed afterwards."""
        replicas: list[Replica] = []
        with ExitStack() as stack:
            for _ in range(count):
                folder = self.servers.folder / f"replica-{next(self._numbers)}"
                replica = Replica(folder, space.names.namespace, self.nats, self.mongod, settings)
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                stack.callback(replica.kill)
                replica.start()
                replicas.append(replica)
            yield replicas

    def meter(self, replicas: Sequence[Replica]) -> Meter:
        """Begin to measure the CPU time of the three that share the work."""
        pids = {"collector": [replica.pid for replica in replicas]}
        return Meter(pids | {"nats-server": [self.nats.pid], "mongod": [self.mongod.pid]})


def stream_names(wire: Wire, subject: str) -> list[str]:
    """Return the streams that take a subject."""
    names: list[str] = []
    while True:
        payload = b'{"subject":"%b","offset":%d}' % (subject.encode(), len(names))
        page = wire.request("$JS.API.STREAM.NAMES", payload)
        names += page.get("streams") or []
        if len(names) >= page["total"]:
            return names
