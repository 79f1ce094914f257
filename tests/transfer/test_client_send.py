"""What is given to `send` through a real NATS, a real collector and into a real MongoDB, while things break."""

from __future__ import annotations

import asyncio
import base64
import gzip
import os
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from nats import connect

from tests.support.waiting import until
from transfer import BlockingTransfer, Logger, Unavailable, UnknownLogger
from transfer.background.sender import Sender
from transfer.names import Names
from transfer.options import read_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import NatsServer, Replica

pytestmark = pytest.mark.timeout(180)


def markers(database: Database[dict[str, Any]]) -> int:
    """Return how many entries the markers in the collection say are missing."""
    return sum(found["dropped"] for found in database["app_logs"].find({"dropped": {"$exists": True}}))


async def test_what_was_sent_is_stored_once_in_order_with_its_time(
    start_replica: Callable[..., Replica], nats_server: NatsServer, namespace: str, database: Database[dict[str, Any]]
) -> None:
    start_replica()
    with BlockingTransfer.connect(nats_server.url, namespace=namespace) as transfer:
        transfer.set(Logger("app"))
        for number in range(5000):
            transfer.send("app", {"number": number}, timestamp=1_700_000_000_000_000_000 + number * 1_000_000)
        assert transfer.flush(20)
        stats = transfer.stats()
    assert (stats.published, stats.queued, stats.queued_bytes, stats.dropped) == (5000, 0, 0, {})
    await until(lambda: database["app_logs"].count_documents({}) == 5000, 20)
    found = list(database["app_logs"].find({}).sort("_id"))
    assert [document["number"] for document in found] == list(range(5000))
    assert found[7]["timestamp"].timestamp() == 1_700_000_000.007


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
async def test_while_nats_is_away_nothing_waits_and_what_is_dropped_is_counted_and_marked_where_it_is_missing(
    start_replica: Callable[..., Replica],
    own_nats: Callable[..., NatsServer],
    namespace: str,
    database: Database[dict[str, Any]],
    overflow: str,
) -> None:
    nats = own_nats()
    with BlockingTransfer.connect(nats.url, namespace=namespace, overflow=overflow, max_entries=1000) as transfer:
        transfer.set(Logger("app"))
        nats.stop()
        await until(lambda: not transfer.stats().connected, 10)  # before that it still sends, and drops none of those
        for number in range(5000):
            transfer.send("app", {"number": number}, important=number >= 4900)
        assert not transfer.flush(0.1)
        assert transfer.stats().queued == 1000
        assert transfer.stats().dropped == {"overflow": 4000}
        nats.start()
        start_replica(nats)
        assert transfer.flush(30)
        assert transfer.stats().published == 1000
    await until(lambda: database["app_logs"].count_documents({"number": {"$exists": True}}) == 1000, 20)
    await until(lambda: markers(database) == 4000, 20)
    kept = [found["number"] for found in database["app_logs"].find({"number": {"$exists": True}}).sort("_id")]
    expected = [*range(900), *range(4900, 5000)] if overflow == "drop_newest" else [*range(4000, 5000)]
    assert [number for number in kept if number not in expected] == []  # a diff of the whole would take minutes
    assert (len(kept), kept == expected) == (1000, True)


async def test_whoever_chose_to_block_waits_until_there_is_room_and_loses_nothing(
    own_nats: Callable[..., NatsServer], namespace: str
) -> None:
    nats = own_nats()
    with BlockingTransfer.connect(nats.url, namespace=namespace, overflow="block", max_entries=100) as transfer:
        transfer.set(Logger("app"))
        nats.stop()

        def send() -> None:
            for number in range(500):
                transfer.send("app", {"number": number})

        sending = threading.Thread(target=send)
        sending.start()
        await until(lambda: transfer.stats().queued == 45, 20)  # as much as is left
        assert sending.is_alive()
        nats.start()
        sending.join(30)
        assert transfer.flush(20)
        assert (transfer.stats().published, transfer.stats().dropped) == (500, {})
        assert transfer.get("app").stream.messages >= 5  # type: ignore[union-attr]


def test_what_is_dropped_is_counted_harms_no_other_and_each_reason_is_said_once_and_again_at_the_end(
    nats_server: NatsServer, namespace: str, capfd: pytest.CaptureFixture[str]
) -> None:
    limits = {"max_entries": 100, "max_bytes": 10_000_000}
    with BlockingTransfer.connect(nats_server.url, namespace=namespace, **limits) as transfer:  # type: ignore[arg-type]
        transfer.set(Logger("app"))
        for number in range(3):
            transfer.send("nobody", {"number": number})
            assert transfer.flush(20)
            transfer.send("no key!", {"number": number})
            transfer.send("app", {"number": number})
            transfer.send("app", {"filling": "x" * 10_000_000})
            assert transfer.flush(20)
        said = capfd.readouterr().err.splitlines()
        assert transfer.stats().dropped == {"unknown_logger": 3, "invalid_key": 3, "too_large": 3}
        assert transfer.stats().published == 3
        where = f"namespace {namespace!r} at {nats_server.url}"
        for reason in ("unknown_logger", "invalid_key", "too_large"):
            assert [where in line for line in said if f"dropped, {reason}:" in line] == [True]
        assert len(said) == 3
    (said_at_the_end,) = capfd.readouterr().err.splitlines()
    assert "dropped in all: 3 unknown_logger, 3 invalid_key, 3 too_large" in said_at_the_end
    assert where in said_at_the_end
    for number in range(3):
        transfer.send("app", {"number": number})
    assert transfer.stats().dropped["closed"] == 3
    (late,) = capfd.readouterr().err.splitlines()
    assert late.startswith("transfer: entries are dropped, closed: ")
    assert where in late


def _configure(url: str, stream: str, **changes: Any) -> None:
    """Change the configuration of a stream."""

    async def change() -> None:
        async with await connect(url) as connection:
            jetstream = connection.jetstream()
            config = (await jetstream.stream_info(stream)).config
            for name, value in changes.items():
                setattr(config, name, value)
            await jetstream.update_stream(config)

    asyncio.run(change())


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
@pytest.mark.parametrize(
    "stands_still",
    [{"max_msgs": 1}, {"max_bytes": 1000}, {"sealed": True}, {"subjects": ["elsewhere"]}],
    ids=["full of messages", "full of bytes", "sealed", "no stream for the subject"],
)
def test_a_logger_whose_stream_takes_nothing_takes_no_room_of_others(
    nats_server: NatsServer, namespace: str, overflow: str, stands_still: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"overflow": overflow, "max_entries": 200, "bundle_entries": 1}
    with BlockingTransfer.connect(nats_server.url, namespace=namespace, **options) as transfer:

        def log() -> None:
            for number in range(1000):
                transfer.send("dead", {"number": number})

        for key in ("dead", "app"):
            transfer.set(Logger(key))
        _configure(nats_server.url, Names(namespace).stream("dead"), **stands_still)
        noise = threading.Thread(target=log, daemon=True)
        noise.start()
        while noise.is_alive() and transfer.stats().queued < 90:
            noise.join(0.01)
        for number in range(5):
            for _ in range(5):
                transfer.send("app", {"number": number})
            deadline = time.monotonic() + 30
            while _stored(transfer) < 5 * (number + 1) and time.monotonic() < deadline:
                time.sleep(0.01)
        assert _stored(transfer) == 25
        transfer.close(0)
        noise.join(20)


def _stored(transfer: BlockingTransfer) -> int:
    found = transfer.get("app")
    assert found is not None
    assert found.stream is not None
    return found.stream.messages


def test_what_finds_no_room_is_said_once(namespace: str, capfd: pytest.CaptureFixture[str]) -> None:
    sender = Sender(*read_options("nats://user:secret@127.0.0.1:1", namespace, max_entries=10))
    for number in range(30):
        sender.send("app", {"number": number})
    said = capfd.readouterr().err
    assert said.startswith("transfer: entries are dropped, overflow: ")
    assert said.count("\n") == 1
    assert f"namespace {namespace!r} at nats://***@127.0.0.1:1" in said
    sender.close(0)
    said = capfd.readouterr().err
    assert said.startswith("transfer: 9 entries were not confirmed in time and are dropped: ")
    assert "21 overflow, 9 closed" in said
    assert said.count("\n") == 1
    assert "secret" not in said


def bodies(url: str, stream: str, count: int) -> list[dict[str, Any]]:
    """Return the entries in a stream."""

    async def read() -> list[dict[str, Any]]:
        async with await connect(url) as connection:
            pull = await connection.jetstream().pull_subscribe("", stream=stream, durable="reader")
            found: list[dict[str, Any]] = []
            while len(found) < count:
                for message in await pull.fetch(1, timeout=10):
                    packed = (message.headers or {}).get("Content-Encoding") == "gzip"
                    body = msgspec.msgpack.decode(gzip.decompress(message.data) if packed else message.data)
                    found += body if isinstance(body, list) else [body]
            return found

    return asyncio.run(read())


def test_of_what_is_too_large_a_stub_is_stored(own_nats: Callable[..., NatsServer], namespace: str) -> None:
    nats = own_nats("max_payload: 100000")
    moment = datetime(2026, 11, 27, tzinfo=UTC)
    noise = base64.b64encode(os.urandom(200_000)).decode()
    limits: dict[str, Any] = {"max_bytes": 1_000_000}
    with BlockingTransfer.connect(nats.url, namespace=namespace, **limits) as transfer:
        transfer.set(Logger("app"))
        transfer.send("app", {"msg": noise, "level": "ERROR", "logger": "shop"}, timestamp=moment, metadata={"a": 1})
        transfer.send("app", {"noise": noise}, metadata={"noise": noise})
        transfer.send("app", {"msg": "x" * 2_000_000, "level": "INFO", "value": 2**70})  # for the queue
        transfer.send("app", {"number": 3})
        assert transfer.flush(20)
        assert (transfer.stats().published, transfer.stats().dropped) == (1, {"too_large": 3})
    found = {next(iter(one["data"].values())): one for one in bodies(nats.url, f"{namespace}:logs:app", 4)}
    stubs = sorted((one for one in found.values() if "size" in one["data"]), key=lambda one: one["data"]["size"])
    assert [one["data"] for one in found.values() if "size" not in one["data"]] == [{"number": 3}]
    first, second, third = sorted(stubs, key=lambda one: str(one["data"].get("level")))
    assert first["data"]["level"] == "ERROR"
    assert first["data"]["logger"] == "shop"
    assert first["data"]["msg"] == f"{noise[:10_000]}… ({len(noise):,} characters)"
    assert first["data"]["size"] > len(noise)
    assert (first["timestamp"], first["metadata"]) == (moment, {"a": 1})
    assert second["data"]["msg"].startswith("x" * 10_000)
    assert second["data"]["size"] > 2_000_000
    assert third["data"]["msg"].startswith(f"{{'noise': '{noise[:100]}")
    assert third["metadata"] is None


def test_what_is_larger_than_a_message_may_be_and_cannot_be_compressed_is_dropped_and_counted(
    own_nats: Callable[..., NatsServer], namespace: str
) -> None:
    nats = own_nats("max_payload: 100000")
    with BlockingTransfer.connect(nats.url, namespace=namespace) as transfer:
        transfer.set(Logger("app"))
        transfer.send("app", {"noise": os.urandom(200_000)})
        transfer.send("app", {"number": 3})
        assert transfer.flush(20)
        assert (transfer.stats().published, transfer.stats().dropped) == (1, {"too_large": 1})


def test_the_end_of_the_block_is_bounded_and_says_once_what_was_not_confirmed(
    own_nats: Callable[..., NatsServer], namespace: str, capfd: pytest.CaptureFixture[str]
) -> None:
    nats = own_nats()
    with BlockingTransfer.connect(nats.url, namespace=namespace) as transfer:
        transfer.set(Logger("app"))
        nats.stop()
        transfer.send("app", {"number": 1})
        transfer.send("app", {"number": 2})
    said = capfd.readouterr().err
    assert said.startswith("transfer: 2 entries were not confirmed in time and are dropped")
    assert said.count("\n") == 1


def test_the_blocking_face_raises_what_the_other_raises(nats_server: NatsServer, namespace: str) -> None:
    with BlockingTransfer.connect(nats_server.url, namespace=namespace) as transfer:
        with pytest.raises(UnknownLogger):
            transfer.get("nobody")
        transfer.set(Logger("app", description="one"))
        transfer.update(Logger("app", description="two"))
        confirmation = transfer.publish("app", {"number": 1})
        assert (confirmation.sequence, transfer.get("app").logger.description) == (1, "two")
        assert len(transfer.list()) == 1
        transfer.remove("app", force=True)
        assert transfer.list() == []
    with pytest.raises(Unavailable), BlockingTransfer.connect("nats://127.0.0.1:1", namespace=namespace, timeout=0.2):
        pass
