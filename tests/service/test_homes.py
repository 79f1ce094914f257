"""Each logger's messages go to its home among the replicas, and on at once when the home dies, freezes or is full.

Nothing is delivered twice within these tests: the ack wait is ten minutes. So what arrives was given out once.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import fail_after, to_thread

from collector.local import Replica
from tests.support.ancestor import ancestor, entry
from tests.support.waiting import until
from transfer.jetstream.streams import ensure_bucket
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from collector.local import NatsServer
    from tests.support.ancestor import Ancestor

pytestmark = pytest.mark.timeout(240)
SETTINGS = {
    "COLLECTOR_SINK": "blackhole",
    "COLLECTOR_ACK_WAIT": "600s",
    "COLLECTOR_BATCH_ENTRIES": "100",
    "COLLECTOR_BATCH_AGE": "10ms",
}
KEYS = [f"logger{number}" for number in range(8)]


class Fleet:
    """Replicas of one namespace, whose entries go nowhere."""

    def __init__(self, nats: NatsServer, namespace: str, stack: ExitStack) -> None:
        self._nats, self._namespace, self._stack = nats, namespace, stack
        self.replicas: list[Replica] = []

    async def start(self, count: int) -> None:
        for _ in range(count):
            folder = self._stack.enter_context(TemporaryDirectory(prefix="replica-"))
            settings = {**SETTINGS, "COLLECTOR_FILES": folder}
            replica = Replica(Path(folder), self._namespace, self._nats, None, settings)
            self._stack.callback(replica.kill)
            await to_thread.run_sync(self._stack.enter_context, replica)
            self.replicas.append(replica)
        await until(lambda: all(len(replica.status["replicas"]) == len(self.replicas) for replica in self.replicas), 60)

    def received(self) -> dict[str, list[int]]:
        """Return what each of the replicas has received of each logger."""
        loggers = [replica.status["loggers"] for replica in self.replicas]
        return {key: [one.get(key, {}).get("received", 0) for one in loggers] for key in KEYS}

    async def round(self, go: Ancestor) -> dict[str, list[int]]:
        """Publish an entry to each logger, and again when it has come; return who was given how many of five each."""
        before = await to_thread.run_sync(self.received)
        for number in range(5):
            for key in KEYS:
                await go.publish(key, [entry(number)])
            await until(lambda: self._came(before) >= (number + 1) * len(KEYS), 60)  # noqa: B023
        after = await to_thread.run_sync(self.received)
        return {key: [now - then for now, then in zip(after[key], before[key], strict=True)] for key in KEYS}

    def _came(self, before: dict[str, list[int]]) -> int:
        return sum(map(sum, self.received().values())) - sum(map(sum, before.values()))

    async def until_each_has_a_home(self, go: Ancestor) -> dict[str, int]:
        """Publish until all messages of each logger go to one replica; return which one that is."""
        with fail_after(120):
            found = await self.round(go)
            while any(sorted(given)[-2:] not in ([0, 5], [5]) for given in found.values()):
                found = await self.round(go)
        return {key: given.index(5) for key, given in found.items()}


@pytest.fixture
def fleet(nats_server: NatsServer, namespace: str) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(nats_server, namespace, stack)


def homes(replica: Replica) -> set[str]:
    return {key for key, logger in replica.status["loggers"].items() if logger["home"]}


async def test_homes_hold_when_replicas_come_die_and_freeze(
    fleet: Fleet, nats_server: NatsServer, namespace: str
) -> None:
    async with ancestor(nats_server.url, namespace) as go:
        await ensure_bucket(go.jetstream, Names(namespace))
        for key in KEYS:
            await go.declare(key)
        await fleet.start(3)
        given = await fleet.until_each_has_a_home(go)
        for number, replica in enumerate(fleet.replicas):
            assert {key for key, home in given.items() if home == number} == homes(replica)
            assert replica.metric("collector_homes") == len(homes(replica))
        # a killed home: its connection is cut, and the others get the next messages at once
        fleet.replicas.sort(key=lambda replica: len(homes(replica)))
        await to_thread.run_sync(fleet.replicas.pop().kill)
        await fleet.round(go)
        await fleet.until_each_has_a_home(go)
        # a frozen home: the server does not notice, the other replica does
        frozen, other = fleet.replicas
        moved = await to_thread.run_sync(homes, frozen)
        os.kill(frozen.pid, signal.SIGSTOP)
        fleet.replicas = [other]
        before, published = await to_thread.run_sync(fleet.received), 0
        with fail_after(100):
            while not all(fleet.received()[key] > before[key] for key in moved):
                for key in moved:
                    await go.publish(key, [entry(0)])
                published += 1
                await anyio.sleep(0.2)
        os.kill(frozen.pid, signal.SIGCONT)
        fleet.replicas = [frozen, other]
        await until(lambda: len(frozen.status["replicas"]) == 2, 30)
        await fleet.until_each_has_a_home(go)


async def test_a_backlog_is_shared_by_all_replicas_and_so_is_a_logger_that_one_cannot_follow(
    fleet: Fleet, nats_server: NatsServer, namespace: str
) -> None:
    async with ancestor(nats_server.url, namespace) as go:
        await ensure_bucket(go.jetstream, Names(namespace))
        await go.declare(KEYS[0])
        await fleet.start(2)
        body = entry(0)
        for _ in range(40):
            await go.publish(KEYS[0], [body] * 500)
        await until(lambda: sum(fleet.received()[KEYS[0]]) >= 20_000, 60)
        assert min(fleet.received()[KEYS[0]]) > 1000, fleet.received()[KEYS[0]]


@pytest.fixture
def divided(own_nats: Callable[..., NatsServer], namespace: str) -> NatsServer:
    """Give a server whose one user may do everything but beat."""
    denied = f'publish: {{ deny: "{namespace}.replicas" }}'
    return own_nats(
        f"accounts {{ A {{ jetstream: enabled, users: [ {{ user: u, password: p, permissions: {{ {denied} }} }} ] }} }}"
    )


async def test_replicas_that_may_not_beat_share_every_logger_and_say_why(divided: NatsServer, namespace: str) -> None:
    login = {"NATS_USER": "u", "NATS_PASSWORD": "p"}
    with ExitStack() as stack:
        replicas = []
        for _ in range(2):
            folder = stack.enter_context(TemporaryDirectory(prefix="replica-"))
            settings = {**SETTINGS, **login, "COLLECTOR_FILES": folder}
            replicas.append(stack.enter_context(Replica(Path(folder), namespace, divided, None, settings)))
        async with ancestor(divided.url.replace("//", "//u:p@"), namespace) as go:
            await go.declare("system")
            said = "no logger is at home on this replica"
            await until(lambda: all(said in replica.log_path.read_text() for replica in replicas), 60)
            await until(lambda: all("system" in replica.status["loggers"] for replica in replicas), 60)
            for number in range(20):
                await go.publish("system", [entry(number)])
            await until(lambda: sum(_received(replica) for replica in replicas) == 20, 60)
            assert min(_received(replica) for replica in replicas) > 0
            assert [replica.log_path.read_text().count(said) for replica in replicas] == [1, 1]


def _received(replica: Replica) -> int:
    return int(replica.status["loggers"]["system"]["received"])
