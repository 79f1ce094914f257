"""What a replica says first, what it makes of a mistaken environment, and that a closed terminal drains it."""

from __future__ import annotations

import json
import os
import signal
import socket
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from collector.errors import CollectorError
from tests.support.ancestor import Ancestor, entry
from tests.support.waiting import numbers, state, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import NatsServer, Replica


def lines(replica: Replica) -> list[dict[str, Any]]:
    return [json.loads(line) for line in replica.log_path.read_text().splitlines()]


def test_the_first_line_has_version_and_settings_in_force_and_the_next_ones_what_is_ignored(
    start_replica: Callable[..., Replica], nats_server: NatsServer, namespace: str
) -> None:
    replica = start_replica(COLLECTOR_WRITES="3", COLLECTOR_BATCH_ENTRYS="7", COLLECTOR_SERVICE_HOST="10.0.0.1")
    first, *ignored = lines(replica)[:2]
    assert (first["event"], first["version"]) == ("starting", version("transfer-collector"))
    assert (first["NAMESPACE"], first["NATS_HOSTS"]) == (namespace, nats_server.url)
    assert (first["COLLECTOR_WRITES"], first["COLLECTOR_BATCH_ENTRIES"]) == (3, 1000)
    assert [line["event"] for line in ignored] == ["setting ignored"]
    assert "did you mean COLLECTOR_BATCH_ENTRIES?" in ignored[0]["error"]


async def test_a_terminal_that_is_closed_drains_it(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    replica = await anyio.to_thread.run_sync(lambda: start_replica(COLLECTOR_BATCH_AGE="10m"))
    await go.declare("system")
    await until(lambda: state(replica, "system") == "running", 10)
    await go.publish("system", [entry(number) for number in range(10)])
    await until(lambda: replica.metric("collector_received_messages_total") == 10, 10)
    os.kill(replica.pid, signal.SIGHUP)
    assert await anyio.to_thread.run_sync(replica.wait) == 0
    assert set(numbers(database, "system")) == set(range(10))


def test_an_address_that_is_taken_is_named_with_its_variable(start_replica: Callable[..., Replica]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CollectorError) as caught:
            start_replica(COLLECTOR_HTTP=address)
    assert f"COLLECTOR_HTTP: expected an address that can be listened on, got {address}" in str(caught.value)
