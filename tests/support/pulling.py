"""A durable on a server, filled and pulled from by hand."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from collector.decoding.identity import Incarnation
from collector.flow.in_hand import InHand
from collector.jetstream.link import BulkLink, PlainLink
from collector.jetstream.pace import Pace
from collector.jetstream.parser import AnyFrame, Frame
from collector.jetstream.pull import Pull
from collector.jetstream.source import Attached
from collector.runtime.latch import Latch
from transfer.jetstream.connection import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from collector.jetstream.link import Link
    from collector.local import NatsServer


LINKS = [BulkLink, PlainLink]


class Inbox:
    """What came, to be waited for."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self._changed = anyio.Event()

    def receive(self, frames: Sequence[AnyFrame]) -> None:
        self.frames += [Frame(*one) for one in frames]
        self._changed.set()
        self._changed = anyio.Event()

    async def until(self, count: int) -> list[Frame]:
        while len(self.frames) < count:
            await self._changed.wait()
        return self.frames


BODY = b"x" * 100


@asynccontextmanager
async def connected(server: NatsServer, **options: Any) -> AsyncIterator[Client]:
    connection = Connection()  # nats-py's own leaves a socket open when a reconnect fails half-way
    try:
        policy: dict[str, Any] = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.05}
        await connection.connect(server.url, **policy, **options)
        yield connection
    finally:
        with anyio.move_on_after(5, shield=True):
            await connection.close()


async def written(connection: Client) -> None:
    """Wait until the server has read all that was sent: nats-py's first PING overtakes it."""
    for _ in range(2):
        await connection.flush()


@asynccontextmanager
async def durable(server: NatsServer, name: str, **config: Any) -> AsyncIterator[JetStreamContext]:
    """Make a work-queue stream of that name with a pull durable of the same name."""
    async with connected(server) as connection:
        jetstream = connection.jetstream()
        await jetstream.add_stream(name=name, subjects=[f"{name}.>"], retention="workqueue")
        wanted = {"durable_name": name, "ack_policy": "explicit", "max_ack_pending": 100_000, **config}
        subject = f"$JS.API.CONSUMER.CREATE.{name}.{name}"
        await connection.request(subject, msgspec.json.encode({"stream_name": name, "config": wanted}))
        try:
            yield jetstream
        finally:
            await jetstream.delete_stream(name)


async def fill(jetstream: JetStreamContext, name: str, bodies: Sequence[bytes]) -> None:
    for body in bodies:
        await jetstream.publish(f"{name}.log", body)


def pulling(connection: Client, link: Link, name: str, in_hand: InHand | None = None) -> Pull:
    return Pull(
        link,
        Attached(Incarnation(name, ""), name, name, 30.0),
        inbox=connection.new_inbox(),
        in_hand=InHand() if in_hand is None else in_hand,
        clock=anyio.current_time,
        pace=Pace(shortest=0.2),
    )


def came(pull: Pull, messages: int) -> bool:
    return len(pull._deliveries) >= messages


async def until(pull: Pull, enough: Callable[[], bool]) -> None:
    while not enough():
        await pull.changed.wait()
        pull.changed = Latch()


async def quiet(_: Exception) -> None:
    """Say nothing of a server that is down: it is meant to be."""
