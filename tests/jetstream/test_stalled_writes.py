"""A nats-server that reads nothing more while very much is to be written: whatever waits for it waits for seconds."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import nats.errors
import pytest
from anyio import create_task_group, move_on_after

from collector.jetstream.connection import FLUSH_TIMEOUT, close, connect
from collector.jetstream.link import DRAIN_TIMEOUT
from tests.chaos.proxy import Direction, Proxy
from tests.support.fakes import Reports
from tests.support.pulling import LINKS, pulling
from transfer.nats_settings import NatsSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from nats.aio.client import Client

    from collector.jetstream.connection import NatsConnection
    from collector.jetstream.link import Link
    from collector.local import NatsServer

LONG = 5 * (DRAIN_TIMEOUT + FLUSH_TIMEOUT)
"""Much longer than all deadlines together. The server is not found to be dead meanwhile, and never goes on."""
MANY = [(f"answers.{'x' * 1000}", b"+WPI")] * 4000


class Patient(NatsSettings):
    """Settings with which a stalled server counts as one that lives."""

    def keywords(self) -> dict[str, Any]:
        return {**super().keywords(), "ping_interval": 3600}


class Scene:
    """A connection, three pull subscriptions, and what is done on them."""

    def __init__(self, nats: NatsConnection, link: Link, proxy: Proxy) -> None:
        self.nats, self.link, self.proxy = nats, link, proxy
        self.pulls = [pulling(nats.connection, link, f"stalled{number}") for number in range(3)]

    async def open(self) -> None:
        for pull in self.pulls:
            await pull.open()
            await pull.ask(10, 1_000_000)
        await self.nats.connection.flush()

    async def stall(self) -> None:
        """Write until nothing goes out any more, and nats-py has more to write than it wants to."""
        self.proxy.stall(Direction.UP)
        while self.nats.connection.pending_data_size <= self.nats.connection._max_pending_size:
            with move_on_after(FLUSH_TIMEOUT / 4):
                await self.link.answer(MANY)

    async def subscribe(self) -> None:
        await self.link.subscribe("more.*", _nobody)

    async def end(self) -> None:
        await self.pulls[0].drain()

    async def listen_anew(self) -> None:
        await self.pulls[1].open_anew()

    async def answer_aside(self) -> None:
        pull = self.pulls[2]
        pull._aside.answers = [("answers.aside", b"-NAK")] * 1000
        await pull.answer_aside()

    async def ask_jetstream(self) -> None:
        with suppress(nats.errors.Error):
            await self.nats.connection.jetstream().account_info()


@asynccontextmanager
async def playing(server: NatsServer, make: Callable[[Client], Link]) -> AsyncIterator[Scene]:
    proxy = Proxy(server.port)
    async with create_task_group() as group:
        await group.start(proxy.serve)
        opened = await connect(Patient((f"nats://127.0.0.1:{proxy.port}",)), Reports())
        try:
            yield Scene(opened, make(opened.connection), proxy)
        finally:
            proxy.open()
            await close(opened.connection)
            group.cancel_scope.cancel()


CALLS: list[Callable[[Scene], Awaitable[None]]] = [
    *[Scene.subscribe] * 20,  # one after the other asks whether it is refused
    Scene.end,
    Scene.listen_anew,
    Scene.answer_aside,
    Scene.ask_jetstream,
]


@pytest.mark.parametrize("make", LINKS)
async def test_everything_that_is_shielded_from_a_cancellation_ends_by_itself(
    nats_server: NatsServer, make: Callable[[Client], Link]
) -> None:
    waiting: list[str] = []

    async def run(call: Callable[[Scene], Awaitable[None]]) -> None:
        waiting.append(call.__name__)
        await call(scene)
        waiting.remove(call.__name__)

    async with playing(nats_server, make) as scene:
        await scene.open()
        await scene.stall()
        with move_on_after(LONG):
            async with create_task_group() as group:
                for call in CALLS:
                    group.start_soon(run, call)
        assert waiting == []
        assert scene.nats.link.connected, "it counts as one that lives"


def _nobody(_: object) -> None:
    """Pass over what comes."""
