"""The acts of the demo, while logs and orders flow: loggers come and go, a replica is killed, bad messages arrive."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyio import Event, create_task_group, current_time, move_on_after, sleep

from collector.demo.feeds import LogFeed, Publisher, Shop
from collector.demo.ledger import Ledger
from collector.demo.poison import bad_messages, send
from collector.errors import CollectorError
from transfer import ArchiveSpec, Found, Logger, UnknownLogger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import TaskGroup
    from nats.js import JetStreamContext

    from collector.demo.display import Display
    from collector.demo.found import Lookup
    from collector.demo.replica import Numbered, Replicas
    from collector.local import LocalServers
    from transfer import Transfer

NAMESPACE = "demo"
SETTINGS = {"MODE": "release", "COLLECTOR_ACK_WAIT": "5s", "COLLECTOR_SHUTDOWN_TIMEOUT": "15s"}
"""The settings of the replicas. Messages of a killed replica come again after the ack wait, so it is short."""

_MONGOD, _NATS, _COLLECTOR, _SHOP, _TRIAL, _PAYMENTS = "mongod", "nats", "collector", "shop", "trial", "payments"
_ORDERS, _ORDERS_A_SECOND = 6000, 500
_TRIAL_ENTRIES, _PAYMENTS_ENTRIES = 200, 100
_ARCHIVE = ArchiveSpec(window=2.0)
"""Orders are acked when both MongoDB and a file have them, so files are completed often."""
_WITHOUT_ONE = 1.0
_ARRIVAL_TIMEOUT = 40.0
_COUNT_PERIOD = 0.25
_LOOK = 0.01
_LOOK_AT_ALL = 0.25


class NotAsPromised(CollectorError):
    """The service broke a promise before the entries were compared."""


@dataclass(frozen=True, slots=True)
class Stand:
    """The servers and clients that the scenario uses."""

    servers: LocalServers
    replicas: Replicas
    transfer: Transfer
    jetstream: JetStreamContext
    lookup: Lookup
    display: Display


class Scenario:
    """The acts in their order. After `play` all replicas have ended, and the ledger has all confirmed entries."""

    def __init__(self, stand: Stand) -> None:
        self.ledger = Ledger()
        self._stand = stand
        self._publisher = Publisher(stand.transfer, self.ledger)
        self._quiet = Event()

    async def play(self) -> None:
        """Play all acts. Raises ProcessEnded, NotAsPromised and TransferError."""
        stand = self._stand
        with stand.display.stage("start two replicas of `collector run`"):
            first, second = await stand.replicas.start(2)
        async with create_task_group() as watching:
            watching.start_soon(stand.replicas.watch, name="watch")
            watching.start_soon(self._count, name="count")
            await self._declare()
            async with self._feeding(first, second) as (feeds, shop):
                await self._add_a_logger()
                await self._remove_a_logger()
                await self._send_bad_messages()
                await self._kill(first, shop, feeds)
                await self._publish_the_rest(shop)
            await self._see_all_arrive(first)
            watching.cancel_scope.cancel()
        with stand.display.stage("stop both replicas with SIGTERM") as stage:
            await stand.replicas.end()
            stage.add(": drained, exit status 0")

    async def _count(self) -> None:
        while True:
            self._stand.display.count(self.ledger.total, await self._stand.lookup.count(self.ledger.keys))
            await sleep(_COUNT_PERIOD)

    async def _declare(self) -> None:
        keys = (_MONGOD, _NATS, _COLLECTOR, _SHOP, _TRIAL)
        with self._stand.display.stage(f"declare the loggers {', '.join(keys)}") as stage:
            stage.add(f"; archive {_SHOP}")
            for key in keys:
                archive = _ARCHIVE if key == _SHOP else None
                await self._stand.transfer.set(Logger(key, description=f"the {key} of the demo", archive=archive))

    @asynccontextmanager
    async def _feeding(self, *replicas: Numbered) -> AsyncIterator[tuple[TaskGroup, Shop]]:
        """Publish live logs and orders while the block lasts, and the rest of the logs at its end."""
        servers = self._stand.servers
        shop = Shop(_SHOP, self._publisher, _ORDERS, _ORDERS_A_SECOND)
        async with create_task_group() as feeds:
            for key, server in ((_MONGOD, servers.mongod), (_NATS, servers.nats)):
                feed = LogFeed(key, server.name, server.log_path, self._publisher)
                feeds.start_soon(feed.run, self._quiet, name=feed.name)
            for replica in replicas:
                self._follow(replica, feeds)
            feeds.start_soon(shop.run, name=shop.name)
            yield feeds, shop

    def _follow(self, replica: Numbered, feeds: TaskGroup) -> None:
        feed = LogFeed(_COLLECTOR, replica.title, replica.log_path, self._publisher)
        feeds.start_soon(feed.run, self._quiet, name=feed.name)

    async def _add_a_logger(self) -> None:
        with self._stand.display.stage("add the logger payments") as stage:
            started = current_time()
            await self._stand.transfer.set(Logger(_PAYMENTS, description="added while all runs"))
            first = await self._stand.transfer.publish(_PAYMENTS, {"msg": "first of its kind"})
            self.ledger.confirm(_PAYMENTS, first.id)
            while not await self._stand.lookup.holds(_PAYMENTS, first.id):  # noqa: ASYNC110 - MongoDB tells nobody
                await sleep(_LOOK)
            stage.add(f": first document in MongoDB after {(current_time() - started) * 1000:.0f} ms")
            await self._publish(_PAYMENTS, _PAYMENTS_ENTRIES)

    async def _remove_a_logger(self) -> None:
        with self._stand.display.stage("remove the logger trial, drained first") as stage:
            await self._publish(_TRIAL, _TRIAL_ENTRIES)
            await self._stand.transfer.remove(_TRIAL, drain=True)
            try:
                await self._stand.transfer.publish(_TRIAL, {"msg": "too late"})
            except UnknownLogger:
                stage.add(": publishing to it is refused now")
            else:
                raise NotAsPromised("expected a publish to a removed logger to be refused, got a confirmation")

    async def _publish(self, key: str, entries: int) -> None:
        async with create_task_group() as group:
            for number in range(entries):
                group.start_soon(self._publisher.publish, key, {"msg": "one of many", "number": number}, {})

    async def _send_bad_messages(self) -> None:
        messages = bad_messages()
        with self._stand.display.stage(f"send {len(messages)} bad messages to shop, among the good ones"):
            await send(messages, _SHOP, self._stand.transfer, self._stand.jetstream, self.ledger)

    async def _kill(self, replica: Numbered, shop: Shop, feeds: TaskGroup) -> None:
        stand = self._stand
        with stand.display.stage(f"kill {replica.title} with SIGKILL half-way through {_ORDERS:,} orders"):
            await shop.halfway.wait()
            stand.replicas.kill(replica)
        with stand.display.stage("a moment later, start replica 3 in its place"):
            await sleep(_WITHOUT_ONE)
            (another,) = await stand.replicas.start(1)
            self._follow(another, feeds)

    async def _publish_the_rest(self, shop: Shop) -> None:
        with self._stand.display.stage("publish the other orders, and what the live logs say meanwhile"):
            await shop.finished.wait()
            self._quiet.set()

    async def _see_all_arrive(self, killed: Numbered) -> None:
        """Wait until no entry is missing and no message is unanswered, for a limited time; the table shows the rest."""
        with self._stand.display.stage("wait for the last") as stage:
            with move_on_after(_ARRIVAL_TIMEOUT) as patience:
                while await self._waiting() or await self._missing():  # noqa: ASYNC110 - nor does JetStream
                    await sleep(_LOOK_AT_ALL)
            if patience.cancelled_caught:
                stage.add(f": not all have arrived after {_ARRIVAL_TIMEOUT:.0f} s")
            else:
                again = await self._stand.replicas.redelivered()
                stage.add(f": {again} messages of {killed.title} were delivered again")

    async def _waiting(self) -> int:
        """Return the number of unanswered messages in all streams."""
        loggers = await self._stand.transfer.list()
        return sum(one.stream.messages for one in loggers if isinstance(one, Found) and one.stream)

    async def _missing(self) -> int:
        """Return the number of confirmed entries that are not in MongoDB."""
        found = await self._stand.lookup.find(self.ledger.keys)
        return sum(row.missing for row in self.ledger.compare(found))
