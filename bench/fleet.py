"""Many loggers of one namespace, and entries that are spread over all of them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench import declaring
from bench.backlog import publish
from bench.entries import Form, Traffic
from bench.processes import peak_mib
from bench.stand import stream_names
from bench.waiting import until, until_empty
from bench.wire import wired

if TYPE_CHECKING:
    from bench.processes import Meter
    from bench.stand import Space, Stand
    from collector.local import Replica

_SWEEP = 0.05
_THREADS = 8
_COUNTED_WITHIN = 10.0
"""Seconds: the replica counts a batch a moment after its acks have emptied the stream."""


class Fleet:
    """So many loggers, whose streams and collections are there for all rounds; they are declared when it is said."""

    def __init__(self, stand: Stand, space: Space, count: int) -> None:
        self.space = space
        self.keys = [f"logger-{number:04}" for number in range(count)]
        self._stand = stand
        self._subjects = [space.names.subject(key) for key in self.keys]
        stand.progress.doing(f"making {count} streams and collections")
        declaring.make_streams(stand.nats, space, self.keys)
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(space.database.create_collection, map(space.names.collection, self.keys)))

    def declare(self) -> None:
        """Put all KV entries."""
        with wired(self._stand.nats.port) as wire:
            declaring.put(wire, self.space, self.keys)

    def undeclare(self) -> None:
        """Make the bucket anew, empty."""
        with wired(self._stand.nats.port) as wire:
            (bucket,) = stream_names(wire, f"$KV.{self.space.names.bucket}.>")
            wire.request(f"$JS.API.STREAM.DELETE.{bucket}")
        declaring.make_streams(self._stand.nats, self.space, [])

    def forget_durables(self) -> None:
        """Delete all durables: the next replica has to make them, as for loggers that are new."""
        names = self.space.names
        with wired(self._stand.nats.port) as wire:
            wire.requests([f"$JS.API.CONSUMER.DELETE.{names.stream(key)}.{names.durable(key)}" for key in self.keys])

    def forget_messages(self) -> None:
        """Empty all streams."""
        with wired(self._stand.nats.port) as wire:
            wire.requests([f"$JS.API.STREAM.PURGE.{self.space.names.stream(key)}" for key in self.keys])

    def published(self) -> int:
        """Return how many messages the streams ever took."""
        with wired(self._stand.nats.port) as wire:
            infos = wire.requests([f"$JS.API.STREAM.INFO.{self.space.names.stream(key)}" for key in self.keys])
        return sum(info["state"]["last_seq"] for info in infos)

    def flow(self, replica: Replica, entries: int) -> dict[str, float]:
        """Publish entries to all loggers in turn, as fast as JetStream takes them, while a replica consumes them all.

        The time is that from the first publish until all streams are empty, looked for every 50 ms.
        """
        before, started = _written(replica), time.perf_counter()
        meter = self._stand.meter([replica])
        self._publish(entries)
        published = time.perf_counter() - started
        return {"published/s": entries / published} | self._see_all_written(replica, before, entries, started, meter)

    def drain(self, entries: int) -> dict[str, float]:
        """Publish a backlog to loggers that are not declared, and let a fresh replica drain it.

        The time is that from the put of all KV entries until all streams are empty: it has the start of all loggers.
        """
        self._publish(entries)
        with self._stand.replicas(self.space) as (replica,):
            before, started = _written(replica), time.perf_counter()
            meter = self._stand.meter([replica])
            self.declare()
            measures = self._see_all_written(replica, before, entries, started, meter)
            measures["peak MiB"] = peak_mib(replica.pid)
        self.undeclare()
        return measures

    def _publish(self, entries: int) -> None:
        publish(self._stand.nats.port, Traffic(Form.GO, 300), self._subjects, entries)

    def _see_all_written(
        self, replica: Replica, before: int, entries: int, started: float, meter: Meter
    ) -> dict[str, float]:
        with wired(self._stand.nats.port) as wire:
            seconds = until_empty(wire, self.space, self.keys, _SWEEP) - started
        used = meter.used()
        what = f"{entries} entries to be written over {len(self.keys)} loggers"
        until(lambda: _written(replica) - before >= entries, what, _SWEEP, _COUNTED_WITHIN)
        return {"entries/s": entries / seconds} | {f"{name} µs": cpu * 1e6 / entries for name, cpu in used.items()}


def _written(replica: Replica) -> int:
    """Return how many entries it wrote or found stored: after a write of unknown result, or delivered once more."""
    entries = replica.status["entries"]
    return int(entries["written"] + entries["duplicates"])
