"""Latency: from the moment before an entry is sent until it is visible in MongoDB with majority read concern.

Entries are sent at a fixed rate, in our own client's form, whatever becomes of those before them. The floor is what
the same reader sees of plain `insert_one` calls with majority writes: MongoDB's own time and the reader's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bench import declaring
from bench.entries import FIRST, Form, Traffic
from bench.reader import quantiles_ms, reading
from bench.wire import wired

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.collection import Collection

    from bench.reader import Reader
    from bench.stand import Stand

NAME = "latency"
FLOOR = "insert_one, the floor"
_KEY = "timed"
_RATES = (100, 1000)
_SETTINGS: Mapping[str, Mapping[str, str]] = {"default": {}, "age 0": {"COLLECTOR_BATCH_AGE": "0"}}
_WARM_UP = 50


def measure(stand: Stand) -> None:
    """Measure the floor, and each rate with each setting."""
    for _ in stand.rounds():
        _measure_floor(stand)
        for name, settings in _SETTINGS.items():
            _measure(stand, name, settings)


def _measure_floor(stand: Stand) -> None:
    stand.progress.doing(FLOOR)
    with stand.space() as space:
        collection = space.database.create_collection("floor")
        with reading(collection) as reader:
            sent = [_insert(collection, reader, number) for number in range(stand.plan.floor_inserts)]
            stand.figures.add(NAME, FLOOR, quantiles_ms(reader.latencies(sent)))


def _insert(collection: Collection[dict[str, Any]], reader: Reader, number: int) -> tuple[int, float]:
    moment = time.perf_counter()
    collection.insert_one({"number": number})
    reader.wait(number)
    return number, moment


def _measure(stand: Stand, name: str, settings: Mapping[str, str]) -> None:
    with stand.space() as space, stand.replicas(space, settings=settings):
        declaring.declare(stand.nats, space, [_KEY])
        collection = space.database[space.names.collection(_KEY)]
        subject = space.names.subject(_KEY).encode()
        first = 0
        with reading(collection) as reader:
            reader.latencies(_send(stand, subject, first, _WARM_UP, _RATES[0]))
            for rate in _RATES:
                first += max(rate, _WARM_UP) * 1000
                stand.progress.doing(f"{rate}/s, {name}")
                sent = _send(stand, subject, first, round(rate * stand.plan.latency_seconds), rate)
                stand.figures.add(NAME, f"{rate}/s, {name}", quantiles_ms(reader.latencies(sent)))


def _send(stand: Stand, subject: bytes, first: int, count: int, rate: int) -> list[tuple[int, float]]:
    """Send entries at a rate; return the number of each with the moment before it was sent."""
    traffic, sent = Traffic(Form.CLIENT, 300), []
    with wired(stand.nats.port) as wire:
        started = time.perf_counter()
        for number in range(first, first + count):
            time.sleep(max(0.0, started + (number - first) / rate - time.perf_counter()))
            command = traffic.command(subject, number)
            sent.append((FIRST + number, time.perf_counter()))
            wire.send(command)
    return sent
