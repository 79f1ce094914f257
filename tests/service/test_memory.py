"""The ceiling of a replica's resident memory: the byte budget and 120 MiB, whatever waits and whatever comes.

The full size, 2,000,000 messages of 1 KiB, takes some minutes and 4 GB of disk and memory:
`COLLECTOR_TEST_BACKLOG=2000000 .venv/bin/python -m pytest -s tests/service/test_memory.py`.
Without it the backlog is smaller, and so is the budget that it exceeds many times.
"""

from __future__ import annotations

import gzip
import os
from itertools import repeat
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from pymongo import MongoClient

from tests.support.ancestor import Ancestor, ancestor, entry, text
from tests.support.flood import flood, header_block
from tests.support.process import MIB, needs_proc, refusing_inserts, resident
from tests.support.waiting import count, numbers, state, until, until_empty

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.local import Mongod, NatsServer, Replica

FULL = int(os.environ.get("COLLECTOR_TEST_BACKLOG", "0"))
MOST_BESIDES = 120 * MIB
BUDGET = 64 * MIB
pytestmark = [needs_proc, pytest.mark.timeout(1200 if FULL else 300)]

ONE_KIB = msgspec.msgpack.encode(
    {"metadata": {"host": "web-1"}, "data": {f"field{number}": "x" * 40 for number in range(20)}}
)
ONE_MIB = msgspec.msgpack.encode({"data": {"text": "x" * MIB}})
LOGGERS = [f"busy{number}" for number in range(20)]


async def until_steady(replica: Replica, seconds: float = 60) -> None:
    """Wait until a replica that cannot write takes nothing more, for a second."""
    with anyio.fail_after(seconds):
        before, now = -1.0, replica.metric("collector_buffer_bytes")
        while before != now or not now:
            await anyio.sleep(1)
            before, now = now, replica.metric("collector_buffer_bytes")


async def fill(nats: NatsServer, go: Ancestor, keys: list[str], bodies: dict[str, Any]) -> None:
    for key in keys:
        await flood(nats, f"{go.namespace}.logs.{key}", bodies[key])


def say(replica: Replica, what: str, budget: int) -> None:
    """Assert the ceiling, and print how far below it the replica stayed."""
    most = resident(replica, highest=True)
    print(f"{what}: at most {most / MIB:.0f} MiB resident, with a budget of {budget / MIB:.0f} MiB")  # noqa: T201 - figures
    assert most < budget + MOST_BESIDES


async def test_with_mongodb_blocked_and_2_million_waiting_messages_memory_stays_below_the_budget_and_120_mib(
    start_replica: Callable[..., Replica],
    own_nats: Callable[..., NatsServer],
    own_mongod: Callable[[], Mongod],
    namespace: str,
) -> None:
    backlog = FULL or 40_000
    budget = BUDGET if FULL else 8 * MIB
    nats, mongod = own_nats(), own_mongod()
    replica = start_replica(nats=nats, mongo=mongod, COLLECTOR_BUFFER_BYTES=str(budget), COLLECTOR_WRITE_TIMEOUT="2s")
    async with ancestor(nats.url, namespace) as go:
        await go.declare(*LOGGERS, "late")
        await until(lambda: all(state(replica, key) == "running" for key in (*LOGGERS, "late")), 10)
        mongod.pause()
        await fill(nats, go, LOGGERS, dict.fromkeys(LOGGERS, [ONE_KIB] * (backlog // len(LOGGERS))))
        await until_steady(replica)
        await until(lambda: replica.metric("collector_retries_total") > 0, 20)
        assert replica.metric("collector_buffer_bytes") > budget / 4
        assert replica.metric("collector_buffer_bytes") < budget * 1.3
        await go.publish("late", [entry(1)])
        await until(lambda: replica.status["loggers"]["late"]["in_hand_messages"] == 1, 5)
        say(replica, f"{backlog} messages of 1 KiB while MongoDB hangs", budget)
        mongod.resume()
        for key in (*LOGGERS, "late"):
            await until_empty(go.jetstream, f"{namespace}:logs:{key}", 600 if FULL else 60)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        assert sum(count(client[namespace], key) for key in LOGGERS) == backlog // len(LOGGERS) * len(LOGGERS)
        assert count(client[namespace], "late") == 1
    say(replica, f"{backlog} messages of 1 KiB drained", budget)


async def test_with_mongodb_blocked_and_200_waiting_messages_of_1_mib_memory_stays_below_the_budget_and_120_mib(
    start_replica: Callable[..., Replica],
    own_nats: Callable[..., NatsServer],
    own_mongod: Callable[[], Mongod],
    namespace: str,
) -> None:
    nats, mongod = own_nats(), own_mongod()
    replica = start_replica(nats=nats, mongo=mongod)
    async with ancestor(nats.url, namespace) as go:
        await go.declare(*LOGGERS)
        await until(lambda: all(state(replica, key) == "running" for key in LOGGERS), 10)
        with refusing_inserts(mongod):
            await fill(nats, go, LOGGERS, dict.fromkeys(LOGGERS, [ONE_MIB] * 10))
            await until_steady(replica)
            await until(lambda: replica.metric("collector_retries_total") > 0, 20)
            say(replica, "200 messages of 1 MiB while MongoDB refuses", BUDGET)
        for key in LOGGERS:
            await until_empty(go.jetstream, f"{namespace}:logs:{key}", 60)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        assert sum(count(client[namespace], key) for key in LOGGERS) == 200
    say(replica, "200 messages of 1 MiB drained", BUDGET)


async def test_300_loggers_with_one_message_of_1_mib_each_take_no_more_than_one_would(
    start_replica: Callable[..., Replica],
    own_nats: Callable[..., NatsServer],
    own_mongod: Callable[[], Mongod],
    namespace: str,
) -> None:
    nats, mongod = own_nats(), own_mongod()
    replica = start_replica(nats=nats, mongo=mongod)
    keys = [f"quiet{number}" for number in range(300)]
    async with ancestor(nats.url, namespace) as go:
        await go.declare(*keys)
        await until(lambda: replica.metric("collector_consumer_waiting_pulls") >= 300, 30)
        with refusing_inserts(mongod):
            await fill(nats, go, keys, {key: [ONE_MIB] for key in keys})
            await until_steady(replica)
            await until(lambda: replica.metric("collector_retries_total") > 0, 20)
            say(replica, "300 loggers with 1 MiB each while MongoDB refuses", BUDGET)
        for key in keys:
            await until_empty(go.jetstream, f"{namespace}:logs:{key}", 60)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        assert [count(client[namespace], key) for key in keys] == [1] * 300
    say(replica, "300 loggers with 1 MiB each drained", BUDGET)


async def test_a_logger_at_rest_takes_less_than_64_kib(
    start_replica: Callable[..., Replica], own_nats: Callable[..., NatsServer], mongod: Mongod, namespace: str
) -> None:
    """The difference of many and few is the loggers' own; half as much is usual, and once it was twice as much."""
    nats, few, many = own_nats(), 50, 450
    replica = start_replica(nats=nats, mongo=mongod)
    async with ancestor(nats.url, namespace) as go:

        async def rest(keys: list[str], loggers: int) -> int:
            await go.declare(*keys)
            await until(lambda: replica.metric("collector_consumer_waiting_pulls") >= loggers, 60)
            await until(lambda: len(replica.status["loggers"]) == loggers, 5)
            return resident(replica)

        before = await rest([f"few{number}" for number in range(few)], few)
        after = await rest([f"many{number}" for number in range(many)], few + many)
    each = (after - before) / many
    print(f"a logger at rest: {each / 1024:.0f} KiB")  # noqa: T201 - figures
    assert each < 64 * 1024


async def test_a_logger_with_a_huge_backlog_that_cannot_be_written_leaves_the_others_their_part(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    nats_server: NatsServer,
    mongod: Mongod,
    namespace: str,
) -> None:
    replica = start_replica(COLLECTOR_BUFFER_BYTES="8MiB")
    await go.declare("huge", "small")
    await until(lambda: state(replica, "huge") == state(replica, "small") == "running", 10)
    with MongoClient[dict[str, Any]](mongod.url) as client, refusing_inserts(mongod, f"{namespace}.huge_logs"):
        database = client[namespace]
        await flood(nats_server, f"{namespace}.logs.huge", [ONE_KIB] * 25_000)
        await until_steady(replica)
        for number in range(3):
            await go.publish("small", [entry(number) for number in range(1000 * number, 1000 * number + 1000)])
            await until(lambda wanted=1000 * number + 1000: count(database, "small") == wanted, 2)  # type: ignore[misc]
        assert count(database, "huge") == 0
        assert replica.metric("collector_returned_messages_total") == 0, "the huge one did not have to give way first"
    await until_empty(go.jetstream, f"{namespace}:logs:huge", 30)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        assert count(client[namespace], "huge") == 25_000
        assert set(numbers(client[namespace], "small").values()) == {1}


def array(count: int) -> bytes:
    return b"\xdd" + count.to_bytes(4)


def inside(values: bytes) -> bytes:
    """Pack an entry with these values as its only field."""
    return b"\x81" + text("data") + b"\x81" + text("a") + values


TEN = 10_000_000
HOSTILE: dict[str, tuple[bytes, dict[str, str]]] = {
    "a bundle of empty maps": (array(TEN) + b"\x80" * TEN, {"Content_Type": "application/vnd.transfer.bundle+msgpack"}),
    "a bundle of entries with empty maps": (
        array(60_000) + inside(b"\xdc\x00\x90" + b"\x80" * 144) * 60_000,
        {"Content_Type": "application/vnd.transfer.bundle+msgpack"},
    ),
    "empty maps": (inside(array(TEN) + b"\x80" * TEN), {}),
    "nested arrays": (inside(array(TEN // 4) + b"\x91\x91\x91\x90" * (TEN // 4)), {}),
    "maps of one nil": (inside(array(TEN // 3) + b"\x81\xa0\xc0" * (TEN // 3)), {}),
    "nils": (inside(array(TEN) + b"\xc0" * TEN), {}),
    "JSON": (b'{"data":{"a":[' + b",".join([b"{}"] * (TEN // 3)) + b"]}}", {"Content_Type": "application/json"}),
}


async def test_10_mib_of_tiny_values_20_times_in_a_row_are_dead_letters_and_take_no_more_memory(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    nats_server: NatsServer,
    mongod: Mongod,
    namespace: str,
) -> None:
    replica = start_replica()
    times = 20 if FULL else 3
    keys = [f"hostile{number}" for number in range(len(HOSTILE))]
    await go.declare(*keys, "good")
    await until(lambda: all(state(replica, key) == "running" for key in (*keys, "good")), 10)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        database = client[namespace]
        for key, (name, (body, headers)) in zip(keys, HOSTILE.items(), strict=True):
            packed = gzip.compress(body, 1)
            raw_headers = header_block(**headers, Content_Encoding="gzip")
            await flood(nats_server, f"{namespace}.logs.{key}", repeat(packed, times), raw_headers)
            await until(lambda key=key: database[f"{key}_fail"].count_documents({}) == times, 60)  # type: ignore[misc]
            say(replica, name, BUDGET)
            assert set(database[f"{key}_fail"].distinct("reason")) <= {"rule", "malformed"}
            assert count(database, key) == 0
        await go.publish("good", [entry(1)])
        await until(lambda: count(database, "good") == 1, 5)
        assert replica.metric("collector_actor_restarts_total") == 0


async def test_bundles_of_10_mib_are_opened_one_at_a_time_when_there_is_no_room_for_more(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    nats_server: NatsServer,
    mongod: Mongod,
    namespace: str,
) -> None:
    replica = start_replica()
    one = msgspec.msgpack.encode({"data": {f"field{number}": f"value {number}" for number in range(48)}})
    in_each = TEN // len(one)
    packed = gzip.compress(array(in_each) + one * in_each, 1)
    headers = header_block(Content_Type="application/vnd.transfer.bundle+msgpack", Content_Encoding="gzip")
    keys = LOGGERS[:5]
    await go.declare(*keys)
    await until(lambda: all(state(replica, key) == "running" for key in keys), 10)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        with refusing_inserts(mongod):
            for key in keys:
                await flood(nats_server, f"{namespace}.logs.{key}", [packed] * (3 if FULL else 1), headers)
            await until(lambda: replica.metric("collector_retries_total") > 0, 20)
            await until_steady(replica)
        for key in keys:
            await until_empty(go.jetstream, f"{namespace}:logs:{key}", 60)
        assert {count(client[namespace], key) for key in keys} == {in_each * (3 if FULL else 1)}
    say(replica, f"bundles of {in_each} entries", BUDGET)
