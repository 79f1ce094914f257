"""Entries in files, on a real nats-server and replicas without MongoDB: once over kills, full disks and restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.ancestor import Ancestor, ancestor, entry
from tests.support.outlets import largest_file, lines_of, numbers, replicas_without_mongodb, rotated
from tests.support.waiting import state, until, until_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from collector.local import NatsServer, Replica

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def start(nats_server: NatsServer, namespace: str) -> Iterator[Callable[..., Replica]]:
    with replicas_without_mongodb(nats_server, namespace) as start:
        yield start


async def declared(go: Ancestor, *keys: str) -> None:
    await go.jetstream.create_key_value(bucket=f"{go.namespace}_logs")
    await go.declare(*keys)


async def test_entries_end_up_in_the_file_of_their_logger(
    go: Ancestor, start: Callable[..., Replica], tmp_path: Path
) -> None:
    keys = ["a", "-", "A_b-9", "x" * 128]
    await declared(go, *keys)
    replica = start(COLLECTOR_SINK=f"file:{tmp_path}")
    for key in keys:
        await go.publish(key, [entry(number) for number in range(50)])
        await until_empty(go.jetstream, f"{go.namespace}:logs:{key}")
    for key in keys:
        assert numbers(lines_of(tmp_path, key)) == list(range(50))
    (found,) = [one for one in lines_of(tmp_path, "a") if one["number"] == 7]
    assert list(found) == ["msg", "number", "_id", "timestamp", "metadata"]
    assert found["timestamp"] == "2023-11-14T22:13:20.123457Z"
    assert found["metadata"] == {"number": 7}
    assert len(bytes.fromhex(found["_id"])) == 12
    assert replica.status["connected"] == {"nats": True}
    assert "owners" not in replica.status["actors"]
    assert "collector_mongodb_connected{" not in replica.get("/metrics")[1]


async def test_nothing_is_lost_or_twice_over_kills_and_new_files(
    go: Ancestor, start: Callable[..., Replica], tmp_path: Path
) -> None:
    await declared(go, "a")
    settings: dict[str, Any] = {"COLLECTOR_BATCH_ENTRIES": "100", "COLLECTOR_FILE_BYTES": "64KiB"}
    replica = start(COLLECTOR_SINK=f"file:{tmp_path}", **settings)
    published = 0
    for _ in range(6):
        wanted = published + 500
        published += await go.publish("a", [entry(published + number) for number in range(2000)])
        await until(lambda: len(lines_of(tmp_path, "a")) > wanted, 10)  # noqa: B023 - it is over before the next turn
        replica.kill()
        replica.start()
    await until_empty(go.jetstream, f"{go.namespace}:logs:a", 20)
    assert numbers(lines_of(tmp_path, "a")) == list(range(published))
    assert rotated(tmp_path, "a") > 3


async def test_a_full_disk_is_waited_for_and_said_and_nothing_is_lost(
    go: Ancestor, start: Callable[..., Replica], tmp_path: Path
) -> None:
    await declared(go, "a")
    replica = start(COLLECTOR_SINK=f"file:{tmp_path}")
    await go.publish("a", [entry(number) for number in range(100)])
    await until(lambda: len(lines_of(tmp_path, "a")) == 100, 5)
    with largest_file(replica, (tmp_path / "a.ndjson").stat().st_size + 1000):
        await go.publish("a", [entry(number) for number in range(100, 2000)])
        await until(lambda: state(replica, "a") == "failing", 10)
        why = replica.status["loggers"]["a"]["why"]
        assert "EFBIG" in why
        assert str(tmp_path) in why
        assert replica.get("/readyz")[0] == 503
        assert numbers(lines_of(tmp_path, "a")) == list(range(100))
        assert (tmp_path / "a.ndjson").read_bytes().endswith(b"\n")
    await until_empty(go.jetstream, f"{go.namespace}:logs:a", 20)
    assert numbers(lines_of(tmp_path, "a")) == list(range(2000))
    await until(lambda: state(replica, "a") == "running", 5)


async def test_a_second_replica_waits_for_the_file_and_goes_on_with_it(
    go: Ancestor, start: Callable[..., Replica], tmp_path: Path
) -> None:
    await declared(go, "a")
    first = start(COLLECTOR_SINK=f"file:{tmp_path}")
    await until(lambda: state(first, "a") == "running", 5)
    second = start(COLLECTOR_SINK=f"file:{tmp_path}")
    await until(lambda: state(second, "a") == "backing_off", 5)
    assert "another process writes it" in second.status["loggers"]["a"]["why"]
    await go.publish("a", [entry(number) for number in range(3000)])
    await until(lambda: len(lines_of(tmp_path, "a")) > 500, 10)
    first.kill()
    await until(lambda: state(second, "a") == "running", 5)
    await until_empty(go.jetstream, f"{go.namespace}:logs:a", 20)
    assert numbers(lines_of(tmp_path, "a")) == list(range(3000))


async def test_what_a_killed_nats_server_has_forgotten_is_not_written_twice(
    own_nats: Callable[..., NatsServer], namespace: str, tmp_path: Path
) -> None:
    nats = own_nats()
    with replicas_without_mongodb(nats, namespace) as start:
        async with ancestor(nats.url, namespace) as go:
            await declared(go, "a")
        start(COLLECTOR_SINK=f"file:{tmp_path}", COLLECTOR_BATCH_ENTRIES="100")
        for first in range(0, 6000, 2000):
            async with ancestor(nats.url, namespace) as go:  # of its own: one that loses its server waits for ever
                await go.publish("a", [entry(first + number) for number in range(2000)])
            await until(lambda: len(lines_of(tmp_path, "a")) > first + 500, 10)  # noqa: B023 - over by the next turn
            nats.kill()
            nats.start()
        async with ancestor(nats.url, namespace) as go:
            await until_empty(go.jetstream, f"{namespace}:logs:a", 20)
    assert numbers(lines_of(tmp_path, "a")) == list(range(6000))
