"""When entries were stored, as MongoDB itself noted it: read afterwards, so that looking costs no measured time.

The oplog has the moment of each insert to the millisecond. A majority has it one write of the journal later, which is
the floor of the latency group. https://www.mongodb.com/docs/manual/core/replica-set-oplog/
"""

from __future__ import annotations

import re
import time
from datetime import UTC
from typing import TYPE_CHECKING, Any

from pymongo.read_concern import ReadConcern

from bench.entries import FIRST

if TYPE_CHECKING:
    from bson import Timestamp
    from pymongo.database import Database

_LOOK = 0.2


class Oplog:
    """Inserts into the collections of one database since this was made."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._entries = database.client["local"].get_collection("oplog.rs", read_concern=ReadConcern("majority"))
        self._query = {
            "ts": {"$gt": self._last()},
            "ns": {"$regex": f"^{re.escape(database.name)}\\."},
            "op": "i",
            "o.number": {"$exists": True},
        }

    def _last(self) -> Timestamp:
        last: Timestamp = self._entries.find_one({}, {"ts": 1}, sort=[("$natural", -1)])["ts"]  # type: ignore[index]
        return last

    def stored(self, first: int) -> dict[int, float]:
        """Return when each number from `first` on was stored, by the clock of `time.time`."""
        query = self._query | {"o.number": {"$gte": FIRST + first}}
        found = self._entries.find(query, {"_id": 0, "o.number": 1, "wall": 1})
        return {one["o"]["number"] - FIRST: one["wall"].replace(tzinfo=UTC).timestamp() for one in found}

    def wait(self, first: int, last: int, patience: float) -> dict[int, float]:
        """Return the same when all numbers to `last` are stored, or when the patience is over."""
        deadline = time.perf_counter() + patience
        while len(stored := self.stored(first)) <= last - first and time.perf_counter() < deadline:
            time.sleep(_LOOK)
        return stored
