"""Live add: from the KV put of a new logger until its first document is visible, for one logger after another.

Its stream is there and holds one entry, so what is measured is the collector: it hears of the logger, makes durable
and collection, pulls, and writes. Visible is what a change stream of the database shows.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench import declaring
from bench.backlog import publish
from bench.entries import FIRST, Form, Traffic
from bench.reader import quantiles_ms, reading
from bench.wire import wired

if TYPE_CHECKING:
    from bench.stand import Space, Stand

NAME = "live add"


def measure(stand: Stand) -> None:
    """Add all loggers in each round, in a namespace of its own."""
    count = stand.plan.added_loggers
    for _ in stand.rounds():
        with stand.space() as space:
            keys = [f"added-{number:03}" for number in range(count)]
            stand.progress.doing(f"making {count} streams")
            declaring.make_streams(stand.nats, space, keys)
            publish(stand.nats.port, Traffic(Form.GO, 300), [space.names.subject(key) for key in keys], count)
            stand.progress.doing(f"adding {count} loggers")
            with stand.replicas(space):
                latencies = _add(stand, space, keys)
            stand.figures.add(NAME, f"{count} loggers", quantiles_ms(latencies))


def _add(stand: Stand, space: Space, keys: list[str]) -> list[float]:
    with reading(space.database) as reader, wired(stand.nats.port) as wire:
        latencies = []
        for number, key in enumerate(keys):
            started = time.perf_counter()
            declaring.put(wire, space, [key])
            latencies.append(reader.wait(FIRST + number) - started)
        return sorted(latencies)
