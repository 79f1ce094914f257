"""An undisturbed logger: publishes steadily, and looks at when each entry can be seen in MongoDB.

In a process of its own (`python -m tests.support.calm NATS MONGODB NAMESPACE`), so that it measures the service and
not the test that makes trouble: it goes on until its input ends, and then prints what it saw as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import anyio
from anyio import create_task_group
from anyio.to_thread import run_sync
from pymongo import AsyncMongoClient

from tests.support.ancestor import Ancestor, ancestor, entry

if TYPE_CHECKING:
    from pymongo.asynchronous.collection import AsyncCollection

KEY = "calm"
RATE = 200
"""Entries a second."""
_PERIOD = 0.02
"""Seconds between two looks."""


class Calm:
    """Publishes and looks; `published` and `seen` say when, by the system's monotonic clock."""

    def __init__(self, go: Ancestor, log: AsyncCollection[dict[str, Any]]) -> None:
        self._go = go
        self._log = log
        self._inserts: list[tuple[float, float]] = []
        self._ending = False
        self.published: list[float] = []
        self.seen: dict[int, float] = {}

    async def publish(self) -> None:
        """Publish until told to end."""
        subject, started = f"{self._go.namespace}.logs.{KEY}", time.monotonic()
        while not self._ending:
            number = len(self.published)
            self.published.append(time.monotonic())
            await self._go.connection.publish(subject, entry(number))
            await anyio.sleep(max(0.0, started + (number + 1) / RATE - time.monotonic()))

    async def look(self) -> None:
        """Look until told to end and all that was published could be seen."""
        first = 0
        while not self._ending or first < len(self.published):
            async for found in self._log.find({"number": {"$gte": first}}, {"number": 1, "_id": 0}):
                self.seen.setdefault(found["number"], time.monotonic())
            while first in self.seen:
                first += 1
            await anyio.sleep(_PERIOD)

    async def insert(self) -> None:
        """Insert straight into MongoDB until told to end: what the machine costs everybody can be seen in it."""
        while not self._ending:
            began = time.monotonic()
            await anyio.sleep(1 / RATE)
            await self._log.database["calm_inserts"].insert_one({})
            self._inserts.append((began, time.monotonic()))

    def inserted(self, since: float, until: float) -> float:
        """Return the most seconds that an insert took in this span, its own wait included."""
        return max((ended - began for began, ended in self._inserts if began < until and ended > since), default=0.0)

    def end(self) -> None:
        """Publish no more."""
        self._ending = True


async def main(*where: str) -> None:
    """Publish and look until the input ends; print when each entry was published and seen, and what an insert took."""
    nats_url, mongo_url, namespace = where
    async with ancestor(nats_url, namespace) as go, AsyncMongoClient[dict[str, Any]](mongo_url) as client:
        log = client[namespace][f"{KEY}_logs"]
        await log.create_index("number")
        calm = Calm(go, log)
        async with create_task_group() as group:
            group.start_soon(calm.publish)
            group.start_soon(calm.look)
            group.start_soon(calm.insert)
            await run_sync(sys.stdin.read)
            calm.end()
    entries = [(published, calm.seen[number]) for number, published in enumerate(calm.published)]
    json.dump([(published, seen, calm.inserted(published, seen)) for published, seen in entries], sys.stdout)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
