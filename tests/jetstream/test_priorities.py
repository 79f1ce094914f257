"""Which durables get priorities: those of servers that all know them, and not again at once when somebody undid it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from collector.jetstream.beats import Beat, read_beat
from collector.jetstream.priorities import ASKED_FOR_VERSIONS, Priorities, Servers, read_servers
from collector.jetstream.source import LoggerSources
from tests.support.fakes import Reports
from tests.support.pulling import connected
from transfer.jetstream.api import connection_of
from transfer.jetstream.durable_needs import durable_needs
from transfer.jetstream.durables import durable_info, ensure_durable
from transfer.jetstream.needs import compare_durable
from transfer.jetstream.streams import _Info, ensure_stream, stream_state
from transfer.names import Names
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.js import JetStreamContext

    from collector.local import NatsServer
    from transfer.jetstream.streams import StreamState

NONE: dict[str, Any] = {"priority_policy": "none", "priority_groups": ()}
OURS: dict[str, Any] = {"priority_policy": "prioritized", "priority_groups": ("home",)}


def answer(name: str, version: str, *, jetstream: bool = True) -> bytes:
    return json.dumps({"server": {"name": name, "ver": version, "jetstream": jetstream}, "data": {}}).encode()


@pytest.mark.parametrize(
    ("answers", "names", "all_know"),
    [
        ([], "", False),
        ([b"?"], "", False),
        ([answer("a", "2.15.1")], "a", True),
        ([answer("a", "2.12.0"), answer("b", "2.12.0-RC.1"), answer("c", "3.0.0")], "abc", True),
        ([answer("a", "2.15.1"), answer("b", "2.11.14")], "ab", False),
        ([answer("a", "2.9.25")], "a", False),
        ([answer("a", "")], "a", False),
        ([answer("a", "2.15.1"), answer("b", "2.10.1", jetstream=False)], "ab", True),
        ([answer("a", "2.15.1"), b'{"error": {"code": 404}}'], "", False),
    ],
)
def test_all_servers_with_jetstream_have_to_know_priorities(answers: list[bytes], names: str, all_know: bool) -> None:
    assert read_servers(answers) == Servers(frozenset(names), all_know)


class Cluster:
    """Servers that answer what they are, and the time."""

    def __init__(self, *answers: bytes) -> None:
        self.now, self.asked, self.answers = 0.0, 0, list(answers)
        connection: Any = None
        self.priorities = Priorities(connection, lambda: self.now)
        self.priorities._answers = self._answer  # type: ignore[method-assign]

    async def _answer(self) -> list[bytes]:
        self.asked += 1
        return self.answers


def stream(level: str, cluster: str = "", *servers: str) -> StreamState:
    """Return the state of a stream as a server of that API level says it."""
    leader, *others = servers or ("a",)
    body: dict[str, Any] = {
        "config": {"name": "s", "metadata": {"_nats.level": level} if level else {}},
        "created": "now",
        "state": {
            "messages": 0,
            "bytes": 0,
            "first_seq": 0,
            "last_seq": 0,
            "first_ts": "0001-01-01T00:00:00Z",
            "last_ts": "0001-01-01T00:00:00Z",
        },
        "ts": "2026-01-01T00:00:00Z",
        "cluster": {"name": cluster, "leader": leader, "replicas": [{"name": name} for name in others]},
    }
    return msgspec.json.decode(json.dumps(body), type=_Info).as_state()


@pytest.mark.parametrize(
    ("state", "answers", "able"),
    [
        (stream(""), [], False),
        (stream("0"), [], False),
        (stream("1"), [], False),
        (stream("2"), [], True),
        (stream("5"), [], True),
        (stream("x"), [], False),
        (stream("1", "C", "a"), [answer("a", "2.11.1")], False),
        (stream("5", "C", "a"), [], False),
        (stream("5", "C", "a"), [answer("a", "2.15.1")], True),
        (stream("5", "C", "a"), [answer("a", "2.15.1"), answer("b", "2.11.1")], False),
        (stream("5", "C", "a", "b"), [answer("a", "2.15.1")], False),
        (stream("5", "C", "a", "b"), [answer(name, "2.15.1") for name in "abc"], True),
    ],
    ids=str,
)
async def test_a_durable_gets_priorities_by_the_levels_of_its_servers(
    state: StreamState,
    answers: list[bytes],
    able: bool,
) -> None:
    cluster = Cluster(*answers)
    assert await cluster.priorities.look("a", state) is able
    assert cluster.priorities.are_due("a") is able
    assert not cluster.priorities.are_due("b")
    assert cluster.asked == bool(state.cluster.name and state.api_level > 1)


async def test_servers_are_asked_once_a_minute_for_all_loggers_together() -> None:
    cluster = Cluster(answer("a", "2.11.1"))
    for key in "abcdef":
        await cluster.priorities.look(key, stream("5", "C", "a"))
    assert cluster.asked == 1
    cluster.now, cluster.answers = 60.0, [answer("a", "2.15.1")]
    assert await cluster.priorities.look("a", stream("5", "C", "a"))


async def test_priorities_that_somebody_took_away_are_set_again_after_ten_minutes_and_not_before() -> None:
    cluster = Cluster()
    await cluster.priorities.look("a", stream("5"))
    cluster.priorities.were_set("a")
    cluster.now = 599.0
    assert not cluster.priorities.are_due("a")
    cluster.now = 600.0
    assert cluster.priorities.are_due("a")


# on a real server


@pytest.fixture
async def jetstream(nats_server: NatsServer, namespace: str) -> AsyncIterator[JetStreamContext]:
    async with connected(nats_server) as connection:
        yield connection.jetstream()


async def found(jetstream: JetStreamContext, names: Names) -> dict[str, Any]:
    config = (await durable_info(jetstream, names, "a")).config
    return {field: getattr(config, field) for field in OURS}


@pytest.mark.parametrize("others", [NONE, {"priority_policy": "overflow", "priority_groups": ("x",)}], ids=str)
async def test_replicas_do_not_undo_each_other(
    jetstream: JetStreamContext, namespace: str, others: dict[str, Any]
) -> None:
    names = Names(namespace)
    await ensure_stream(jetstream, names, LoggerSpec(key="a", description=""))
    info = await ensure_durable(jetstream, names, "a")
    assert await found(jetstream, names) == NONE
    config = {"durable_name": info.name, "name": info.name, "ack_policy": "explicit", "mem_storage": True, **others}
    subject = f"$JS.API.CONSUMER.CREATE.{info.stream_name}.{info.name}"
    body = {"stream_name": info.stream_name, "config": config, "action": "update"}
    assert b'"error"' not in (await connection_of(jetstream).request(subject, json.dumps(body).encode())).data
    changes: list[object] = []
    for homes, keep, wanted in (
        (False, False, NONE),
        (True, True, NONE),
        (True, False, OURS),
        (False, False, OURS),
        (True, True, OURS),
    ):
        changes.clear()
        made = await ensure_durable(jetstream, names, "a", homes=homes, keep=keep, on_change=changes.append)
        assert await found(jetstream, names) == wanted
        assert compare_durable(made, names, "a", durable_needs(homes=homes and not keep)) == ()
    assert changes == []


@pytest.mark.parametrize("keep", [False, True])
async def test_a_durable_that_is_made_has_priorities_at_once(
    jetstream: JetStreamContext,
    namespace: str,
    keep: bool,
) -> None:
    names = Names(namespace)
    await ensure_stream(jetstream, names, LoggerSpec(key="a", description=""))
    await ensure_durable(jetstream, names, "a", homes=True, keep=keep)
    assert await found(jetstream, names) == OURS


async def test_a_source_sets_priorities_and_lets_an_older_replica_take_them_away(
    jetstream: JetStreamContext, namespace: str
) -> None:
    names, time = Names(namespace), [0.0]
    await ensure_stream(jetstream, names, LoggerSpec(key="a", description=""))
    assert (await stream_state(jetstream, names.stream("a"))).api_level >= 2
    await ensure_durable(jetstream, names, "a")
    reports = Reports()
    sources = LoggerSources(jetstream, names, 30.0, reports)
    sources.priorities = Priorities(connection_of(jetstream), lambda: time[0])
    source = sources.of("a")
    for time[0], before, after in ((0.0, NONE, OURS), (300.0, NONE, NONE), (600.0, NONE, OURS), (601.0, OURS, OURS)):
        if before == NONE:
            await _take_away(jetstream, names)
        assert (await source.attach()).risks == ()
        assert await found(jetstream, names) == after
    assert len(reports.all) == 4, "policy and group, twice"


async def _take_away(jetstream: JetStreamContext, names: Names) -> None:
    """Do what a replica of the version before homes does."""
    subject = f"{names.stream('a')}.{names.durable('a')}"
    connection = connection_of(jetstream)
    config = json.loads((await connection.request(f"$JS.API.CONSUMER.INFO.{subject}")).data)["config"]
    for field in OURS:
        config.pop(field, None)
    body = {"stream_name": names.stream("a"), "config": config, "action": "update"}
    done = await connection.request(f"$JS.API.CONSUMER.CREATE.{subject}", json.dumps(body).encode())
    assert b'"error"' not in done.data


async def test_a_lone_server_is_asked_for_versions_too_and_answers(jetstream: JetStreamContext) -> None:
    servers = read_servers(await Priorities(connection_of(jetstream))._answers())
    assert servers.all_know, ASKED_FOR_VERSIONS
    assert len(servers.names) == 1


# beats


@pytest.mark.parametrize(
    ("body", "beat"),
    [
        (b'{"replica":"a"}', Beat("a")),
        (b'{"replica":"a","leaves":true,"new":1}', Beat("a", leaves=True)),
        (b"", None),
        (b"?", None),
        (b"{}", None),
        (b'{"replica":""}', None),
        (b'{"replica":7}', None),
        (b'{"replica":"' + b"x" * 300 + b'"}', None),
        (b"\xff\xfe", None),
        (b'{"replica":"\xff"}', None),
        (b"[" * 100_000, None),
    ],
)
def test_anybody_may_publish_and_only_beats_count(body: bytes, beat: Beat | None) -> None:
    assert read_beat(body) == beat
