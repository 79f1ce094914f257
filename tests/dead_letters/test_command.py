"""`collector dead-letters` on real servers: what it shows, and that it loses and doubles nothing however it is run."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from anyio import Event, create_task_group, fail_after, to_thread
from bson import ObjectId

from collector.dead_letters.letters import DeadLetterReader, Filter
from collector.dead_letters.redrive import Redriven, message_of, redrive
from collector.dead_letters.store import DeadLetterStore
from collector.decoding.codec import Codec
from collector.decoding.identity import Incarnation
from collector.errors import SinkUnavailable
from collector.jetstream.publisher import publishing
from collector.model import Delivery, Reason, Rejected
from collector.mongodb.calls import open_mongo
from tests.support.ancestor import MESSAGE, Ancestor, ancestor, entry, text
from tests.support.waiting import until
from transfer.wire import BUNDLE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from pymongo.asynchronous.database import AsyncDatabase
    from pymongo.database import Database

    from collector.jetstream.publisher import RawPublisher
    from collector.local import Mongod, NatsServer, Replica

MIB = 1024 * 1024
FAILED_AT = 1_800_000_000.25
SECRET = "planted-4f1d"
POISON = b"\xc1" + SECRET.encode()
_NO_NATS = "nats://127.0.0.1:1"


class Command:
    """`collector dead-letters`, with the settings of a namespace and none of the environment's."""

    def __init__(self, namespace: str, mongod: Mongod, hosts: str) -> None:
        ours = ("COLLECTOR_", "NATS_", "DATABASE", "NAMESPACE", "MODE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.environment = {**inherited, "NAMESPACE": namespace, "DATABASE": mongod.url, "NATS_HOSTS": hosts}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "collector", "dead-letters", *arguments]
        return subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Return exit status, standard output and standard error."""
        status, out, err = await self.raw(*arguments)
        return status, out.decode(), err.decode()

    async def raw(self, *arguments: str) -> tuple[int, bytes, bytes]:
        process = self.start(*arguments)
        out, err = await to_thread.run_sync(process.communicate)
        return process.returncode, out, err

    async def done(self, *arguments: str) -> Any:
        """Return what it answers in JSON; it must have no complaints."""
        status, out, err = await self.run(*arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def command(namespace: str, mongod: Mongod, nats_server: NatsServer) -> Command:
    return Command(namespace, mongod, nats_server.url)


@pytest.fixture
def offline(namespace: str, mongod: Mongod) -> Command:
    """Give the command where no NATS answers."""
    return Command(namespace, mongod, _NO_NATS)


def reject(body: bytes = POISON, raw_headers: bytes = b"", sequence: int = 42, **changes: Any) -> Rejected:
    of = Delivery(
        "beta.logs.system", "reply", body, raw_headers, "beta:logs:system", sequence, 3, 1_700_000_000 * 10**9
    )
    values = {
        "position": None,
        "identity": ObjectId(),
        "reason": Reason.MALFORMED,
        "error": f"expected this, got {SECRET}",
        "body": body,
    }
    return Rejected(of, **values | changes)


async def keep(mongod: Mongod, namespace: str, *rejects: Rejected, failed_at: float = FAILED_AT) -> None:
    """Store letters as the collector does."""
    async with open_mongo(mongod.url) as client:
        await DeadLetterStore(client[namespace], "system_fail", 5.0, lambda: failed_at).store(rejects)


def numbers(database: Database[dict[str, Any]]) -> Counter[int]:
    """How often each entry is stored."""
    return Counter(found["number"] for found in database.system_logs.find({}, {"number": 1}))


async def refused(database: Database[dict[str, Any]], go: Ancestor, count: int) -> None:
    """Have entries refused by a validator, which is taken away when they are dead letters."""
    database.create_collection("system_logs", validator={"never": True})
    await go.declare("system")
    await go.publish("system", (entry(number) for number in range(count)))
    await until(lambda: database.system_fail.count_documents({}) == count, 20)
    database.command("collMod", "system_logs", validator={})


async def emptied(go: Ancestor) -> None:
    """Wait until nothing is left in the stream."""
    with fail_after(30):
        while (  # noqa: ASYNC110 - nobody in this process could set an event
            await go.jetstream.stream_info(f"{go.namespace}:logs:system")
        ).state.messages:
            await anyio.sleep(0.01)


# --- list, show, purge


async def test_list_shows_every_letter_and_nothing_that_was_in_it(
    mongod: Mongod, namespace: str, offline: Command
) -> None:
    headers = f"NATS/1.0\r\nX-{SECRET}: {SECRET}\r\n\r\n".encode()
    first, second = reject(raw_headers=headers), reject(b"x" * 9 * MIB, position=7, reason=Reason.RULE, sequence=43)
    await keep(mongod, namespace, second, failed_at=FAILED_AT + 1)
    await keep(mongod, namespace, first)
    status, out, err = await offline.run("list", "system")
    assert (status, err) == (0, "")
    assert [line.split() for line in out.splitlines()[1:]] == [
        [str(first.identity), "2027-01-15T08:00:00.250Z", "malformed", str(len(POISON)), "1", "42"],
        [str(second.identity), "2027-01-15T08:00:01.250Z", "rule", "in", "a", "file", "1", "43", "7"],
    ]
    status, machine, err = await offline.run("list", "system", "--json")
    assert [json.loads(line)["id"] for line in machine.splitlines()] == [str(first.identity), str(second.identity)]
    assert json.loads(machine.splitlines()[0]) == {
        "id": str(first.identity),
        "failed_at": "2027-01-15T08:00:00.250000+00:00",
        "published_at": "2023-11-14T22:13:20+00:00",
        "reason": "malformed",
        "subject": "beta.logs.system",
        "stream": "beta:logs:system",
        "sequence": 42,
        "entry": None,
        "deliveries": 3,
        "attempt": 1,
        "size": len(POISON),
    }
    assert SECRET not in out + machine + err


async def test_every_filter_means_the_same_letters_for_every_command(
    mongod: Mongod, namespace: str, offline: Command, database: Database[dict[str, Any]]
) -> None:
    now = datetime.now(UTC).timestamp()
    old, recent, rule = reject(), reject(), reject(reason=Reason.RULE)
    for one, failed_at in ((old, FAILED_AT - 10**9), (recent, now - 600), (rule, now - 1200)):
        await keep(mongod, namespace, one, failed_at=failed_at)
    cases: dict[tuple[str, ...], list[Rejected]] = {
        (): [old, rule, recent],
        ("--reason", "rule"): [rule],
        ("--reason", "rule", "--reason", "malformed", "--since", "15m"): [recent],
        ("--since", "1h", "--until", "15m"): [rule],
        ("--until", "2020-01-31T12:00:00Z"): [old],
        ("--limit", "2"): [old, rule],
        ("--id", str(recent.identity), "--id", str(old.identity)): [old, recent],
        ("--reason", "exhausted"): [],
    }
    for options, expected in cases.items():
        status, out, _ = await offline.run("list", "system", "--json", *options)
        assert [json.loads(line)["id"] for line in out.splitlines()] == [str(one.identity) for one in expected], options
        assert status == 0
    assert await offline.done("redrive", "system", "--dry-run", "--since", "1h") == {"would_redrive": 2}
    assert await offline.done("purge", "system", "--dry-run", "--limit", "2") == {"would_purge": 2}
    assert database.system_fail.count_documents({}) == 3
    assert await offline.done("purge", "system", "--yes", "--reason", "rule") == {"purged": 1}
    assert {found["_id"] for found in database.system_fail.find()} == {old.identity, recent.identity}


ENTRY = {"data": {"msg": "hello\x1b[2J", "n": 5}, "metadata": None}
PACKED = msgspec.msgpack.encode(ENTRY)
JSON = msgspec.json.encode(ENTRY)


@pytest.mark.parametrize(
    ("body", "header", "kind", "content"),
    [
        (PACKED, "", "msgpack", "{'data': {'msg': 'hello\\x1b[2J', 'n': 5}, 'metadata': None}"),
        (JSON, "", "JSON", "{'data': {'msg': 'hello\\x1b[2J', 'n': 5}, 'metadata': None}"),
        (gzip.compress(PACKED), "Content-Encoding: gzip", f"msgpack, {len(PACKED)} bytes inflated", "'n': 5"),
        (b"\x91" + PACKED, f"Content-Type: {BUNDLE}", "bundle", "[{'data': {'msg'"),
        ("plain tëxt\x1b[2J".encode(), "", "text", "plain tëxt\\x1b[2J"),
        (b"\xc1\xff\x00", "", "bytes", "c1 ff 00"),
        (b"\xc1" + b"x" * 9 * MIB, "", "bytes", "c1 78 78"),
    ],
    ids=["msgpack", "json", "gzip", "bundle", "text", "bytes", "file"],
)
async def test_show_prints_one_letter_readably_and_raw_its_very_bytes(
    body: bytes, header: str, kind: str, content: str, mongod: Mongod, namespace: str, offline: Command
) -> None:
    one = reject(body, f"NATS/1.0\r\n{header}\r\nX: \x1b[2J\r\n\r\n".encode(), error="expected\x1b[2J this")
    await keep(mongod, namespace, one)
    status, out, err = await offline.run("show", "system", str(one.identity))
    assert (status, err) == (0, "")
    about, _, shown = out.partition("\n\n")
    assert about.splitlines()[-1] == f"body:         {kind}"
    for line in (f"size:         {len(body)}", "reason:       malformed", "error:        expected\\x1b[2J this"):
        assert line in about.splitlines()
    assert content in shown
    assert "\x1b" not in out
    assert await offline.raw("show", "system", str(one.identity), "--raw") == (0, body, b"")
    status, out, err = await offline.run("show", "system", str(one.identity), "--json")
    said = json.loads(out)
    assert (status, err, said["kind"], said["size"], said["reason"]) == (0, "", kind, len(body), "malformed")
    assert base64.b64decode(said["body"]) == body
    assert content in said["text"]
    assert said["headers"][-1] == ["X", "\x1b[2J"]


async def test_show_is_asked_for_one_form(offline: Command) -> None:
    status, _, err = await offline.run("show", "system", "0" * 24, "--json", "--raw")
    assert status == 2
    assert "--raw or --json" in err


async def test_purge_removes_a_letter_with_its_file_and_asks_first(
    mongod: Mongod, namespace: str, offline: Command, database: Database[dict[str, Any]]
) -> None:
    await keep(mongod, namespace, *(reject() for _ in range(250)), reject(b"x" * 9 * MIB))
    status, out, err = await offline.run("purge", "system")
    assert (status, out) == (2, "")
    assert "--yes" in err
    assert database.system_fail.count_documents({}) == 251
    assert await offline.done("purge", "system", "--yes") == {"purged": 251}
    for collection in ("system_fail", "system_fail.files", "system_fail.chunks"):
        assert database[collection].count_documents({}) == 0
    assert await offline.run("list", "system") == (0, "", "no dead letters of system\n")


async def test_a_logger_that_stored_nothing_is_said_and_one_without_letters_is_not_wrong(
    offline: Command, database: Database[dict[str, Any]]
) -> None:
    for arguments in (("list",), ("redrive", "--dry-run"), ("purge", "--yes")):
        status, out, err = await offline.run(arguments[0], "system", *arguments[1:])
        assert (status, out) == (1, "")
        assert "neither system_fail nor system_logs" in err
    database.create_collection("system_logs")
    assert await offline.run("list", "system", "--json") == (0, "", "no dead letters of system\n")
    assert await offline.done("purge", "system", "--yes") == {"purged": 0}
    assert (await offline.run("show", "system", str(ObjectId())))[0] == 1


async def test_wrong_settings_and_wrong_use_are_said_with_exit_status_2(offline: Command) -> None:
    offline.environment |= {"NAMESPACE": "", "NATS_HOSTS": "", "DATABASE": f"postgres://user:{SECRET}@db"}
    status, _, err = await offline.run("redrive", "system")
    assert status == 2
    assert [line.partition(":")[0] for line in err.splitlines()] == ["NAMESPACE", "NATS_HOSTS", "DATABASE"]
    status, _, listed = await offline.run("list", "system")
    assert status == 2
    assert [line.partition(":")[0] for line in listed.splitlines()] == ["NAMESPACE", "DATABASE"]
    assert SECRET not in err + listed
    for wrong in (
        ("no key!",),
        ("system", "--reason", "bad"),
        ("system", "--since", "2020-01-01"),
        ("system", "--id", "1"),
    ):
        assert (await offline.run("list", *wrong))[0] == 2


async def test_nats_that_does_not_answer_leaves_every_letter(
    mongod: Mongod, namespace: str, offline: Command, database: Database[dict[str, Any]]
) -> None:
    await keep(mongod, namespace, reject())
    status, _, err = await offline.run("redrive", "system")
    assert status == 1
    assert "does not answer" in err
    assert database.system_fail.count_documents({}) == 1


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


# --- every order in which two redrives and a collector may take their steps


class Scene:
    """One logger with one letter of a message that stays poison."""

    def __init__(self, key: str, go: Ancestor, database: AsyncDatabase[dict[str, Any]]) -> None:
        self.go, self.key, self.collection = go, key, database[f"{key}_fail"]
        self.name, self.subject = f"{go.namespace}:logs:{key}", f"{go.namespace}.logs.{key}"
        self.letters = DeadLetterReader(database, self.collection.name)
        self.storing = _Halting(database, self.collection.name)
        self.body = POISON

    async def open(self) -> None:
        await self.go.make_stream(self.key)
        self.subscription = await self.go.jetstream.pull_subscribe(self.subject, durable=self.name, stream=self.name)
        self.codec = Codec(Incarnation(self.name, "now"))
        await self.go.publish(self.key, [self.body])
        self.storing.gate.set()
        await self.judge()

    async def judge(self) -> bool:
        """Do with the next message what a collector does; say whether there was one."""
        if (await self.go.jetstream.stream_info(self.name)).state.messages == 0:
            return False
        (message,) = await self.subscription.fetch(1, timeout=2)
        fields = b"".join(f"{name}: {value}\r\n".encode() for name, value in (message.headers or {}).items())
        raw = b"NATS/1.0\r\n" + fields + b"\r\n" if fields else b""
        sequence = message.metadata.sequence.stream
        rejects = self.codec.decode(
            Delivery(self.subject, message.reply, message.data, raw, self.name, sequence, 1, 1_700_000_000 * 10**9)
        ).rejects
        while True:
            try:
                await self.storing.store(rejects)
            except SinkUnavailable:
                continue
            break
        await message.ack_sync()
        return True

    async def settled(self) -> list[dict[str, Any]]:
        """Return the letters when nothing is left in the stream."""
        self.storing.gate.set()
        while await self.judge():
            pass
        return await self.collection.find().to_list()


class _Halting(DeadLetterStore):
    """Waits at a gate where a letter was found to be there already."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], collection: str) -> None:
        super().__init__(database, collection, 5.0, lambda: datetime.now(UTC).timestamp())
        self.gate, self.halted = Event(), Event()

    async def _renew(self, letters: list[dict[str, Any]]) -> None:
        self.halted.set()
        await self.gate.wait()
        await super()._renew(letters)


async def redriving(scene: Scene, publisher: RawPublisher, marks: bytes) -> AsyncGenerator[None]:
    """Take the three steps of a redrive; with `marks` of its own its message is no duplicate to JetStream."""
    found = await scene.letters.read([letter.id async for group in scene.letters.find(Filter()) for letter in group])
    yield
    for letter in found:
        message = message_of(letter, scene.body)
        await publisher.publish(message.headers.replace(b"Nats-Msg-Id: ", b"Nats-Msg-Id: " + marks), message.body)
    yield
    await scene.letters.remove([letter.summary for letter in found])
    yield


def orders() -> list[str]:
    """Each order of A's and B's reading, publishing and removing, and of C's finding a letter and replacing it.

    A is the first to publish; C has nothing to do before.
    """
    every = sorted({"".join(order) for order in itertools.permutations("AAABBBCC")})
    return [order for order in every if _second(order, "A") < min(order.index("C"), _second(order, "B"))]


def _second(order: str, who: str) -> int:
    return order.index(who, order.index(who) + 1)


@pytest.mark.parametrize("window", ["within the duplicate window", "after it"])
async def test_no_order_of_two_redrives_and_a_collector_loses_or_doubles_a_letter(
    window: str, go: Ancestor, mongod: Mongod, namespace: str
) -> None:
    marks = (b"", b"") if window.startswith("within") else (b"a-", b"b-")
    with fail_after(50):
        async with open_mongo(mongod.url) as client:
            for number, order in enumerate(orders()):
                scene = Scene(f"{number}-{order}", go, client[namespace])
                await scene.open()
                (before,) = await scene.collection.find().to_list()
                await play(order, scene, marks)
                (after,) = await scene.settled()
                assert (after["_id"], after["body"]) == (before["_id"], POISON), order
                await go.jetstream.delete_stream(scene.name)


async def play(order: str, scene: Scene, marks: tuple[bytes, bytes]) -> None:
    """Take the steps in this order."""
    scene.storing.gate, scene.storing.halted = Event(), Event()
    ended = Event()

    async def judge() -> None:
        await scene.judge()
        ended.set()

    async with publishing(scene.go.connection, scene.subject, scene.name) as publisher, create_task_group() as group:
        steps = {who: redriving(scene, publisher, mark) for who, mark in zip("AB", marks, strict=True)}
        seen: Counter[str] = Counter()
        for who in order:
            seen[who] += 1
            if who != "C":
                await anext(steps[who])
            elif seen[who] == 1:
                group.start_soon(judge)
                await either(scene.storing.halted, ended)
            else:
                scene.storing.gate.set()
                await ended.wait()
        for one in steps.values():
            await one.aclose()


async def either(first: Event, second: Event) -> None:
    async with create_task_group() as group:

        async def wait(event: Event) -> None:
            await event.wait()
            group.cancel_scope.cancel()

        group.start_soon(wait, first)
        group.start_soon(wait, second)


async def test_a_body_in_a_file_is_not_lost_when_it_comes_back_before_the_letter_is_removed(
    go: Ancestor, mongod: Mongod, namespace: str
) -> None:
    first = reject(b"\xc1" + b"x" * 9 * MIB)
    again = reject(first.body, b"NATS/1.0\r\nTransfer-Attempt: 2\r\n\r\n", identity=first.identity, sequence=43)
    async with open_mongo(mongod.url) as client:
        letters, database = DeadLetterReader(client[namespace], "system_fail"), client[namespace]
        storing = _Halting(database, "system_fail")
        storing.gate.set()
        for removed_first in (True, False):
            await database.system_fail.delete_many({})
            await storing.store([first])
            (read,) = await letters.read([first.identity])
            if removed_first:
                assert await letters.remove([read.summary]) == 1
            await storing.store([again])
            if not removed_first:
                assert await letters.remove([read.summary]) == 0
            (kept,) = await letters.read([first.identity])
            assert (kept.body, kept.summary.attempt) == (first.body, 2)
            assert await database["system_fail.files"].count_documents({}) == 1


async def test_a_letter_makes_way_only_for_one_of_a_later_attempt(mongod: Mongod, namespace: str) -> None:
    """A message that is delivered twice must not keep its letter from being removed, nor bring back an older one."""
    identity = ObjectId()

    def of_attempt(number: int) -> Rejected:
        body, headers = b"%d" % number, b"NATS/1.0\r\nTransfer-Attempt: %d\r\n\r\n" % number
        return reject(body, headers, identity=identity)

    async with open_mongo(mongod.url) as client:
        letters = DeadLetterReader(client[namespace], "system_fail")
        for stored, expected in ((1, b"1"), (3, b"3"), (2, b"3"), (1, b"3"), (3, b"3")):
            await keep(mongod, namespace, of_attempt(stored), failed_at=FAILED_AT + stored)
            (kept,) = await letters.read([identity])
            assert kept.body == expected
        (kept,) = await letters.read([identity])
        await keep(mongod, namespace, of_attempt(3), failed_at=FAILED_AT + 100)
        assert await letters.remove([kept.summary]) == 1


async def test_a_letter_that_somebody_has_removed_meanwhile_is_passed_over(
    go: Ancestor, mongod: Mongod, namespace: str
) -> None:
    await keep(mongod, namespace, reject())
    await go.make_stream("system")
    async with open_mongo(mongod.url) as client:
        letters, result = DeadLetterReader(client[namespace], "system_fail"), Redriven()
        (group,) = [group async for group in letters.find(Filter())]
        assert await letters.remove(group) == 1
        async with publishing(go.connection, f"{namespace}.logs.system", f"{namespace}:logs:system") as publisher:
            await redrive(letters, group, publisher, result)
        assert result == Redriven()
        await emptied(go)


async def test_letters_are_left_when_nobody_takes_their_subject(
    mongod: Mongod, namespace: str, database: Database[dict[str, Any]], command: Command
) -> None:
    await keep(mongod, namespace, reject())
    status, out, err = await command.run("redrive", "system")
    assert (status, out) == (1, "redriven: 0, left: 0\n")
    assert f"nobody takes {namespace}.logs.system" in err
    assert database.system_fail.count_documents({}) == 1
