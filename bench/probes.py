"""Entries to quiet loggers, and how long each takes until it is found."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bson import ObjectId
from pymongo.read_concern import ReadConcern

from bench.entries import Form, Traffic, entry_id
from bench.errors import NotAsExpected
from bench.wire import wired

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.stand import Space, Stand

_RATE = 20
_LOOK = 0.005
_PATIENCE = 30.0


class Probes:
    """Publishes to the loggers in turn, `_RATE` entries a second; no number is used twice."""

    def __init__(self, stand: Stand, space: Space, keys: Sequence[str]) -> None:
        self._port = stand.nats.port
        self._database = space.database.with_options(read_concern=ReadConcern("majority"))
        self._names = space.names
        self._keys = keys
        self._traffic = Traffic(Form.CLIENT, 300)
        self._number = 0

    def measure(self, seconds: float) -> list[float]:
        """Return the latencies of what was published in so many seconds, sorted, when all of it is found."""
        latencies: list[float] = []
        sought: dict[int, float] = {}
        due = time.perf_counter()
        over = due + seconds
        with wired(self._port) as wire:
            while sought or due < over:
                if due < over and time.perf_counter() >= due:
                    due += 1 / _RATE
                    self._number += 1
                    subject = self._names.subject(self._key(self._number)).encode()
                    command = self._traffic.command(subject, self._number)
                    sought[self._number] = time.perf_counter()
                    wire.send(command)
                found = [number for number in sought if self._found(number)]
                latencies += [time.perf_counter() - sought.pop(number) for number in found]
                if sought and time.perf_counter() - min(sought.values()) > _PATIENCE:
                    raise NotAsExpected(f"expected an entry of a quiet logger to be stored within {_PATIENCE:.0f} s")
                time.sleep(_LOOK)
        return sorted(latencies)

    def _key(self, number: int) -> str:
        return self._keys[number % len(self._keys)]

    def _found(self, number: int) -> bool:
        collection = self._database[self._names.collection(self._key(number))]
        return collection.find_one({"_id": ObjectId(entry_id(number))}, {"_id": 1}) is not None
