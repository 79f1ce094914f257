"""Entries on standard output, on a real nats-server and replicas without MongoDB: readers that hang, and that end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.ancestor import Ancestor, entry
from tests.support.outlets import Reader, numbers, replicas_without_mongodb
from tests.support.waiting import state, until, until_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from collector.local import NatsServer, Replica

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def reader() -> Iterator[Reader]:
    with Reader() as reader:
        yield reader


@pytest.fixture
def start(nats_server: NatsServer, namespace: str, tmp_path: Path, reader: Reader) -> Iterator[Callable[..., Replica]]:
    """Make `start(reader, **settings)`; a replica ends before the reader, which reads until there is no writer."""
    with replicas_without_mongodb(nats_server, namespace) as start:
        yield lambda reader, **settings: start(
            reader if isinstance(reader, int) else reader.to,
            COLLECTOR_SINK="stdout",
            COLLECTOR_FILES=str(tmp_path),
            **settings,
        )


async def declared(go: Ancestor, *keys: str) -> None:
    await go.jetstream.create_key_value(bucket=f"{go.namespace}_logs")
    await go.declare(*keys)


def large(number: int) -> bytes:
    """Pack an entry of two kilobytes: lines end nowhere near what a pipe takes at once."""
    return b"\x81\xa4data\x82\xa6number\xcd" + number.to_bytes(2) + b"\xa4text\xda\x07\xd0" + b"x" * 2000


async def test_every_line_is_an_entry_with_the_key_of_its_logger_and_no_line_of_the_log(
    go: Ancestor, start: Callable[..., Replica], reader: Reader
) -> None:
    await declared(go, "a", "b")
    replica = start(reader, MODE="debug")
    for key in ("a", "b"):
        await go.publish(key, [entry(number) for number in range(500)])
    for key in ("a", "b"):
        await until_empty(go.jetstream, f"{go.namespace}:logs:{key}")
    replica.terminate()
    assert replica.wait() == 0
    await until(lambda: len(reader.entries()) == 1000, 5)
    for key in ("a", "b"):
        assert numbers([one for one in reader.entries() if one["_logger"] == key]) == list(range(500))
    assert list(reader.entries()[0]) == ["_logger", "msg", "number", "_id", "timestamp", "metadata"]


async def test_a_reader_that_hangs_holds_only_what_the_budget_allows_and_gets_everything_in_the_end(
    go: Ancestor, start: Callable[..., Replica], reader: Reader
) -> None:
    await declared(go, "a")
    replica = start(reader, COLLECTOR_BUFFER_BYTES="1MiB", COLLECTOR_BATCH_ENTRIES="100", COLLECTOR_WRITE_TIMEOUT="6s")
    reader.pause()
    await go.publish("a", [large(number) for number in range(5000)])
    await until(lambda: state(replica, "a") == "failing", 30)
    held = replica.status
    assert held["buffer"]["bytes"] <= 1024 * 1024
    assert held["event_loop_lag_seconds"] < 3, "an attempt waits twice as long, and the event loop does not"
    assert "ETIMEDOUT" in held["loggers"]["a"]["why"]
    assert replica.get("/livez")[0] == 200
    reader.resume()
    await until(lambda: set(numbers(reader.entries())) == set(range(5000)), 20)
    await until(lambda: state(replica, "a") == "running", 5)


async def test_a_stop_while_the_reader_hangs_is_in_time_and_gives_back_what_was_not_taken(
    go: Ancestor, start: Callable[..., Replica], reader: Reader
) -> None:
    await declared(go, "a")
    replica = start(reader, COLLECTOR_SHUTDOWN_TIMEOUT="10s")
    reader.pause()
    await go.publish("a", [large(number) for number in range(1000)])
    await until(lambda: state(replica, "a") == "failing", 10)
    replica.terminate()
    assert replica.wait() == 0
    reader.resume()
    start(reader)
    await until(lambda: set(numbers(reader.entries())) == set(range(1000)), 20)


async def test_a_killed_replica_loses_nothing(go: Ancestor, start: Callable[..., Replica], reader: Reader) -> None:
    await declared(go, "a")
    replica = start(reader, COLLECTOR_BATCH_ENTRIES="100")
    await go.publish("a", [large(number) for number in range(5000)])
    await until(lambda: reader.content.count(b"\n") > 1000, 10)
    replica.kill()
    replica.start()
    await until(lambda: set(numbers(reader.entries())) == set(range(5000)), 20)


async def test_a_reader_that_ends_ends_the_replica_with_a_reason_and_the_entries_wait(
    go: Ancestor, start: Callable[..., Replica]
) -> None:
    await declared(go, "a")
    from_replica, to_reader = os.pipe()
    replica = start(to_reader)
    os.close(to_reader)
    os.close(from_replica)
    await go.publish("a", [entry(number) for number in range(300)])
    assert replica.wait() == 1
    assert "EPIPE" in replica.log_path.read_text()
    with Reader() as another:
        start(another)
        await until(lambda: numbers(another.entries()) == list(range(300)), 20)


async def test_a_full_disk_behind_standard_output_is_waited_for(
    go: Ancestor, start: Callable[..., Replica], tmp_path: Path
) -> None:
    await declared(go, "a")
    with open(tmp_path / "out", "wb") as out, open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123
        replica = start(full.fileno())
        await go.publish("a", [entry(number) for number in range(300)])
        await until(lambda: state(replica, "a") == "failing", 10)
        assert "ENOSPC" in replica.status["loggers"]["a"]["why"]
        replica.terminate()
        assert replica.wait() == 0
        start(out.fileno())
        await until_empty(go.jetstream, f"{go.namespace}:logs:a", 20)
    assert (tmp_path / "out").read_bytes().count(b"\n") == 300
