"""The drill of docs/archive.md: entries are archived, their collection is dropped, a replay brings each back once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from anyio import create_task_group, to_thread

from collector.archive.compression import Compression, Packing
from collector.archive.decoders import AsItCame
from collector.archive.formats.ndjson import Ndjson
from collector.archive.formats.parquet import Parquet
from collector.archive.formats.raw import Raw
from collector.archive.keys import by_path
from collector.decoding.identity import Incarnation
from collector.model import Delivery
from tests.support.ancestor import Ancestor, ancestor, entry, text
from tests.support.archive_roots import ArchiveMaker
from tests.support.waiting import until, until_empty
from transfer.entries.entry import encode_entry
from transfer.wire import BUNDLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymongo.database import Database

    from collector.archive.formats import Format
    from collector.local import NatsServer, Replica

pytestmark = pytest.mark.timeout(300)

TIMESERIES = text("collection") + b"\x81" + text("kind") + text("timeseries")
PLAIN = b"\x82" + text("key") + text("audit") + text("description") + text("")
SECOND = 1_700_000_000_000_000_000
MANY = 400


async def publish_all_kinds(go: Ancestor, key: str) -> None:
    """Publish lone entries in msgpack and JSON, with and without an id, a time and metadata, and bundles of them."""
    await go.publish(key, map(entry, range(MANY)))
    await go.publish(key, [b'{"data": {"number": 1000, "big": 1e30, "deep": {"a": [1, null, "x"]}}}'])
    await go.publish(key, [b'{"data": {"number": 1001}, "metadata": {"host": "a"}, "id": "0123456789abcdef01234567"}'])
    await go.publish(key, [b'{"data": {"number": 1002}, "timestamp": "2024-01-02T03:04:05.678901Z"}'])
    some = [
        encode_entry({"number": 2000 + n}, SECOND + n * 1_234_567, {"host": "b"}, bytes([n] * 12)) for n in range(9)
    ]
    lone = [entry(3000 + n) for n in range(5)]
    bundle = msgspec.msgpack.encode([msgspec.Raw(body) for body in [*some, *lone]])
    await go.publish(key, [bundle], {"Content-Type": BUNDLE})


async def archive_stream(go: Ancestor, stream: str, maker: Callable[[Incarnation], ArchiveMaker]) -> None:
    """Archive all that a stream has, as cuts of 150 messages."""
    info = json.loads((await go.connection.request(f"$JS.API.STREAM.INFO.{stream}")).data)
    made = maker(Incarnation(stream, info["created"]))
    messages: list[Delivery] = []
    for sequence in range(1, info["state"]["last_seq"] + 1):
        asked = json.dumps({"seq": sequence}).encode()
        found = json.loads((await go.connection.request(f"$JS.API.STREAM.MSG.GET.{stream}", asked)).data)["message"]
        moment = msgspec.convert(found["time"][:19] + "Z", type=datetime)
        nanoseconds = int(moment.timestamp()) * 10**9 + int(found["time"][20:-1].ljust(9, "0"))
        body, raw = (msgspec.convert(found.get(name, ""), type=bytes) for name in ("data", "hdrs"))
        messages.append(Delivery(found["subject"], "", body, raw, stream, sequence, 1, nanoseconds))
    for start in range(0, len(messages), 150):
        made.add(messages[start : start + 150])


async def archive_all_kinds(go: Ancestor, stream: str, root: Path, form: Format) -> None:
    """Publish to the logger `audit`, of which no replica knows yet, and archive what its stream has."""
    await go.make_stream("audit")
    await publish_all_kinds(go, "audit")
    is_raw = isinstance(form, Raw)
    options: dict[str, Any] = {"decoder": AsItCame()} if is_raw else {"key": by_path("metadata.host")}
    making = {"format": "raw"} if is_raw else {}
    await archive_stream(
        go, stream, lambda one: ArchiveMaker(root=root, form=form, incarnation=one, making=making, **options)
    )


def documents(database: Database[dict[str, Any]], key: str) -> dict[str, Any]:
    found = list(database[f"{key}_logs"].find({}))
    by_id = {str(one["_id"]): one for one in found}
    assert len(by_id) == len(found), "an entry is stored twice"
    return by_id


def end(replica: Replica) -> None:
    replica.terminate()
    replica.wait()


class Command:
    """`collector archive replay` as a process."""

    def __init__(self, root: Path, nats: NatsServer, namespace: str, folder: Path) -> None:
        self.cursor = folder / "replay.cursor"
        self._arguments = [sys.executable, "-m", "collector", "archive", "replay", str(root), "--capture", "orders"]
        self._arguments += ["--cursor", str(self.cursor), "--json"]
        self._environ = {**os.environ, "NATS_HOSTS": nats.url, "NAMESPACE": namespace}

    async def run(self, *options: str) -> tuple[int, dict[str, Any]]:
        arguments = [*self._arguments, *options]

        def work() -> tuple[int, str, str]:
            ended = subprocess.run(
                arguments, capture_output=True, text=True, env=self._environ, timeout=120, check=False
            )
            return ended.returncode, ended.stdout, ended.stderr

        status, said, errors = await to_thread.run_sync(work)
        assert said, errors
        return status, json.loads(said)

    async def interrupt(self, how: signal.Signals, *options: str) -> str:
        """Begin a slow replay, and send it a signal when its cursor has moved."""
        with subprocess.Popen(  # noqa: ASYNC220 - it is killed below
            [*self._arguments, *options, "--rate", "50"], stdout=subprocess.PIPE, env=self._environ, text=True
        ) as process:
            try:
                await until(lambda: self.cursor.exists() or process.poll() is not None, 30)
                process.send_signal(how)
                said, _ = await to_thread.run_sync(process.communicate)
            finally:
                process.kill()
        return str(said)


@pytest.mark.parametrize(
    ("kind", "how", "form"),
    [
        ("plain", signal.SIGKILL, Parquet),
        ("timeseries", signal.SIGINT, lambda: Ndjson(Packing(Compression.ZSTD))),
        ("timeseries", signal.SIGKILL, lambda: Raw(Packing(Compression.NONE))),
    ],
    ids=["plain-parquet", "timeseries-ndjson", "timeseries-raw"],
)
async def test_a_dropped_collection_comes_back_entry_for_entry_by_a_replay_that_is_interrupted(
    start_replica: Callable[..., Replica],
    go: Ancestor,
    database: Database[dict[str, Any]],
    namespace: str,
    nats_server: NatsServer,
    tmp_path: Path,
    kind: str,
    how: signal.Signals,
    form: Callable[[], Format],
) -> None:
    stream, root = f"{namespace}:logs:audit", tmp_path / "root"
    replica = start_replica()
    await go.declare("other")  # the bucket is there then
    end(replica)
    await archive_all_kinds(go, stream, root, form())
    await go.put("audit", PLAIN if kind == "plain" else b"\x83" + PLAIN[1:] + TIMESERIES)
    replica = start_replica()
    await until_empty(go.jetstream, stream, 30)
    before = documents(database, "audit")
    assert ("timeseries" in database["audit_logs"].options()) == (kind == "timeseries")
    assert len(before) == MANY + 3 + 14
    command = Command(root, nats_server, namespace, tmp_path)
    status, done = await command.run("--to-logger", "audit")  # where the entries still are
    assert (status, done["known_messages"]) == (0, 0)
    await until_empty(go.jetstream, stream, 30)
    assert documents(database, "audit") == before

    end(replica)
    database["audit_logs"].drop()
    said = await command.interrupt(how, "--to-logger", "audit")
    assert how is not signal.SIGINT or json.loads(said)["done"].startswith("stopped")
    assert (await go.jetstream.stream_info(stream)).state.messages > 0
    status, done = await command.run("--to-logger", "audit")
    assert (status, command.cursor.exists(), done["left"]["no_entries"]) == (0, False, 0)
    assert done["entries_before"] > 0
    start_replica()
    await until_empty(go.jetstream, stream, 30)
    assert documents(database, "audit") == before
    assert database["audit_fail"].count_documents({}) == 0


async def raw_archive(server: NatsServer, root: Path) -> list[tuple[str, bytes, dict[str, str]]]:
    """Archive a stream of raw messages, make another one that takes 50, and return the messages."""
    expected: list[tuple[str, bytes, dict[str, str]]] = []
    async with ancestor(server.url, "x") as go:
        await go.jetstream.add_stream(name="ORDERS", subjects=["shop.>"])
        for number in range(120):
            headers = {"X-Number": str(number), "Nats-Msg-Id": f"{number}"} if number % 2 else {}
            sent = f"shop.{number % 3}", b"%d\xff" % number
            await go.jetstream.publish(*sent, headers=headers or None)
            headers.pop("Nats-Msg-Id", None)
            expected.append((*sent, headers))
        making = {"format": "raw", "text": "true"}
        await archive_stream(
            go,
            "ORDERS",
            lambda one: ArchiveMaker(
                root=root,
                form=Raw(Packing(Compression.ZSTD), text=True),
                decoder=AsItCame(),
                key=lambda row: row.message.subject,
                incarnation=one,
                making=making,
            ),
        )
        await go.jetstream.add_stream(
            name="AGAIN", subjects=["again.>"], retention="workqueue", max_msgs=50, discard="new"
        )
    return expected


async def test_raw_messages_come_back_as_they_were_through_a_full_stream_and_a_lost_server(
    own_nats: Callable[..., NatsServer], tmp_path: Path
) -> None:
    """The stream takes 50 messages; a reader makes room, and the server is killed meanwhile."""
    server = own_nats()
    expected = await raw_archive(server, tmp_path / "root")
    command = Command(tmp_path / "root", server, "x", tmp_path)
    found: list[tuple[str, bytes, dict[str, str]]] = []

    async def read() -> None:
        while len(found) < len(expected):
            async with ancestor(server.url, "x") as go:
                puller = await go.jetstream.pull_subscribe("", "reader", stream="AGAIN")
                for message in await puller.fetch(20, timeout=20):
                    headers = {k: v for k, v in (message.headers or {}).items() if not k.startswith("Nats-")}
                    found.append((message.subject.removeprefix("again."), message.data, headers))
                    await message.ack_sync()
            if len(found) == 40:
                server.kill()
                server.start()

    status: list[int] = []

    async def replay() -> None:
        status.append((await command.run("--to-stream", "AGAIN", "--subject-prefix", "again."))[0])

    async with create_task_group() as group:
        group.start_soon(replay)
        group.start_soon(read)
    assert status == [0]
    assert sorted(found, key=str) == sorted(expected, key=str)
