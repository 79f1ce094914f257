"""`collector dead-letters redrive`: each entry is stored once, and keeps its identity, time and bytes."""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

from anyio import create_task_group, to_thread

from tests.support.ancestor import MESSAGE, Ancestor, ancestor, entry, text
from tests.support.letters import MIB, POISON, Command, emptied, keep, numbers, refused, reject
from tests.support.waiting import until
from transfer.wire import BUNDLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer, Replica


# --- redrive


async def test_entries_are_stored_once_under_their_identity_when_the_cause_is_mended(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], command: Command
) -> None:
    start_replica()
    await refused(database, go, 300)
    kept = {found["_id"] for found in database.system_fail.find()}
    assert await command.done("redrive", "system", "--limit", "120") == {"redriven": 120, "left": []}
    assert await command.done("redrive", "system") == {"redriven": 180, "left": []}
    await until(lambda: database.system_logs.count_documents({}) == 300, 10)
    assert numbers(database) == Counter(range(300))
    assert {found["_id"] for found in database.system_logs.find()} == kept
    assert database.system_fail.count_documents({}) == 0
    await emptied(go)
    assert await command.run("redrive", "system") == (0, "redriven: 0, left: 0\n", "")


async def test_a_unique_index_that_is_dropped_lets_the_entry_in_and_its_own_id_is_kept(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], command: Command
) -> None:
    start_replica()
    database.system_logs.create_index("msg", unique=True)
    await go.declare("system")
    own = b"\x82" + text("data") + b"\x82" + text("_id") + text("mine") + text("msg") + text(MESSAGE)
    own += text("timestamp") + b"\xd6\xff\x00\x00\x00\x01"
    await go.publish("system", [entry(1)])
    await until(lambda: database.system_logs.count_documents({}) == 1, 5)
    await go.publish("system", [entry(2), own])
    await until(lambda: database.system_fail.count_documents({}) == 2, 5)
    database.system_logs.drop_index("msg_1")
    await command.done("redrive", "system", "--reason", "duplicate_key")
    await until(lambda: database.system_logs.count_documents({}) == 3, 5)
    assert database.system_logs.find_one({"_id": "mine"}) is not None
    assert database.system_fail.count_documents({}) == 0


async def test_an_entry_without_a_time_keeps_that_of_its_first_publishing(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], command: Command
) -> None:
    start_replica()
    database.create_collection("system_logs", validator={"a": {"$ne": 1}})
    await go.declare("system")
    await go.publish("system", [b'{"data": {"a": 1}}'])
    await until(lambda: database.system_fail.count_documents({}) == 1, 5)
    (letter,) = database.system_fail.find()
    database.command({"collMod": "system_logs", "validator": {}})
    await command.done("redrive", "system")
    await until(lambda: database.system_logs.count_documents({}) == 1, 5)
    (stored,) = database.system_logs.find()
    assert (stored["_id"], stored["timestamp"]) == (letter["_id"], letter["published_at"])


async def test_what_is_still_poison_becomes_the_same_letter_again(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], command: Command
) -> None:
    start_replica()
    await go.declare("system")
    headers = {"X": "1", "Nats-Expected-Last-Sequence": "0", "Nats-Msg-Id": "first"}
    await go.publish("system", [POISON], headers)
    await until(lambda: database.system_fail.count_documents({}) == 1, 5)
    (before,) = database.system_fail.find()
    for attempt in (2, 3):
        await command.done("redrive", "system")
        await until(lambda attempt=attempt: database.system_fail.count_documents({"attempt": attempt}) == 1, 5)  # type: ignore[misc]
        (after,) = database.system_fail.find()
        assert [after[name] for name in ("_id", "body", "reason")] == [before["_id"], POISON, "malformed"]
        assert after["published_at"] == before["published_at"]
        assert after["failed_at"] > before["failed_at"]
        names = dict(after["headers"])
        assert set(names) == {"Nats-Msg-Id", "Transfer-Attempt", "Transfer-Content-Id", "Transfer-Content-Time", "X"}
        assert names["Transfer-Attempt"] == str(attempt)
    await emptied(go)


async def test_killed_half_way_and_run_again_it_stores_each_entry_once(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], command: Command
) -> None:
    start_replica()
    await refused(database, go, 2000)
    slow = {"failCommands": ["delete"], "blockConnection": True, "blockTimeMS": 50, "appName": "collector"}
    admin = database.client.admin
    admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": slow})
    try:
        process = command.start("redrive", "system")
        await until(lambda: database.system_fail.count_documents({}) < 1500, 10)
        process.send_signal(signal.SIGKILL)
        await to_thread.run_sync(process.communicate)
    finally:
        admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    assert 0 < database.system_fail.count_documents({}) < 1500
    await command.done("redrive", "system")
    await until(lambda: database.system_logs.count_documents({}) == 2000, 20)
    assert numbers(database) == Counter(range(2000))
    assert database.system_fail.count_documents({}) == 0
    await emptied(go)


async def test_two_at_the_same_time_store_each_entry_once(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], command: Command
) -> None:
    start_replica()
    await refused(database, go, 1000)
    async with create_task_group() as group:
        for _ in range(2):
            group.start_soon(command.done, "redrive", "system")
    await until(lambda: database.system_logs.count_documents({}) == 1000, 20)
    assert numbers(database) == Counter(range(1000))
    assert database.system_fail.count_documents({}) == 0


async def test_an_entry_of_a_bundle_comes_back_alone_and_a_gzip_body_as_it_was(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], command: Command
) -> None:
    start_replica()
    database.create_collection("system_logs", validator={"number": {"$lt": 2}})
    await go.declare("system")
    bundle = gzip.compress(b"\x93" + b"".join(entry(number) for number in range(3)))
    await go.publish("system", [bundle], {"Content-Type": BUNDLE, "Content-Encoding": "gzip", "X": "1"})
    await go.publish("system", [gzip.compress(entry(3))], {"Content-Encoding": "gzip"})
    await until(lambda: database.system_fail.count_documents({}) == 2, 5)
    database.command("collMod", "system_logs", validator={})
    await command.done("redrive", "system")
    await until(lambda: database.system_logs.count_documents({}) == 4, 5)
    assert numbers(database) == Counter(range(4))
    assert database.system_fail.count_documents({}) == 0


async def test_headers_that_are_no_text_and_a_body_in_a_file_go_and_come_back_unchanged(
    start_replica: Callable[..., Replica],
    own_nats: Callable[..., NatsServer],
    namespace: str,
    mongod: Mongod,
    database: Database[dict[str, Any]],
) -> None:
    nats = own_nats("max_payload: 16MB")
    raw = b"NATS/1.0\r\nA: \xff\xfe\r\n" + "Ü: ü\r\n".encode() + b"\xff: b\r\nalone\r\nNats-TTL: 1s\r\nA: 2\r\n\r\n"
    small, large = reject(raw_headers=raw), reject(b"\xc1" + os.urandom(9 * MIB), raw)
    async with ancestor(nats.url, namespace) as go:
        await go.jetstream.create_key_value(bucket=f"{namespace}_logs")
        await go.declare("system")
        await keep(mongod, namespace, small, large)
        command = Command(namespace, mongod, nats.url)
        assert await command.done("redrive", "system") == {"redriven": 2, "left": []}
        for collection in ("system_fail", "system_fail.files", "system_fail.chunks"):
            assert database[collection].count_documents({}) == 0
        start_replica(nats)
        await until(lambda: database.system_fail.count_documents({"attempt": 2}) == 2, 10)
        fields = [["A", b"\xff\xfe"], ["Ü", "ü"], [b"\xff", "b"], ["alone", ""], ["A", "2"]]
        for one in (small, large):
            letter = database.system_fail.find_one({"_id": one.identity})
            assert letter is not None
            assert letter["headers"][4:] == fields
        assert await command.raw("show", "system", str(large.identity), "--raw") == (0, large.body, b"")
        assert database["system_fail.files"].count_documents({}) == 1


async def test_what_the_server_does_not_take_is_left_and_said(
    go: Ancestor, mongod: Mongod, namespace: str, database: Database[dict[str, Any]], command: Command
) -> None:
    await go.make_stream("system")
    large, fine = reject(b"x" * (8 * 1000 * 1000 - 100)), reject(b"x")
    await keep(mongod, namespace, large, fine)
    await go.jetstream.update_stream(
        name=f"{namespace}:logs:system", subjects=[f"{namespace}.logs.system"], retention="workqueue", max_msg_size=1000
    )
    status, out, err = await command.run("redrive", "system", "--json")
    assert status == 1
    assert json.loads(out)["redriven"] == 1
    assert str(large.identity) in err
    assert [found["_id"] for found in database.system_fail.find()] == [large.identity]
