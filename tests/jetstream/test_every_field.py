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
from tests.support.waiting import count, numbers, until_empty
from transfer.jetstream.streams import ensure_bucket
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.database import Database

    from collector.local import Mongod

pytestmark = pytest.mark.timeout(180)
NAMESPACE = "fields"
SECOND = 1_000_000_000
ENTRIES = 20
AT_ONCE = 16
POLL = 0.1
Fields = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One field as somebody may set it; `{key}` stands for the logger's."""

    name: str
    of: str
    """durable or stream"""
    fields: Fields
    misconfigured: str = ""
    """The field that the logger names, and waits for; else it stores what comes."""
    risk: str = ""
    """The field that a running logger names."""
    only: str = ""
    """before or during, where nats-server does not allow the other."""
    anew: bool = False
    """Whether a durable has to be deleted and made with it, as nats-server does not change it."""
    entries: int = ENTRIES
    mend: str = "back"
    """How it is mended: by an update back, by a resume, or by making the stream anew from a copy."""
    confirmed: bool = True
    publish_late: bool = False
    """Whether to publish when the logger has said what is wrong: before, nats-server keeps nothing."""
    publish_first: bool = False
    """Whether nothing can be published afterwards."""
    publish_mended: bool = False
    """Whether nothing can be published before it is mended."""
    timeseries: bool = False
    redelivered: bool = False
    """Whether messages come again and again until the field is mended."""


def durable(name: str, anew: bool = False, **fields: Any) -> Row:
    return Row(name, "durable", fields, anew=anew)


SOON = "2124-01-01T00:00:00Z"
DURABLE_ROWS = [
    durable("description", description="x"),
    Row("ack_wait 1 ns", "durable", {"ack_wait": 1}, redelivered=True),
    durable("ack_wait 1 s", ack_wait=SECOND),
    durable("ack_wait a minute", ack_wait=60 * SECOND),
    durable("ack_wait ten years", ack_wait=10 * 365 * 86400 * SECOND),
    durable("max_deliver", max_deliver=1),
    durable("max_deliver unlimited", max_deliver=-1),
    Row("backoff", "durable", {"backoff": [1_000_000, 2_000_000], "max_deliver": 5}, redelivered=True),
    durable("backoff without max_deliver", backoff=[SECOND]),
    durable("filter_subject of its own", filter_subject="fields.logs.{key}"),
    durable("filter_subject of another", filter_subject="fields.logs.other"),
    durable("filter_subjects", filter_subjects=["fields.logs.other", "fields.more"]),
    durable("replay_policy", anew=True, replay_policy="original"),
    durable("sample_freq", sample_freq="100%"),
    durable("max_waiting", anew=True, max_waiting=1),
    durable("max_waiting more", anew=True, max_waiting=5000),
    durable("max_ack_pending 1", max_ack_pending=1),
    durable("max_ack_pending unlimited", max_ack_pending=-1),
    durable("max_ack_pending more", max_ack_pending=500_000),
    durable("headers_only", headers_only=True),
    durable("max_batch", max_batch=1),
    durable("max_expires", max_expires=1_000_000),
    durable("max_bytes", max_bytes=1),
    durable("inactive_threshold 1 ms", inactive_threshold=1_000_000),
    durable("inactive_threshold an hour", inactive_threshold=3600 * SECOND),
    durable("num_replicas", num_replicas=1),
    durable("mem_storage", anew=True, mem_storage=True),
    durable("metadata", metadata={"a": "b"}),
    Row("pause_until", "durable", {"pause_until": SOON}, misconfigured="pause_until", mend="resume"),
    durable("pause_until past", pause_until="2001-01-01T00:00:00Z"),
    durable("overflow", priority_groups=["A"], priority_policy="overflow"),
    durable("pinned_client", priority_groups=["A", "B"], priority_policy="pinned_client", priority_timeout=SECOND),
    durable("prioritized", priority_groups=["A"], priority_policy="prioritized"),
    durable("sourcing", anew=True, sourcing=True),
    durable("deliver_subject", anew=True, deliver_subject="push.{key}"),
    durable("deliver_group", anew=True, deliver_subject="push.{key}", deliver_group="g", headers_only=True),
    durable("rate_limit_bps", anew=True, deliver_subject="push.{key}", rate_limit_bps=8),
    durable("flow_control", anew=True, deliver_subject="push.{key}", flow_control=True, idle_heartbeat=SECOND),
    Row("headers_only of a time-series", "durable", {"headers_only": True}, timeseries=True),
    Row("max_waiting of a time-series", "durable", {"max_waiting": 1}, anew=True, timeseries=True),
    Row("max_deliver of a time-series", "durable", {"max_deliver": 1, "ack_wait": SECOND}, timeseries=True),
    Row(
        "pause of a time-series",
        "durable",
        {"pause_until": SOON},
        misconfigured="pause_until",
        mend="resume",
        timeseries=True,
    ),
    durable("headers_only and a filter", headers_only=True, filter_subject="fields.more", max_batch=1, max_deliver=2),
]


def stream(name: str, **fields: Any) -> Row:
    return Row(name, "stream", fields)


def misconfigured(field: str, *, only: str = "", mend: str = "back", name: str = "", **fields: Any) -> Row:
    return Row(name or field, "stream", fields, misconfigured=field, only=only, mend=mend)


def risk(field: str, *, only: str = "", entries: int = ENTRIES, confirmed: bool = True, **fields: Any) -> Row:
    return Row(field, "stream", fields, risk=field, only=only, entries=entries, confirmed=confirmed)


STREAM_ROWS = [
    stream("description", description="x"),
    misconfigured("subjects", name="subjects, one more", subjects=["fields.logs.{key}", "fields.more.{key}"]),
    misconfigured("subjects", name="subjects, wild", subjects=["fields.*.{key}"]),
    misconfigured("subjects", name="subjects of others", subjects=["elsewhere.{key}"]),
    misconfigured("retention", name="limits", only="before", mend="copy", retention="limits"),
    Row(
        "interest",
        "stream",
        {"retention": "interest"},
        misconfigured="retention",
        only="before",
        mend="copy",
        publish_late=True,
    ),
    stream("max_consumers", max_consumers=1),
    risk("max_msgs", max_msgs=5, entries=5),
    risk("max_bytes", max_bytes=100_000),
    risk("max_age", max_age=20 * SECOND, duplicate_window=SECOND),
    risk("max_msgs_per_subject", max_msgs_per_subject=5, entries=5),
    stream("max_msg_size", max_msg_size=100_000),
    stream("discard new", discard="new", max_msgs=100, max_bytes=100_000),
    stream(
        "discard_new_per_subject", discard="new", discard_new_per_subject=True, max_msgs=99, max_msgs_per_subject=50
    ),
    risk("storage", only="before", storage="memory"),
    risk("no_ack", no_ack=True, confirmed=False),
    stream("duplicate_window", duplicate_window=100_000_000),
    stream("placement", placement={"tags": []}),
    stream("metadata", metadata={"a": "b"}),
    Row(
        "mirror",
        "stream",
        {"mirror": {"name": "origin"}, "subjects": []},
        misconfigured="mirror",
        only="before",
        publish_mended=True,
    ),
    Row("sealed", "stream", {"sealed": True}, risk="sealed", publish_first=True),
    stream("num_replicas", num_replicas=1),
    stream("sources", sources=[{"name": "origin", "filter_subject": "nothing"}]),
    stream("compression", compression="s2"),
    Row("first_seq", "stream", {"first_seq": 1000}, only="before"),
    stream("subject_transform", subject_transform={"src": "fields.logs.{key}", "dest": "changed.{key}"}),
    stream("republish", republish={"src": "fields.logs.{key}", "dest": "again.{key}", "headers_only": True}),
    stream("deny_delete", deny_delete=True),
    stream("deny_purge", deny_purge=True),
    stream("allow_rollup_hdrs", allow_rollup_hdrs=True),
    stream("allow_direct", allow_direct=True),
    Row("mirror_direct", "stream", {"mirror_direct": True}, only="during"),
    misconfigured("consumer_limits.max_ack_pending", only="before", consumer_limits={"max_ack_pending": 10}),
    misconfigured("consumer_limits.inactive_threshold", consumer_limits={"inactive_threshold": 1_000_000}),
    stream("consumer_limits, an hour", consumer_limits={"inactive_threshold": 3600 * SECOND}),
    stream("allow_msg_ttl", allow_msg_ttl=True),
    Row(
        "subject_delete_marker_ttl",
        "stream",
        {"subject_delete_marker_ttl": 600 * SECOND, "allow_msg_ttl": True, "allow_rollup_hdrs": True},
    ),
    stream("allow_atomic", allow_atomic=True),
    stream("allow_batched", allow_batched=True),
    stream("allow_msg_schedules", allow_msg_schedules=True, allow_rollup_hdrs=True),
    risk("persist_mode", only="before", persist_mode="async"),
]
NOT_ON_A_WORK_QUEUE = {
    "opt_start_seq", "opt_start_time", "deliver_policy", "ack_policy", "direct", "allow_msg_counter", "name",
    "durable_name",
}  # fmt: skip
"""What nats-server 2.15 lets nobody set otherwise on a pull consumer of a work queue."""
DURABLE_FIELDS = {
    "durable_name", "name", "description", "deliver_policy", "opt_start_seq", "opt_start_time", "ack_policy",
    "ack_wait", "max_deliver", "backoff", "filter_subject", "filter_subjects", "replay_policy",
    "rate_limit_bps", "sample_freq", "max_waiting", "max_ack_pending", "flow_control", "headers_only",
    "max_batch", "max_expires", "max_bytes", "deliver_subject", "deliver_group", "idle_heartbeat",
    "inactive_threshold", "num_replicas", "mem_storage", "direct", "sourcing", "metadata", "pause_until",
    "priority_groups", "priority_policy", "priority_timeout",
}  # fmt: skip
STREAM_FIELDS = {
    "name", "description", "subjects", "retention", "max_consumers", "max_msgs", "max_bytes", "max_age",
    "max_msgs_per_subject", "max_msg_size", "discard", "storage", "num_replicas", "no_ack",
    "duplicate_window", "placement", "mirror", "sources", "compression", "first_seq", "subject_transform",
    "republish", "allow_direct", "mirror_direct", "discard_new_per_subject", "sealed", "deny_delete",
    "deny_purge", "allow_rollup_hdrs", "consumer_limits", "allow_msg_ttl", "subject_delete_marker_ttl",
    "allow_msg_counter", "allow_atomic", "allow_msg_schedules", "persist_mode", "allow_batched", "metadata",
}  # fmt: skip
"""Of ConsumerConfig and StreamConfig in nats-server 2.15.1, server/consumer.go and server/stream.go."""
CASES = [
    (row, when) for row in (*DURABLE_ROWS, *STREAM_ROWS) for when in ("before", "during") if row.only in {"", when}
]


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


@pytest.fixture(scope="module")
def outcomes(mongod: Mongod) -> Iterator[dict[str, Outcome]]:
    """Play all rows in one namespace with one replica, some at a time."""
    found: dict[str, Outcome] = {}

    async def play_all(server: NatsServer, replica: Replica, database: Database[dict[str, Any]]) -> None:
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
            found["said"] = Outcome(fields=await scene.said())

    with (
        TemporaryDirectory(prefix="nats-") as nats_folder,
        TemporaryDirectory(prefix="replica-") as folder,
        NatsServer(Path(nats_folder)) as server,
        MongoClient[dict[str, Any]](mongod.url, tz_aware=True) as client,
        Replica(Path(folder), NAMESPACE, server, mongod, {"COLLECTOR_LAG_PERIOD": "200ms"}) as replica,
    ):
        try:
            anyio.run(play_all, server, replica, client[NAMESPACE])
            yield found
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
