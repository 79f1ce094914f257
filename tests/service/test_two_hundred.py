"""200 loggers of one replica, half of them in every kind of trouble: the other half is none the worse for it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from nats.js.errors import NotFoundError
from pymongo import MongoClient

from tests.support.ancestor import Ancestor, entry
from tests.support.process import refusing_inserts
from tests.support.waiting import count, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Mongod, Replica

pytestmark = pytest.mark.timeout(300)
GOOD = [f"good{number}" for number in range(100)]
EACH = 16
LARGE = msgspec.msgpack.encode({"data": {"text": "x" * 2_000_000}})


async def make_trouble(go: Ancestor, database: Database[dict[str, Any]]) -> None:
    """Have six kinds of it: no stream, no spec, poison, large messages, streams and durables that vanish, a view."""
    for number in range(EACH):
        await go.put(f"streamless{number}")
        await go.put(f"junk{number}", b"\xc1")
        poison, large, view, gone = (f"{kind}{number}" for kind in ("poison", "large", "view", "gone"))
        database.command({"create": f"{view}_logs", "viewOn": "nothing", "pipeline": []})
        await go.declare(poison, large, view, gone)
        await go.publish(poison, [b"\xc1"] * 20)
        await go.publish(large, [LARGE, entry(1)])
        await go.publish(view, [entry(1)])


async def disturb(go: Ancestor, number: int) -> None:
    """Delete streams and durables that are in use; a stream is made again."""
    for each in range(EACH):
        gone, poison = (f"{go.namespace}:logs:{kind}{each}" for kind in ("gone", "poison"))
        await go.jetstream.delete_stream(gone)
        await go.make_stream(f"gone{each}")
        await go.publish(f"gone{each}", [entry(number)])
        with suppress(NotFoundError):  # the one that was deleted before is not made anew yet
            await go.jetstream.delete_consumer(poison, poison)


def of_good_ones(replica: Replica, metric: str) -> float:
    lines = replica.get("/metrics")[1].splitlines()
    return sum(
        float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{metric}{{") and 'logger="good' in line
    )


async def test_100_loggers_in_trouble_do_nothing_to_100_others(
    start_replica: Callable[..., Replica], go: Ancestor, own_mongod: Callable[[], Mongod], namespace: str
) -> None:
    mongod = own_mongod()
    replica = start_replica(mongo=mongod, COLLECTOR_BUFFER_BYTES="8MiB", COLLECTOR_LAG_PERIOD="1s")
    await go.declare(*GOOD)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        database = client[namespace]
        await make_trouble(go, database)
        with refusing_inserts(mongod, f"{namespace}.large0_logs"):
            for number in range(1, 4):
                await disturb(go, number)
                for key in GOOD:
                    await go.publish(key, [entry(number)])
                await until(lambda stored=number: all(count(database, key) == stored for key in GOOD), 60)  # type: ignore[misc]
            await until(lambda: all(count(database, f"large{number}") == 2 for number in range(1, EACH)), 90)
        await until(lambda: count(database, "large0") == 2, 60)
        await until(lambda: all(count(database, f"gone{number}") >= 1 for number in range(EACH)), 60)
    for metric in ("failures_total", "retries_total", "redelivered_messages_total", "returned_messages_total"):
        assert of_good_ones(replica, f"collector_{metric}") == 0, metric
    assert of_good_ones(replica, "collector_written_entries_total") == 3 * len(GOOD)
    assert replica.metric("collector_actor_restarts_total") == 0
    assert replica.metric("collector_unreadable_declarations") == EACH
