"""As many replicas as somebody wants: started when there are too few, ended with SIGTERM when there are too many."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import TYPE_CHECKING, Self

from bench.errors import NotAsExpected
from collector.local import Replica

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from collector.local import LocalServers

_AT_ONCE = 8


class Replicas:
    """A Deployment in small: `scale` returns at once, and what it began goes on in threads."""

    def __init__(self, servers: LocalServers, namespace: str, settings: Mapping[str, str]) -> None:
        self._servers = servers
        self._namespace = namespace
        self._settings = settings
        self._pool = ThreadPoolExecutor(_AT_ONCE)
        self._numbers = itertools.count(1)
        self._wanted: list[tuple[Replica, Future[None]]] = []
        self._leaving: list[Future[None]] = []
        self._all: list[Replica] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)  # one that is being started could not be killed yet
        for replica in self._all:
            replica.kill()

    @property
    def wanted(self) -> int:
        """How many there are to be, as a Deployment's `replicas`."""
        return len(self._wanted)

    @property
    def ready(self) -> list[Replica]:
        """Those that are to stay and have started; raises what a start or an end raised."""
        for leaving in self._leaving:
            if leaving.done():
                leaving.result()
        return [replica for replica, started in self._wanted if started.done() and started.result() is None]

    def scale(self, count: int) -> None:
        """Have so many; the youngest go first."""
        while len(self._wanted) < count:
            folder = self._servers.folder / f"replica-{next(self._numbers)}"
            replica = Replica(folder, self._namespace, self._servers.nats, self._servers.mongod, self._settings)
            self._all.append(replica)
            self._wanted.append((replica, self._pool.submit(replica.start)))
        while len(self._wanted) > count:
            self._leaving.append(self._pool.submit(_end, *self._wanted.pop()))

    def finish(self) -> None:
        """Return when all of them have drained and ended; raises what an end raised."""
        self.scale(0)
        for leaving in self._leaving:
            leaving.result()


def reading(replica: Replica, metric: str) -> float | None:
    """Return a metric as a replica says it, None when it does not: absent is not 0."""
    try:
        status, text = replica.get("/metrics")
    except (OSError, HTTPException):
        return None
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(metric)]
    return float(values[0]) if status == 200 and values else None


def _end(replica: Replica, started: Future[None]) -> None:
    started.result()
    replica.terminate()
    if status := replica.wait():
        raise NotAsExpected(f"expected a replica to end with status 0 after SIGTERM, got {status}")
