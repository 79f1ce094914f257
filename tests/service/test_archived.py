"""A logger that is archived beside MongoDB, on real servers: each entry once in both, whatever is killed in between."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.ancestor import Ancestor, entry
from tests.support.archived import archived, declare, rows
from tests.support.outlets import replicas_without_mongodb
from tests.support.waiting import numbers, state, until, until_empty
from transfer.wire import ArchiveSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer, Replica

pytestmark = pytest.mark.timeout(300)
QUICK = ArchiveSpec(window=1, compression="gzip")


def each_once(count: int) -> Counter[int]:
    return Counter(range(count))


def why(replica: Replica, key: str = "a") -> str:
    return str(replica.status["loggers"].get(key, {}).get("why", ""))


@pytest.mark.parametrize("timeseries", [False, True])
async def test_each_message_is_once_in_both_over_kills(
    go: Ancestor,
    start_replica: Callable[..., Replica],
    database: Database[dict[str, Any]],
    tmp_path: Path,
    *,
    timeseries: bool,
) -> None:
    replicas = [start_replica(COLLECTOR_ARCHIVE=str(tmp_path)) for _ in range(2)]
    await declare(go, "a", QUICK, timeseries=timeseries)
    published = 0
    for _ in range(2):
        published += await go.publish("a", [entry(published + number) for number in range(1500)])
        await until(lambda: sum(numbers(database, "a").values()) > published - 1400, 20)  # noqa: B023
        (owner,) = [one for one in replicas if state(one, "a") == "running"]
        owner.kill()
        owner.start()
    await until_empty(go.jetstream, f"{go.namespace}:logs:a", 40)
    assert numbers(database, "a") == each_once(published)
    assert archived(tmp_path) == each_once(published)
    assert {row["_subject"] for row in rows(tmp_path)} == {f"{go.namespace}.logs.a"}
    await until(lambda: sorted(state(one, "a") for one in replicas) == ["running", "standby"], 20)


async def test_the_archive_comes_changes_and_goes_while_entries_come(
    go: Ancestor, start_replica: Callable[..., Replica], database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    replicas = [start_replica(COLLECTOR_ARCHIVE=str(tmp_path)) for _ in range(2)]
    pids = [one.pid for one in replicas]
    published, expected = 0, set[int]()
    for spec in (None, QUICK, ArchiveSpec(window=2, compression="none", key="metadata.number"), None):
        await declare(go, "a", spec)
        published += await go.publish("a", [entry(published + number) for number in range(300)])  # in the change
        roles = ["running", "running"] if spec is None else ["running", "standby"]
        await until(lambda: sorted(state(one, "a") for one in replicas) == roles, 20)  # noqa: B023
        if spec is not None:  # the owner reads all that comes from now on
            expected |= set(range(published, published + 100))
        published += await go.publish("a", [entry(published + number) for number in range(100)])
        await until(lambda: expected <= archived(tmp_path).keys(), 20)  # noqa: B023
        await until(lambda: numbers(database, "a") == each_once(published), 20)  # noqa: B023
    await until_empty(go.jetstream, f"{go.namespace}:logs:a")
    assert set(archived(tmp_path).values()) == {1}
    assert [one.pid for one in replicas] == pids
    info = await go.jetstream.consumer_info(f"{go.namespace}:logs:a", f"{go.namespace}:logs:a")
    assert info.config.ack_wait == 30


async def test_while_one_of_both_is_away_the_other_goes_on_and_what_is_away_is_said(
    go: Ancestor,
    start_replica: Callable[..., Replica],
    own_mongod: Callable[[], Mongod],
    tmp_path: Path,
) -> None:
    mongod, root = own_mongod(), tmp_path / "root"
    root.mkdir()
    settings = {"COLLECTOR_ARCHIVE": str(root), "COLLECTOR_BATCH_ENTRIES": "50", "COLLECTOR_WRITE_TIMEOUT": "1s"}
    replica = start_replica(mongo=mongod, **settings)
    await declare(go, "a", QUICK)
    await go.publish("a", [entry(number) for number in range(100)])
    await until(lambda: archived(root) == each_once(100), 20)
    mongod.kill()
    await go.publish("a", [entry(number) for number in range(100, 2000)])  # more than the replica holds for MongoDB
    await until(lambda: archived(root) == each_once(2000), 20)
    await until(lambda: state(replica, "a") == "failing" and why(replica).startswith("mongodb: "), 20)
    assert (await go.jetstream.stream_info(f"{go.namespace}:logs:a")).state.messages >= 1900
    mongod.start()
    await until_empty(go.jetstream, f"{go.namespace}:logs:a", 20)
    root.rename(tmp_path / "away")
    await go.publish("a", [entry(number) for number in range(2000, 2500)])
    await until(lambda: state(replica, "a") == "misconfigured" and why(replica).startswith("archive: "), 20)
    await until(lambda: replica.metric("collector_written_entries_total") >= 2500, 20)
    assert (await go.jetstream.stream_info(f"{go.namespace}:logs:a")).state.messages == 500
    (tmp_path / "away").rename(root)
    await until_empty(go.jetstream, f"{go.namespace}:logs:a", 20)
    assert archived(root) == each_once(2500)
    await until(lambda: state(replica, "a") == "running", 20)


async def test_a_stream_that_is_made_anew_loses_nothing_to_acks_of_the_old_one(
    go: Ancestor, start_replica: Callable[..., Replica], database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    """The cut of the old stream is stored after the new one has messages with the same sequences."""
    stream, root = f"{go.namespace}:logs:a", tmp_path / "root"
    root.mkdir()
    replica = start_replica(COLLECTOR_ARCHIVE=str(root))
    await declare(go, "a", QUICK)
    await until(lambda: state(replica, "a") == "running", 10)
    root.rename(tmp_path / "away")
    await go.publish("a", [entry(number) for number in range(300)])
    await until(lambda: state(replica, "a") == "misconfigured", 20)
    await go.jetstream.delete_stream(stream)
    await go.make_stream("a")
    await go.publish("a", [entry(number) for number in range(300, 600)])
    (tmp_path / "away").rename(root)
    await until_empty(go.jetstream, stream, 20)
    assert Counter(range(300, 600)) <= archived(root)
    assert numbers(database, "a") == each_once(600)
    assert set(archived(root).values()) == {1}


async def test_a_logger_is_archived_alone_by_replicas_without_mongodb(
    go: Ancestor, nats_server: NatsServer, namespace: str, tmp_path: Path
) -> None:
    with replicas_without_mongodb(nats_server, namespace) as start:
        settings = {"COLLECTOR_ARCHIVE": str(tmp_path), "COLLECTOR_SINK": "blackhole"}
        replicas = [start(**settings) for _ in range(2)]
        await declare(go, "a", QUICK, destination="archive")
        await until(lambda: sorted(state(one, "a") for one in replicas) == ["running", "standby"], 20)
        await go.publish("a", [entry(number) for number in range(1000)])
        (owner,) = [one for one in replicas if state(one, "a") == "running"]
        owner.kill()
        await go.publish("a", [entry(number) for number in range(1000, 2000)])
        await until_empty(go.jetstream, f"{namespace}:logs:a", 20)
        assert archived(tmp_path) == each_once(2000)


async def test_an_archive_that_cannot_be_is_a_state_of_its_logger_alone(
    go: Ancestor, start_replica: Callable[..., Replica], database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    """Place, template, folder and columns are wrong, each of another logger; a plain one goes on."""
    replica = start_replica(COLLECTOR_ARCHIVE=f"{tmp_path},s3://bucket/logs")
    await declare(go, "elsewhere", ArchiveSpec(to="/etc"))
    await declare(go, "template", ArchiveSpec(path="{n}/../{key}", compression="none"))
    await declare(go, "missing", ArchiveSpec(to=f"{tmp_path}/missing", compression="none"))
    await declare(go, "column", ArchiveSpec(format="csv", columns={"data": "json"}))
    await declare(go, "plain", None)
    await go.publish("plain", [entry(0)])
    await until(lambda: numbers(database, "plain") == each_once(1), 10)
    for key, said in {
        "elsewhere": "COLLECTOR_ARCHIVE",
        "template": "..",
        "missing": "missing",
        "column": "data",
    }.items():
        await until(lambda: state(replica, key) == "misconfigured" and said in why(replica, key), 10)  # noqa: B023
    await declare(go, "elsewhere", QUICK)
    await until(lambda: state(replica, "elsewhere") == "running", 10)


async def test_without_the_extra_a_logger_says_what_to_install(
    go: Ancestor, start_replica: Callable[..., Replica], tmp_path: Path
) -> None:
    (tmp_path / "isal.py").write_text("raise ImportError(\"No module named 'isal'\")")
    replica = start_replica(COLLECTOR_ARCHIVE=str(tmp_path), PYTHONPATH=str(tmp_path))
    await declare(go, "a", QUICK)
    await until(lambda: state(replica, "a") == "misconfigured", 10)
    assert "pip install 'transfer-collector[archive]'" in why(replica)
