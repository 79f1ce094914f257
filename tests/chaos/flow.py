"""How long the flow of each logger into MongoDB stands still, sampled ten times a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyio import current_time, sleep, to_thread
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.chaos.traffic import Form

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.database import Database

    from tests.chaos.traffic import Traffic
    from transfer.names import Names

_PERIOD = 0.1
_PATIENCE_MS = 2000


class Flow:
    """Watches what is stored of each logger, with eyes of its own: a count that rises is flow."""

    def __init__(self, uri: str, names: Names, traffics: Mapping[str, Traffic]) -> None:
        self._uri = uri
        self._names = names
        self._traffics = traffics
        self._counts = dict.fromkeys(traffics, 0)
        self.last_growth = dict.fromkeys(traffics, 0.0)
        """When each was last seen to rise, by the clock of the event loop."""
        self._longest: dict[str, float] = {}

    def begin(self) -> None:
        """Begin to measure anew."""
        self._longest = dict.fromkeys(self._traffics, 0.0)
        self.last_growth = dict.fromkeys(self._traffics, current_time())

    @property
    def longest_stops(self) -> dict[str, float]:
        """The longest stop of each logger in seconds since `begin`; while its producers are held, it has none."""
        return dict(self._longest)

    async def watch(self) -> None:
        """Sample until cancelled. What cannot be read has not grown."""
        client: MongoClient[dict[str, Any]] = MongoClient(
            self._uri,
            readPreference="primaryPreferred",
            serverSelectionTimeoutMS=_PATIENCE_MS,
            socketTimeoutMS=_PATIENCE_MS,
        )
        with client:
            database = client[self._names.database]
            while True:
                started = current_time()
                for traffic in self._traffics.values():
                    count = await to_thread.run_sync(self._count, database, traffic)
                    self._note(traffic, count)
                await sleep(max(0.01, started + _PERIOD - current_time()))

    def _count(self, database: Database[dict[str, Any]], traffic: Traffic) -> int | None:
        """Count cheaply: that of a time-series collection would read all of it, its statistics say how many came."""
        collection = self._names.collection(traffic.key)
        try:
            if traffic.form is Form.SERIES:
                said = database.command("collStats", collection)
                return int(said.get("timeseries", {}).get("numMeasurementsCommitted", 0))
            return database[collection].estimated_document_count()
        except PyMongoError:
            return None

    def _note(self, traffic: Traffic, count: int | None) -> None:
        key, now = traffic.key, current_time()
        grown = count is not None and count > self._counts[key]
        if count is not None:
            self._counts[key] = count  # statistics begin at 0 in a new process
        self._longest[key] = max(self._longest.get(key, 0.0), now - self.last_growth[key])
        if grown or not traffic.gate.is_open:
            self.last_growth[key] = now
