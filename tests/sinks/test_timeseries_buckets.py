"""A time-series collection with indexes on measured fields: mongod refuses a bucket, we refuse an entry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from bson import ObjectId

from collector.dead_letters.store import DeadLetterStore
from collector.model import Delivery, Reason, Rejected
from collector.mongodb.calls import database_of, open_mongo
from tests.support.letters import Command
from tests.support.waiting import until, until_empty
from transfer.entries.entry import encode_entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer, Replica
    from tests.support.ancestor import Ancestor

pytestmark = pytest.mark.timeout(120)
GOOD = 200
AT = datetime(2024, 5, 6, 12, tzinfo=UTC)
ARRAY, PARALLEL = [1, 2], {"a": [1], "b": [2]}
INDEXES: dict[str, tuple[list[tuple[str, Any]], dict[str, Any], dict[str, Any]]] = {
    "on a measured field": ([("a", 1)], {"a": 1}, {"a": ARRAY}),
    "on a measured field that no good entry has": ([("a", 1)], {}, {"a": ARRAY}),
    "on two measured fields": ([("a", 1), ("b", -1)], {"a": 1, "b": 2}, PARALLEL),
    "on a field in a measured map": ([("m.a", 1)], {"m": {"a": 1}}, {"m": {"a": ARRAY}}),
    "2dsphere": ([("place", "2dsphere")], {"place": {"type": "Point", "coordinates": [1.0, 2.0]}}, {"place": "here"}),
    "2dsphere, out of bounds": ([("place", "2dsphere")], {}, {"place": {"type": "Point", "coordinates": [999.0, 0.0]}}),
}


def body(number: int, fields: dict[str, Any]) -> bytes:
    return encode_entry({"number": number, **fields}, AT, {"host": "one"}, ObjectId().binary)


@pytest.mark.parametrize(("index", "again"), [*((name, False) for name in INDEXES), ("2dsphere", True)])
async def test_a_guilty_entry_takes_none_of_its_bucket_along(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    database: Database[dict[str, Any]],
    mongod: Mongod,
    nats_server: NatsServer,
    namespace: str,
    index: str,
    again: bool,
) -> None:
    keys, good, guilty = INDEXES[index]
    database.create_collection("system_logs", timeseries={"timeField": "timestamp", "metaField": "metadata"})
    database.system_logs.create_index(keys)
    several = [body(number, good if number != GOOD // 2 else guilty) for number in range(GOOD + 1)]
    await anyio.to_thread.run_sync(start_replica)
    await go.make_stream("system")
    if again:
        await keep(mongod, namespace, several)
        said = await Command(namespace, mongod, nats_server.url).done("redrive", "system")
        assert (said["redriven"], said["left"]) == (GOOD + 1, [])
    else:
        await go.publish("system", several)
    await go.put("system")
    await until_empty(go.jetstream, f"{namespace}:logs:system", 20)
    stored = sorted(found["number"] for found in database.system_logs.find({}, {"number": 1}))
    assert stored == [number for number in range(GOOD + 1) if number != GOOD // 2]
    (letter,) = database.system_fail.find({})
    assert letter["reason"] == Reason.DOCUMENT_INVALID.value
    assert letter.get("attempt", 1) == (2 if again else 1)
    await until(lambda: database.system_fail.count_documents({}) == 1, 5)


async def keep(mongod: Mongod, namespace: str, bodies: list[bytes]) -> None:
    """Have them as the dead letters that they were when one took all along."""
    subject, stream = f"{namespace}.logs.system", f"{namespace}:logs:system"
    rejects = [
        Rejected(
            Delivery(subject, "reply", one, b"", stream, number, 1, int(AT.timestamp()) * 10**9),
            position=None,
            identity=ObjectId(msgspec.msgpack.decode(one)["id"]),
            reason=Reason.DOCUMENT_INVALID,
            error="expected another one",
            body=one,
        )
        for number, one in enumerate(bodies, 1)
    ]
    async with open_mongo(mongod.url) as client:
        await DeadLetterStore(database_of(client, namespace), "system_fail", 20.0, lambda: 1.5).store(rejects)
