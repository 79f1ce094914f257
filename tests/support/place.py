"""A replica, a logger and its database, where collections are what they should not be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.support.ancestor import entry
from tests.support.waiting import count, until
from transfer.wire import CollectionSpec, LoggerSpec, encode_spec

if TYPE_CHECKING:
    from pymongo.database import Database

    from collector.local import Replica
    from tests.support.ancestor import Ancestor


KEY = "metered"


COLLECTION, LETTERS = f"{KEY}_logs", f"{KEY}_fail"


SOON = {"COLLECTOR_RECONCILE_PERIOD": "5s"}


SERIES = CollectionSpec(kind="timeseries", expire_after_seconds=3600, granularity="minutes")


EXPIRING = CollectionSpec(expire_after_seconds=3600)


RIGHT = {"timeField": "timestamp", "metaField": "metadata", "granularity": "minutes"}
SERIES_WITH = {"timeField": "timestamp", "metaField": "metadata"}


class Scene:
    """A replica, a logger and its database."""

    def __init__(self, replica: Replica, go: Ancestor, database: Database[dict[str, Any]]) -> None:
        self.replica, self.go, self.database = replica, go, database
        self.published = 0

    async def declare(self, collection: CollectionSpec | None) -> None:
        await self.go.put(KEY, encode_spec(LoggerSpec(KEY, collection=collection)))

    async def publish(self, number: int = 5) -> None:
        now = int(time.time())  # what is older than the expiry goes within a minute, also in the middle of a test
        await self.go.publish(KEY, [entry(self.published + one, now) for one in range(number)])
        self.published += number

    async def until_stored(self, number: int) -> None:
        await until(lambda: count(self.database, KEY) == number, 15)

    async def until_state(self, wanted: str, *words: str) -> None:
        def is_there() -> bool:
            logger = self.replica.status["loggers"].get(KEY, {})
            return bool(logger.get("state") == wanted and all(word in logger["why"] for word in words))

        await until(is_there, 15)

    def options(self) -> dict[str, Any]:
        (listed,) = self.database.list_collections(filter={"name": COLLECTION})
        return {"type": listed["type"], **listed["options"]}

    def expiries(self) -> list[int]:
        indexes = self.database[COLLECTION].index_information().values()
        return [index["expireAfterSeconds"] for index in indexes if index["key"] == [("timestamp", 1)]]


def make(database: Database[dict[str, Any]], options: dict[str, Any]) -> None:
    database.command({"create": COLLECTION, **options})
