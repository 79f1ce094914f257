"""Every field of the configuration of durables and streams that nats-server has, before and while a replica runs.

For each: what was confirmed is stored once, or the logger says which field is wrong, and goes on when that is mended.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import CapacityLimiter, create_task_group, to_thread
from pymongo import MongoClient

from collector.local import NatsServer, Replica
from tests.support.ancestor import Ancestor, ancestor, entry, text
from tests.support.fields import (
    CASES,
    DURABLE_FIELDS,
    DURABLE_ROWS,
    NOT_ON_A_WORK_QUEUE,
    STREAM_FIELDS,
    STREAM_ROWS,
    Fields,
    Row,
)
from tests.support.waiting import count, numbers, until_empty
from transfer.jetstream.streams import ensure_bucket
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.database import Database

    from collector.local import Mongod

pytestmark = pytest.mark.timeout(600)  # all rows are played in the set-up of the first test: half a minute alone
NAMESPACE = "fields"


AT_ONCE = 16
POLL = 0.1


@dataclass
class Outcome:
    """What came of a row."""

    stored: Counter[int] = field(default_factory=Counter)
    why: str = ""
    dead_letters: int = 0
    received: float = 0
    brought_back: float = 0
    restarts: int = 0
    ended: str = ""
    failed: str = ""
    fields: dict[str, set[str]] = field(default_factory=dict)


class Scene:
    """A replica, and somebody who sets fields."""

    def __init__(self, go: Ancestor, replica: Replica, database: Database[dict[str, Any]]) -> None:
        self.go, self.replica, self.database = go, replica, database
        self.loggers: dict[str, Fields] = {}
        """What the replica said of all loggers a moment ago."""

    async def watch(self) -> None:
        while True:
            self.loggers = (await to_thread.run_sync(lambda: self.replica.status))["loggers"]
            await anyio.sleep(POLL)

    def state(self, key: str) -> str:
        return str(self.loggers.get(key, {}).get("state"))

    def why(self, key: str) -> str:
        return str(self.loggers.get(key, {}).get("why", ""))

    async def stored(self, key: str) -> int:
        return await to_thread.run_sync(count, self.database, key)

    async def request(self, what: str, body: object = None) -> Fields:
        payload = b"" if body is None else json.dumps(body).encode()
        reply = await self.go.connection.request(f"$JS.API.{what}", payload, timeout=10)
        answered: Fields = json.loads(reply.data)
        assert "error" not in answered, (what, answered["error"])
        return answered

    async def said(self) -> dict[str, set[str]]:
        """Return the fields that the server says of streams and durables."""
        streams = (await self.request("STREAM.LIST", {"subject": f"{NAMESPACE}.logs.>"}))["streams"]
        names = [info["config"]["name"] for info in streams]
        durables = [await self.request(f"CONSUMER.INFO.{name}.{name}") for name in names]
        said = {"stream": streams, "durable": durables}
        return {of: {name for info in infos for name in info["config"]} for of, infos in said.items()}

    async def make_stream(self, key: str, fields: Fields) -> None:
        name = f"{NAMESPACE}:logs:{key}"
        plain = {"name": name, "subjects": [f"{NAMESPACE}.logs.{key}"], "retention": "workqueue"}
        await self.request(f"STREAM.CREATE.{name}", plain | {"storage": "file", "num_replicas": 1} | fields)

    async def update_stream(self, key: str, fields: Fields) -> None:
        name = f"{NAMESPACE}:logs:{key}"
        config = (await self.request(f"STREAM.INFO.{name}"))["config"]
        await self.request(f"STREAM.UPDATE.{name}", config | fields)

    async def make_durable(self, key: str, fields: Fields) -> None:
        plain = {"deliver_policy": "all", "ack_policy": "explicit", "replay_policy": "instant", "max_deliver": -1}
        await self.put_durable(key, plain | fields, "create")

    async def put_durable(self, key: str, config: Fields, action: str) -> None:
        name = f"{NAMESPACE}:logs:{key}"
        wanted = {"stream_name": name, "config": {"name": name, "durable_name": name} | config, "action": action}
        await self.request(f"CONSUMER.CREATE.{name}.{name}", wanted)

    async def set(self, key: str, row: Row, fields: Fields) -> None:
        """Set the fields of a row under the running replica."""
        name = f"{NAMESPACE}:logs:{key}"
        if row.of == "stream":
            await self.update_stream(key, fields)
        elif row.anew:
            await self.request(f"CONSUMER.DELETE.{name}.{name}")
            await self.make_durable(key, fields)
        elif row.mend == "resume":
            await self.request(f"CONSUMER.PAUSE.{name}.{name}", fields)
        else:
            config = (await self.request(f"CONSUMER.INFO.{name}.{name}"))["config"]
            await self.put_durable(key, config | fields, "update")

    async def mend(self, key: str, row: Row) -> None:
        """Do what the logger says."""
        name = f"{NAMESPACE}:logs:{key}"
        if row.mend == "resume":
            await self.request(f"CONSUMER.PAUSE.{name}.{name}", {})
        elif row.mend == "copy":
            await self.make_anew(key)
        else:
            back: Fields = {"subjects": [f"{NAMESPACE}.logs.{key}"], "mirror": None, "consumer_limits": {}}
            await self.update_stream(key, back)

    async def make_anew(self, key: str) -> None:
        """Do what docs/runbooks.md says of a stream that is no work queue."""
        name, copy = f"{NAMESPACE}:logs:{key}", f"copy-{key}"
        kept = {"name": copy, "retention": "limits", "storage": "file", "num_replicas": 1}
        held = (await self.request(f"STREAM.INFO.{name}"))["state"]["messages"]
        await self.request(f"STREAM.CREATE.{copy}", kept | {"sources": [{"name": name}]})
        with anyio.fail_after(20):
            while (await self.request(f"STREAM.INFO.{copy}"))["state"]["messages"] < held:  # noqa: ASYNC110 - the server's
                await anyio.sleep(POLL)
        await self.request(f"STREAM.DELETE.{name}")
        await self.request(f"STREAM.UPDATE.{copy}", kept)
        await self.make_stream(key, {"sources": [{"name": copy}]})

    async def publish(self, key: str, row: Row) -> None:
        entries = (entry(number) for number in range(row.entries))
        if row.confirmed:
            subject = "elsewhere" if row.fields.get("subjects") == ["elsewhere.{key}"] else f"{NAMESPACE}.logs"
            for body in entries:
                await self.go.jetstream.publish(f"{subject}.{key}", body)
            return
        for body in entries:
            await self.go.connection.publish(f"{NAMESPACE}.logs.{key}", body)
        await self.go.connection.flush()


def spec(key: str) -> bytes:
    """Pack the spec of a time-series logger."""
    kind = b"\x81" + text("kind") + text("timeseries")
    return b"\x83" + text("key") + text(key) + text("description") + text("") + text("collection") + kind


async def begin(scene: Scene, key: str, row: Row, when: str) -> None:
    """Have a logger with the fields of a row, and publish to it."""
    fields: Fields = json.loads(json.dumps(row.fields).replace("{key}", key))
    made_with = row.of == "stream" and when == "before" and not row.publish_first
    await scene.make_stream(key, fields if made_with else {})
    if when == "during":
        await scene.go.put(key, spec(key) if row.timeseries else None)
        await reached(lambda: scene.state(key) == "running")
    if row.publish_first:
        await scene.publish(key, row)
    if when == "before" and row.of == "durable":
        await scene.make_durable(key, fields)
    elif not made_with:
        await scene.set(key, row, fields)
    if when == "before":
        await scene.go.put(key, spec(key) if row.timeseries else None)
    if not (row.publish_mended or row.publish_late or row.publish_first):
        await scene.publish(key, row)


async def play(scene: Scene, key: str, row: Row, when: str) -> Outcome:
    """Set the fields, publish, wait for what is expected, mend, and wait until all is stored."""
    outcome = Outcome()
    await begin(scene, key, row, when)
    if row.misconfigured:
        await reached(lambda: scene.state(key) == "misconfigured")
        outcome.why = scene.why(key)
        if row.publish_late:
            await scene.publish(key, row)
        await scene.mend(key, row)
        if row.publish_mended:
            await scene.publish(key, row)
    with anyio.fail_after(40):
        while await scene.stored(key) < row.entries:  # noqa: ASYNC110 - another process's
            await anyio.sleep(POLL)
    await reached(lambda: scene.state(key) == "running")
    if row.risk:
        await reached(lambda: bool(scene.why(key)))
        outcome.why = scene.why(key)
    await until_empty(scene.go.jetstream, f"{NAMESPACE}:logs:{key}", 20)
    return outcome


async def reached(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(40):
        while not condition():  # noqa: ASYNC110 - as above
            await anyio.sleep(POLL)


def finish(scene: Scene, key: str, outcome: Outcome) -> None:
    """Look once more, when all rows are over: what loops has done so by then."""
    outcome.stored = numbers(scene.database, key)
    outcome.dead_letters = scene.database[f"{key}_fail"].count_documents({})
    outcome.received = metric(scene, "collector_received_messages_total", key)
    outcome.brought_back = metric(scene, "collector_brought_back_messages_total", key)
    outcome.restarts, outcome.ended = scene.loggers[key]["restarts"], scene.loggers[key]["state"]


def metric(scene: Scene, name: str, key: str) -> float:
    start = f'{name}{{log_namespace="{NAMESPACE}",logger="{key}"}} '
    (line,) = [line for line in scene.replica.get("/metrics")[1].splitlines() if line.startswith(start)]
    return float(line.removeprefix(start))


def key_of(row: Row, when: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", f"{row.of} {row.name} {when}")


async def play_all(server: NatsServer, replica: Replica, database: Database[dict[str, Any]]) -> dict[str, Outcome]:
    """Play all rows in one namespace with one replica, some at a time."""
    found: dict[str, Outcome] = {}
    limiter = CapacityLimiter(AT_ONCE)
    async with ancestor(server.url, NAMESPACE) as go:
        scene = Scene(go, replica, database)
        await go.jetstream.add_stream(name="origin", subjects=["origin"])
        await ensure_bucket(go.jetstream, Names(NAMESPACE))

        async def one(row: Row, when: str) -> None:
            async with limiter:
                try:
                    found[key_of(row, when)] = await play(scene, key_of(row, when), row, when)
                except Exception as exc:  # noqa: BLE001 - of this row alone
                    found[key_of(row, when)] = Outcome(failed=repr(exc))

        async with create_task_group() as watching:
            watching.start_soon(scene.watch)
            async with create_task_group() as group:
                for row, when in CASES:
                    group.start_soon(one, row, when)
            watching.cancel_scope.cancel()
        for key, outcome in found.items():
            if not outcome.failed:
                finish(scene, key, outcome)
        return found | {"said": Outcome(fields=await scene.said())}


@pytest.fixture(scope="module")
def outcomes(mongod: Mongod) -> Iterator[dict[str, Outcome]]:
    with (
        TemporaryDirectory(prefix="nats-") as nats_folder,
        TemporaryDirectory(prefix="replica-") as folder,
        NatsServer(Path(nats_folder)) as server,
        MongoClient[dict[str, Any]](mongod.url, tz_aware=True) as client,
        Replica(Path(folder), NAMESPACE, server, mongod, {"COLLECTOR_LAG_PERIOD": "200ms"}) as replica,
    ):
        try:
            yield anyio.run(play_all, server, replica, client[NAMESPACE])
        finally:
            client.drop_database(NAMESPACE)


@pytest.mark.parametrize(("row", "when"), CASES, ids=[key_of(row, when) for row, when in CASES])
def test_no_field_loses_kills_or_stops_an_entry_in_silence(row: Row, when: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[key_of(row, when)]
    assert not outcome.failed
    assert (row.misconfigured or row.risk) in outcome.why
    assert outcome.stored == Counter(range(row.entries)), outcome
    assert (outcome.dead_letters, outcome.brought_back, outcome.restarts, outcome.ended) == (0, 0, 0, "running")
    assert row.redelivered or outcome.received <= 2 * row.entries


def test_every_field_has_a_row() -> None:
    for of, rows, fields in (("durable", DURABLE_ROWS, DURABLE_FIELDS), ("stream", STREAM_ROWS, STREAM_FIELDS)):
        tried = {name for row in rows for name in row.fields}
        assert fields - NOT_ON_A_WORK_QUEUE - tried == set(), of
        assert tried - fields == set(), of


def test_this_nats_server_knows_no_other_field(outcomes: dict[str, Outcome]) -> None:
    """A field that is new in a newer nats-server shows in what it says of a durable or stream."""
    assert outcomes["said"].fields["durable"] <= DURABLE_FIELDS
    assert outcomes["said"].fields["stream"] <= STREAM_FIELDS
