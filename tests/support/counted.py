"""A replica in this process between real servers, and counts of what it does and of what reaches the servers."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anyio import create_task_group, sleep, to_thread

from bench import declaring
from bench.entries import Form, Traffic
from bench.waiting import until, until_consuming
from bench.wire import wired
from collector.app import Service
from collector.events import BatchSettled
from collector.jetstream import gathered_reads
from collector.jetstream.parser import BulkParser
from collector.jetstream.pull import Pull
from collector.local.server import http_get
from collector.telemetry.observers import Observers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

    from bench.stand import Space
    from bench.wire import Wire
    from collector.local import NatsServer
    from collector.settings import Settings

READS, WAKE_UPS, EVENTS = "reads of the socket", "wake-ups of consumers", "events"
TO_NATS, INSERTS, COMMANDS = "messages to nats-server", "inserts into MongoDB", "commands to MongoDB"
FROM_NATS, DELIVERIES, WRITTEN = "messages from nats-server", "deliveries", "entries written"
_ACK = b"$JS.ACK."
"""Each delivery has it. Heartbeats, which come with time, have not."""
_LOOK, _LOOK_AT_SERVERS = 0.002, 0.02
_TRAFFIC = Traffic(Form.CLIENT, 300)
_OTHERS = {"hello", "isMaster", "ping", "serverStatus", "connectionStatus", "listCollections"}
"""Commands that come with time, and of this test."""


class Pause:
    """Stands in for the pause between two reads: it lasts until all that was sent has come to the kernel."""

    def __init__(self) -> None:
        self.lasts = False
        self.is_on = False

    async def __call__(self, _seconds: float) -> None:
        """Wait while it lasts."""
        self.is_on = True
        while self.lasts:  # noqa: ASYNC110 - it is another thread that ends it
            await sleep(_LOOK)
        self.is_on = False


class Counts(Counter[str]):
    """What the replica of this process has done, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.pause = Pause()

    def of(self, patch: pytest.MonkeyPatch) -> None:
        """Count from now on."""
        self._count(patch, BulkParser, "parse", lambda _, data: {READS: int(_ACK in data)})
        patch.setattr(gathered_reads, "sleep", self.pause)
        self._count(patch, Pull, "receive", lambda _, frames: {DELIVERIES: sum(_ACK in one[1] for one in frames)})
        self._count(patch, Pull, "take", lambda _: {WAKE_UPS: 1})
        self._count(patch, Observers, "__call__", lambda _, event: {EVENTS: 1, WRITTEN: _written(event)})

    def _count(self, patch: pytest.MonkeyPatch, owner: type, name: str, count: Callable[..., dict[str, int]]) -> None:
        original = getattr(owner, name)

        def counted(*arguments: Any) -> Any:
            self.update(count(*arguments))
            return original(*arguments)

        patch.setattr(owner, name, counted)


def _written(event: object) -> int:
    return event.written if isinstance(event, BatchSettled) else 0


@dataclass(frozen=True)
class Trickle:
    """Loggers, each of which gets an entry in each round.

    An entry is sent when the one before has come, or when the replica pauses between two reads, so that time counts for
    nothing. Such a pause ends when nats-server has handed out all entries of the round.
    """

    space: Space
    nats: NatsServer
    http: int
    """The port at which nats-server counts."""
    keys: Sequence[str]
    counts: Counts

    def declare(self) -> None:
        """Make streams and declare the loggers."""
        declaring.make_streams(self.nats, self.space, self.keys)
        with wired(self.nats.port) as wire:
            declaring.put(wire, self.space, self.keys)

    def publish(self, rounds: int) -> Counter[str]:
        """Publish when all loggers are consumed, and return the counts from then on until all entries are acked."""
        entries = rounds * len(self.keys)
        with wired(self.nats.port) as wire:
            until_consuming(wire, self.space, self.keys)
            before = self._counted()
            for number in range(rounds):
                self._publish_round(wire, before, number * len(self.keys))
        until(lambda: self.counts[WRITTEN] >= entries, f"{entries} entries to be written", _LOOK)
        self._wait_for_servers(before, TO_NATS, entries)
        after = self._counted()
        after.subtract(before)
        return after

    def _publish_round(self, wire: Wire, before: Counter[str], first: int) -> None:
        pause = self.counts.pause
        pause.lasts = True
        for number, key in enumerate(self.keys, first):
            wire.send(_TRAFFIC.command(self.space.names.subject(key).encode(), number))
            self._wait_for_replica(before[DELIVERIES] + number + 1, or_pause=True)
        self._wait_for_servers(before, FROM_NATS, first + len(self.keys))
        pause.lasts = False
        self._wait_for_replica(before[DELIVERIES] + first + len(self.keys))

    def _wait_for_replica(self, deliveries: int, *, or_pause: bool = False) -> None:
        counts = self.counts
        until(
            lambda: counts[DELIVERIES] >= deliveries or (or_pause and counts.pause.is_on),
            f"{deliveries} messages to come",
            _LOOK,
        )

    def _wait_for_servers(self, before: Counter[str], name: str, count: int) -> None:
        until(lambda: self._counted()[name] - before[name] >= count, f"{count} {name}", _LOOK_AT_SERVERS)

    def _counted(self) -> Counter[str]:
        connections = json.loads(http_get(self.http, "/connz")[1])["connections"]
        (ours,) = [one for one in connections if one.get("name") == "collector"]
        commands = self.space.database.client.admin.command("serverStatus")["metrics"]["commands"]
        totals = {name: one["total"] for name, one in commands.items() if isinstance(one, dict) and name not in _OTHERS}
        nats = {TO_NATS: ours["in_msgs"], FROM_NATS: ours["out_msgs"]}
        return Counter(nats | {INSERTS: totals["insert"], COMMANDS: sum(totals.values())}) + self.counts


async def beside_a_replica(settings: Settings, do: Callable[[], Counter[str]]) -> Counter[str]:
    """Run a replica in this thread's event loop, do something in another thread, and return what came of it."""
    service, came = Service(settings), Counter[str]()
    async with create_task_group() as group:
        group.start_soon(service.run)
        try:
            came = await to_thread.run_sync(do)
        finally:
            service._stop("the test is over")
    return came
