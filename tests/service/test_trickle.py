"""What a trickle costs, counted: 1,000 entries over 100 loggers, one at a time to each, through a whole replica.

A batch leaves when it has ten entries and never by its age, and the next entries are published when those before have
come. So no count depends on time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from anyio import fail_after, to_thread
from pymongo import MongoClient

from bench.stand import Space
from collector.local.server import free_port
from collector.settings import Settings
from tests.support import counted
from tests.support.counted import Counts, Trickle, beside_a_replica
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from collector.local import Mongod, NatsServer

LOGGERS, ROUNDS = 100, 10
ENTRIES = LOGGERS * ROUNDS


class Ceiling(NamedTuple):
    """The most that a count may be, and the change of the code that it finds."""

    most: int
    finds: str


CEILINGS = {
    counted.INSERTS: Ceiling(100, "batches leave before they are full or old enough"),
    counted.COMMANDS: Ceiling(120, "MongoDB is asked something for each batch or each logger"),
    counted.TO_NATS: Ceiling(1600, "requests are made for few messages, or acks are sent twice"),
    counted.READS: Ceiling(180, "reads are not gathered while no consumer is woken"),
    counted.WAKE_UPS: Ceiling(130, "a consumer is woken for each message, and not for each batch"),
    counted.EVENTS: Ceiling(800, "metrics, status and log are told of each message, and not of each batch"),
}
"""More than were counted: 100, 100, 1,200 to 1,284, 29 to 129, 100 to 111, 400 to 720. Requests and events come with
time, too."""


async def test_a_trickle_takes_no_more_steps_than_it_did(
    namespace: str, own_nats: Callable[..., NatsServer], mongod: Mongod, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, counts = free_port(), Counts()
    nats = own_nats(f'http: "127.0.0.1:{port}"')
    settings = {
        "NAMESPACE": namespace,
        "NATS_HOSTS": nats.url,
        "DATABASE": mongod.url,
        "COLLECTOR_HTTP": "127.0.0.1:0",
        "COLLECTOR_BATCH_AGE": "1h",
        "COLLECTOR_BATCH_AGE_LIMIT": "1h",
        "COLLECTOR_BATCH_ENTRIES": str(ROUNDS),
        "COLLECTOR_ACK_WAIT": "1h",
        "COLLECTOR_LAG_PERIOD": "1h",
    }
    counts.of(monkeypatch)
    with MongoClient[dict[str, Any]](mongod.url) as client, fail_after(150):
        space = Space(Names(namespace), client[namespace])
        trickle = Trickle(space, nats, port, [f"logger-{number:03}" for number in range(LOGGERS)], counts)
        await to_thread.run_sync(trickle.declare)
        found = await beside_a_replica(Settings.read(settings), lambda: trickle.publish(ROUNDS))
    print({name: found[name] for name in CEILINGS})  # noqa: T201 - figures
    for name, ceiling in CEILINGS.items():
        assert found[name] <= ceiling.most, (
            f"expected at most {ceiling.most} {name}, got {found[name]}: {ceiling.finds}"
        )
