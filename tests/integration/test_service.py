"""The main job on real servers: replicas as processes, a publisher that is not ours, MongoDB as the judge."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from nats.js.api import DeliverPolicy
from pymongo import MongoClient

from collector.local import Replica
from tests.integration.ancestor import Ancestor, ancestor, entry, text
from tests.integration.waiting import state, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def start_replica(namespace: str, nats_server: NatsServer, mongod: Mongod) -> Iterator[Callable[..., Replica]]:
    """Start a replica against the common servers, or against others; it ends with the test."""
    with ExitStack() as stack:

        def start(nats: NatsServer = nats_server, mongo: Mongod = mongod, **settings: str) -> Replica:
            folder = stack.enter_context(TemporaryDirectory(prefix="replica-"))
            return stack.enter_context(Replica(Path(folder), namespace, nats, mongo, settings))

        yield start


@pytest.fixture
def database(namespace: str, mongod: Mongod) -> Iterator[Database[dict[str, Any]]]:
    """Give the database of the namespace."""
    with MongoClient[dict[str, Any]](mongod.url, tz_aware=True) as client:
        yield client[namespace]


@pytest.fixture
async def go(namespace: str, nats_server: NatsServer) -> AsyncIterator[Ancestor]:
    """Give the Go system's publisher."""
    async with ancestor(nats_server.url, namespace) as publisher:
        yield publisher


def count(database: Database[dict[str, Any]], key: str) -> int:
    return database[f"{key}_logs"].estimated_document_count()


def numbers(database: Database[dict[str, Any]], *keys: str) -> Counter[int]:
    """How often each entry is stored."""
    return Counter(found["number"] for key in keys for found in database[f"{key}_logs"].find({}, {"number": 1}))


async def test_an_entry_of_the_go_client_becomes_the_documented_document(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    start_replica()
    await go.declare("system")
    await go.publish("system", [entry(7)])
    await until(lambda: count(database, "system") == 1, 5)
    found = database.system_logs.find_one()
    assert found is not None
    assert found.pop("_id") is not None
    assert found == {
        "msg": "GET /health",
        "number": 7,
        "timestamp": datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC),
        "metadata": {"number": 7},
    }


async def test_a_dead_letter_has_the_original_bytes_and_headers_and_says_why(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], namespace: str
) -> None:
    start_replica()
    await go.declare("system")
    await go.publish("system", [entry(1)])
    await go.publish("system", [b"\xc1 is no msgpack"], {"X-Origin": "here", "Content-Type": "application/msgpack"})
    await until(lambda: database.system_fail.estimated_document_count() == 1, 5)
    letter = database.system_fail.find_one()
    assert letter is not None
    assert letter["body"] == b"\xc1 is no msgpack"
    assert letter["headers"] == [["X-Origin", "here"], ["Content-Type", "application/msgpack"]]
    assert letter["reason"] == "malformed"
    assert (letter["subject"], letter["stream"]) == (f"{namespace}.logs.system", f"{namespace}:logs:system")
    assert (letter["sequence"], letter["entry"], letter["deliveries"]) == (2, None, 1)
    assert letter["published_at"] <= letter["failed_at"]
    assert letter["error"]
    await until(lambda: count(database, "system") == 1, 5)
    assert (await go.jetstream.stream_info(f"{namespace}:logs:system")).state.messages == 0


def in_map(data: bytes) -> bytes:
    return b"\x81" + text("data") + data


def nested(levels: int) -> bytes:
    return in_map((b"\x81" + text("a")) * levels + b"\xc0")


def timed(timestamp: bytes) -> bytes:
    return b"\x82" + text("data") + b"\x81" + text("a") + b"\x01" + text("timestamp") + timestamp


BUNDLE = {"Content-Type": "application/vnd.transfer.bundle+msgpack"}
TOO_DEEP = "malformed" if sys.version_info < (3, 12) else "document_invalid"  # Python or MongoDB finds it so
GO_ZERO_TIME = b"\xc7\x0c\xff" + struct.pack(">Iq", 0, -62_135_596_800)
BAD: dict[str, tuple[bytes, dict[str, str] | None, str]] = {
    "undecodable bytes": (b"\xc1\xff\x00", None, "malformed"),
    "no data": (b"\x81" + text("metadata") + b"\xc0", None, "malformed"),
    "data null": (in_map(b"\xc0"), None, "malformed"),
    "a key that is no text": (in_map(b"\x81\x01\x02"), None, "malformed"),
    "a nested key that is no text": (in_map(b"\x81" + text("a") + b"\x81\x01\x02"), None, "document_invalid"),
    "a NaN timestamp": (timed(b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), None, "malformed"),
    "uint64 above int64": (in_map(b"\x81" + text("a") + b"\xcf" + b"\xff" * 8), None, "document_invalid"),
    "2,000 nested maps": (nested(2000), None, TOO_DEEP),
    "300 nested maps": (nested(300), None, "document_invalid"),
    "invalid UTF-8": (in_map(b"\x81" + text("a") + b"\xa2\xff\xfe"), None, "malformed"),
    "a zip bomb": (gzip.compress(bytes(200_000_000)), {"Content-Encoding": "gzip"}, "too_large_inflated"),
    "an unknown content type": (entry(1), {"Content-Type": "text/html"}, "malformed"),
    "an empty message": (b"", None, "malformed"),
}
GOOD: dict[str, tuple[bytes, int]] = {
    "year 1": (timed(GO_ZERO_TIME), datetime.now(UTC).year),
    "year 9999": (timed(b"\xc7\x0c\xff" + struct.pack(">Iq", 0, 253_402_300_799)), 9999),
    "5 MiB": (in_map(b"\x81" + text("a") + b"\xdb" + struct.pack(">I", 5 << 20) + b"x" * (5 << 20)), 0),
}


async def test_bad_input_becomes_dead_letters_and_harms_nothing_else(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], namespace: str
) -> None:
    replica = start_replica()
    await go.declare("mixed")
    for number, (body, headers, _) in enumerate(BAD.values()):
        await go.publish("mixed", [body], headers)
        await go.publish("mixed", [entry(number)])
    for body, _ in GOOD.values():
        await go.publish("mixed", [body])
    bundle = b"\xdc\x00\x65" + b"".join(entry(1000 + n) for n in range(50)) + in_map(b"\xc0")
    bundle += b"".join(entry(1050 + n) for n in range(50))
    await go.publish("mixed", [bundle], BUNDLE)
    stored = len(BAD) + len(GOOD) + 100
    await until(lambda: count(database, "mixed") == stored, 20)
    await until(lambda: database.mixed_fail.estimated_document_count() == len(BAD) + 1, 20)

    letters = list(database.mixed_fail.find())
    by_body = {letter["body"]: letter for letter in letters}
    for name, (body, _, reason) in BAD.items():
        assert by_body[body]["reason"] == reason, f"{name}: {by_body[body]['error']}"
    assert by_body[in_map(b"\xc0")]["reason"] == "malformed"
    assert sorted(letter["entry"] for letter in letters if letter["entry"] is not None) == [50]
    years = Counter(found["timestamp"].year for found in database.mixed_logs.find({"number": {"$exists": False}}))
    assert years[9999] == 1
    assert 1 not in years
    assert (await go.jetstream.stream_info(f"{namespace}:logs:mixed")).state.messages == 0
    assert replica.metric("collector_actor_restarts_total") == 0
    assert replica.metric("collector_dead_lettered_entries_total") == len(BAD) + 1


async def test_of_50_000_entries_each_is_stored_once_though_a_replica_is_killed(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    doomed, _ = start_replica(COLLECTOR_ACK_WAIT="5s"), start_replica(COLLECTOR_ACK_WAIT="5s")
    keys = [f"logger{number}" for number in range(5)]
    await go.declare(*keys)
    killed = False
    for part in range(10):
        for key_number, key in enumerate(keys):
            first = (key_number * 10 + part) * 1000
            await go.publish(key, (entry(first + number) for number in range(1000)))
            if part == 4 and key_number == 2:
                doomed.kill()
                killed = True
    assert killed
    await until(lambda: sum(count(database, key) for key in keys) >= 50_000, 30)
    assert numbers(database, *keys) == Counter(range(50_000))


async def test_sigterm_with_10_000_messages_in_flight_loses_nothing_and_the_other_replica_goes_on(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], namespace: str
) -> None:
    leaving, staying = start_replica(), start_replica()
    await go.declare("busy")
    await until(lambda: {state(leaving, "busy"), state(staying, "busy")} == {"running"}, 5)
    await go.publish("busy", (entry(number) for number in range(5_000)))
    before = staying.metric("collector_written_entries_total")
    async with anyio.create_task_group() as group:
        group.start_soon(go.publish, "busy", [entry(number) for number in range(5_000, 15_000)])
        await until(lambda: leaving.metric("collector_buffer_messages") > 0, 10)
        started = time.monotonic()
        leaving.terminate()
        assert await anyio.to_thread.run_sync(leaving.wait) == 0
        assert time.monotonic() - started < 10
    left = time.monotonic()
    await until(lambda: staying.metric("collector_written_entries_total") > before, 1)
    assert time.monotonic() - left < 1
    await until(lambda: count(database, "busy") >= 15_000, 20)
    assert numbers(database, "busy") == Counter(range(15_000))
    assert (await go.jetstream.consumer_info(f"{namespace}:logs:busy", f"{namespace}:logs:busy")).num_pending == 0


async def test_a_second_signal_cancels_at_once(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    namespace: str,
    own_mongod: Callable[[], Mongod],
) -> None:
    mongod = own_mongod()
    replica = start_replica(mongo=mongod, COLLECTOR_WRITE_TIMEOUT="2s")
    await go.declare("stuck")
    mongod.pause()
    await go.publish("stuck", [entry(number) for number in range(100)])
    await until(lambda: replica.metric("collector_writes_in_progress") > 0, 5)
    replica.terminate()
    await until(lambda: replica.status["not_ready"][:1] == ["stopping"], 2)
    replica.terminate()
    assert await anyio.to_thread.run_sync(replica.wait) == 1
    mongod.resume()


async def test_an_entry_put_is_consumed_within_a_second(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    replica = start_replica()
    await go.make_stream("live")
    await go.publish("live", [entry(1)])
    await go.put("live")
    assert await until(lambda: count(database, "live") == 1, 5) < 1
    await go.put("live")
    await go.publish("live", [entry(2)])
    await until(lambda: count(database, "live") == 2, 5)
    assert replica.status["loggers"]["live"]["state"] == "running"
    assert replica.metric("collector_loggers") == 1


async def test_100_loggers_put_at_once_are_all_consumed_within_5_seconds(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    start_replica()
    keys = [f"many{number}" for number in range(100)]
    for number, key in enumerate(keys):
        await go.make_stream(key)
        await go.publish(key, [entry(number)])
    for key in keys:
        await go.put(key)
    assert await until(lambda: sum(count(database, key) for key in keys) == 100, 10) < 5


@pytest.mark.parametrize("way", ["delete", "purge"])
async def test_a_deleted_or_purged_entry_stops_its_pipeline(
    way: str, start_replica: Callable[..., Replica], go: Ancestor, namespace: str
) -> None:
    replica = start_replica()
    await go.declare("going", "staying")
    await until(lambda: state(replica, "going") == state(replica, "staying") == "running", 5)
    bucket = await go.jetstream.key_value(f"{namespace}_logs")
    await getattr(bucket, way)("going")
    await until(lambda: state(replica, "going") == "none", 5)
    assert state(replica, "staying") == "running"
    assert replica.metric("collector_loggers") == 1


async def test_a_stream_that_does_not_exist_yet_is_waited_for(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    replica = start_replica()
    await go.put("early")
    await until(lambda: state(replica, "early") == "backing_off", 5)
    assert "stream" in replica.status["loggers"]["early"]["why"]
    await go.make_stream("early")
    await go.publish("early", [entry(1)])
    await until(lambda: count(database, "early") == 1, 5)


async def test_a_value_that_cannot_be_read_parks_its_logger_only(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    replica = start_replica()
    await go.declare("fine")
    await go.make_stream("broken")
    await go.put("broken", b"\xc1 is no spec")
    await go.publish("fine", [entry(1)])
    await until(lambda: count(database, "fine") == 1, 5)
    await until(lambda: state(replica, "broken") == "parked", 5)
    await go.publish("broken", [entry(2)])
    await go.put("broken")
    await until(lambda: count(database, "broken") == 1, 5)


async def test_a_put_just_after_a_nats_restart_is_consumed_within_5_seconds(
    start_replica: Callable[..., Replica],
    own_nats: Callable[..., NatsServer],
    database: Database[dict[str, Any]],
    namespace: str,
) -> None:
    nats = own_nats()
    start_replica(nats=nats)
    async with ancestor(nats.url, namespace) as go:
        await go.declare("before")
        await go.publish("before", [entry(1)])
        await until(lambda: count(database, "before") == 1, 5)
    await anyio.to_thread.run_sync(nats.kill)
    await anyio.to_thread.run_sync(nats.start)
    async with ancestor(nats.url, namespace) as go:
        await go.make_stream("after")
        await go.publish("after", [entry(2)])
        await go.publish("before", [entry(3)])
        await go.put("after")
        assert await until(lambda: count(database, "after") == 1, 10) < 5
        await until(lambda: count(database, "before") == 2, 5)


async def test_a_deleted_durable_and_a_stream_made_anew_are_noticed(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], namespace: str
) -> None:
    replica = start_replica()
    name = f"{namespace}:logs:phoenix"
    await go.declare("phoenix")
    await go.publish("phoenix", [entry(1)])
    await until(lambda: count(database, "phoenix") == 1, 5)
    await go.jetstream.delete_consumer(name, name)
    await go.publish("phoenix", [entry(2)])
    await until(lambda: count(database, "phoenix") == 2, 10)
    await go.jetstream.delete_stream(name)
    await go.make_stream("phoenix")
    await go.publish("phoenix", [entry(3)])
    await until(lambda: count(database, "phoenix") == 3, 10)
    assert numbers(database, "phoenix") == Counter([1, 2, 3])
    assert replica.metric("collector_actor_restarts_total") == 0


async def test_acks_of_a_stream_that_is_gone_do_not_reach_the_one_made_anew(
    start_replica: Callable[..., Replica], go: Ancestor, own_mongod: Callable[[], Mongod], namespace: str
) -> None:
    mongod = own_mongod()
    replica = start_replica(mongo=mongod)
    name = f"{namespace}:logs:phoenix"
    await go.declare("phoenix")
    await until(lambda: state(replica, "phoenix") == "running", 5)
    await anyio.to_thread.run_sync(mongod.stop)
    await go.publish("phoenix", [entry(number) for number in range(10)])
    await until(lambda: replica.metric("collector_buffer_messages") == 10, 10)
    await go.jetstream.delete_stream(name)
    await go.make_stream("phoenix")
    await go.publish("phoenix", [entry(number) for number in range(10, 20)])
    other = await go.jetstream.pull_subscribe(f"{namespace}.logs.phoenix", durable=name, stream=name)
    assert len(await other.fetch(10, timeout=2)) == 10
    await anyio.to_thread.run_sync(mongod.start)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        await until(lambda: count(client[namespace], "phoenix") == 10, 20)
    await until(lambda: replica.status["loggers"]["phoenix"]["in_hand_messages"] == 0, 5)
    assert (await go.jetstream.stream_info(name)).state.messages == 10


async def test_a_push_durable_of_the_go_collector_is_replaced_when_nobody_is_bound_to_it(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], namespace: str
) -> None:
    replica = start_replica()
    name, subject = f"{namespace}:logs:taken", f"{namespace}.logs.taken"
    await go.make_stream("taken")
    subscription = await go.jetstream.subscribe(
        subject, queue=name, durable=name, stream=name, manual_ack=True, deliver_policy=DeliverPolicy.ALL
    )
    await go.put("taken")
    await go.publish("taken", [entry(1)])
    await until(lambda: "bound" in replica.status["loggers"].get("taken", {}).get("why", ""), 5)
    assert count(database, "taken") == 0
    await subscription.unsubscribe()
    await go.connection.flush()
    await until(lambda: count(database, "taken") == 1, 40)


async def test_an_outage_of_mongodb_is_waited_out_without_redelivery(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    own_mongod: Callable[[], Mongod],
    namespace: str,
) -> None:
    mongod = own_mongod()
    replica = start_replica(mongo=mongod, COLLECTOR_ACK_WAIT="2s")
    await go.declare("patient")
    await until(lambda: state(replica, "patient") == "running", 5)
    await anyio.to_thread.run_sync(mongod.stop)
    await go.publish("patient", (entry(number) for number in range(20_000)))
    await until(lambda: replica.metric("collector_retries_total") > 0, 20)
    assert "not connected to mongodb" in replica.status["not_ready"]
    assert replica.get("/livez")[0] == 200
    await anyio.sleep(5)  # longer than ack wait: what is in hand is kept alive
    await anyio.to_thread.run_sync(mongod.start)
    with MongoClient[dict[str, Any]](mongod.url) as client:
        seconds = await until(lambda: count(client[namespace], "patient") >= 20_000, 20)
        assert seconds < 5
        assert numbers(client[namespace], "patient") == Counter(range(20_000))
    assert replica.metric("collector_redelivered_messages_total") == 0
    assert replica.metric("collector_returned_messages_total") == 0


async def test_on_stop_during_an_outage_what_is_in_hand_is_given_back_at_once(
    start_replica: Callable[..., Replica], go: Ancestor, own_mongod: Callable[[], Mongod], namespace: str
) -> None:
    mongod = own_mongod()
    replica = start_replica(mongo=mongod)
    await go.declare("held")
    await until(lambda: state(replica, "held") == "running", 5)
    await anyio.to_thread.run_sync(mongod.stop)
    await go.publish("held", (entry(number) for number in range(100)))
    await until(lambda: replica.metric("collector_buffer_messages") == 100, 10)
    replica.terminate()
    assert await anyio.to_thread.run_sync(replica.wait) == 0
    assert '"returned": 100' in replica.log_path.read_text()
    name = f"{namespace}:logs:held"
    taken = await go.jetstream.pull_subscribe_bind(name, name)
    assert len(await taken.fetch(100, timeout=1)) == 100


async def test_users_own_ids_count_as_written_only_for_the_same_document(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    start_replica()
    await go.declare("own")

    def with_id(value: int) -> bytes:
        data = b"\x82" + text("_id") + text("mine") + text("v") + bytes([value])
        return timed(b"\x01").replace(b"\x81" + text("a") + b"\x01", data)

    await go.publish("own", [with_id(1), with_id(1), with_id(2)])
    await until(lambda: database.own_fail.estimated_document_count() == 1, 5)
    assert [found["v"] for found in database.own_logs.find()] == [1]
    letter = database.own_fail.find_one()
    assert letter is not None
    assert letter["reason"] == "duplicate_key"
    assert letter["body"] == with_id(2)


async def test_a_time_series_collection_is_made_when_the_spec_asks_and_never_altered(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    start_replica()
    kind = b"\x81" + text("kind") + text("timeseries")
    spec = b"\x83" + text("key") + text("metered") + text("description") + text("") + text("collection") + kind
    await go.make_stream("metered")
    await go.put("metered", spec)
    await go.publish("metered", [entry(number) for number in range(10)])
    await until(lambda: database.metered_logs.count_documents({}) == 10, 5)
    options = database.metered_logs.options()
    assert options["timeseries"]["timeField"] == "timestamp"
    assert options["timeseries"]["metaField"] == "metadata"


def test_wrong_settings_are_reported_together_with_exit_status_2() -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if name not in {"NAMESPACE", "DATABASE", "NATS_HOSTS"}},
        "COLLECTOR_BATCH_AGE": "soon",
        "COLLECTOR_HTTP": "nowhere",
        "DATABASE": "postgres://user:verysecret@db",
    }
    command = [sys.executable, "-m", "collector", "run"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    for variable in ("NAMESPACE", "NATS_HOSTS", "COLLECTOR_BATCH_AGE", "COLLECTOR_HTTP", "DATABASE"):
        assert variable in ended.stderr
    assert "verysecret" not in ended.stderr
