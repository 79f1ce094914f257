"""What a replica held is stored by the other one: when ack wait has ended after its death, at once after SIGTERM."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.support.ancestor import Ancestor, entry
from tests.support.waiting import count, numbers, state, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Replica

pytestmark = pytest.mark.timeout(300)

SHORT_ACK_WAIT, LONG_ACK_WAIT = 2.0, 300.0
"""Seconds: one that a test can wait for, and one that ends after it."""
ENTRIES = 5000
HOLDING = {"COLLECTOR_BATCH_AGE": "10m", "COLLECTOR_BATCH_ENTRIES": "100000"}


async def a_replica_that_holds_its_part(
    start_replica: Callable[..., Replica], go: Ancestor, ack_wait: float
) -> Replica:
    """Return one of two replicas: it keeps what it was given, and the other one has stored the rest."""
    holding = start_replica(COLLECTOR_ACK_WAIT=f"{ack_wait}s", **HOLDING)
    storing = start_replica(COLLECTOR_ACK_WAIT=f"{ack_wait}s")
    await go.declare("shared")
    await until(lambda: state(holding, "shared") == state(storing, "shared") == "running", 10)
    await go.publish("shared", (entry(number) for number in range(ENTRIES)))

    def each_is_somewhere() -> bool:
        return (
            holding.metric("collector_buffer_messages") + storing.metric("collector_written_entries_total") == ENTRIES
        )

    await until(each_is_somewhere, 20)
    assert holding.metric("collector_buffer_messages") > 100
    return holding


async def test_after_sigkill_the_other_replica_stores_what_it_held_when_ack_wait_has_ended(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    holding = await a_replica_that_holds_its_part(start_replica, go, SHORT_ACK_WAIT)
    await until(lambda: holding.metric("collector_buffer_messages") > 0, 1)
    held = ENTRIES - count(database, "shared")
    holding.kill()
    took = await until(lambda: count(database, "shared") == ENTRIES, SHORT_ACK_WAIT + 2)
    print(f"{held} messages of a killed replica stored after {took:.2f} s; ack wait is {SHORT_ACK_WAIT} s")  # noqa: T201 - a figure
    assert set(numbers(database, "shared").values()) == {1}


async def test_after_sigterm_all_it_held_is_stored_and_nothing_waits_for_ack_wait(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]
) -> None:
    holding = await a_replica_that_holds_its_part(start_replica, go, LONG_ACK_WAIT)
    held = ENTRIES - count(database, "shared")
    started = time.monotonic()
    holding.terminate()
    await until(lambda: count(database, "shared") == ENTRIES, 10)
    took = time.monotonic() - started
    print(f"{held} messages of a terminated replica stored after {took:.2f} s")  # noqa: T201 - a figure
    assert await anyio.to_thread.run_sync(holding.wait) == 0
    assert set(numbers(database, "shared").values()) == {1}
