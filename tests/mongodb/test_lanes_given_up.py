"""A lane whose connection pymongo's monitor has given up, on a real mongod that stops to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anyio import fail_after, to_thread
from bson import ObjectId
from pymongo.errors import AutoReconnect

from collector.errors import SinkUnavailable
from collector.mongodb.calls import database_of, insert, open_mongo

if TYPE_CHECKING:
    from collector.local import Mongod

MONITORED = "heartbeatFrequencyMS=500&connectTimeoutMS=500"
"""pymongo's monitor notices a server that stops to answer after a second."""
LONG = 30.0
"""Seconds that a write may take by itself: far more than the monitor needs."""
NAME = "system_logs"


def _document() -> list[dict[str, ObjectId]]:
    return [{"_id": ObjectId()}]


async def test_a_write_ends_when_pymongo_gives_the_server_up_and_not_at_its_own_deadline(
    mongod: Mongod, namespace: str
) -> None:
    with fail_after(90):
        async with open_mongo(f"{mongod.url}&{MONITORED}") as client:
            database = database_of(client, namespace)
            await insert(database, NAME, _document(), LONG)
            assert client.lanes.number == 1
            await to_thread.run_sync(mongod.pause)
            try:
                with pytest.raises(SinkUnavailable) as raised:
                    await insert(database, NAME, _document(), LONG)
            finally:
                mongod.resume()
            assert type(raised.value.__cause__) is AutoReconnect, "NetworkTimeout is that of its own deadline"
            assert raised.value.ambiguous, "nobody knows whether it is stored"
            await insert(database, NAME, _document(), LONG)
