"""Reads are gathered while messages trickle: on every kind of connection, and never where somebody waits."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import Event, create_task_group, fail_after

from collector.jetstream.link import BulkLink
from tests.support.logins import tls_config
from tests.support.pulling import BODY, connected, quiet, written

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from nats.aio.client import Client

    from collector.jetstream.parser import AnyFrame
    from collector.local import NatsServer
    from tests.support.certificates import Authority

HOURS = 10_000.0
SUBJECT = "gathered.reads"


class Reads:
    """The sizes of the lists of frames that came, from a connection on which messages trickle."""

    def __init__(self, *, wakes: bool) -> None:
        self.sizes: list[int] = []
        self._wakes = wakes
        self._changed = Event()

    def receive(self, frames: Sequence[AnyFrame]) -> bool:
        self.sizes.append(len(frames))
        self._changed.set()
        self._changed = Event()
        return not self._wakes

    async def until(self, messages: int) -> None:
        while sum(self.sizes) < messages:
            await self._changed.wait()


class Scene:
    """A connection that is read, and another one that publishes to it."""

    def __init__(self, connection: Client, other: Client, reads: Reads) -> None:
        self.connection, self.other, self.reads = connection, other, reads

    async def publish(self, body: bytes = BODY) -> None:
        await self.other.publish(SUBJECT, body)
        await self.other.flush()


@asynccontextmanager
async def reading(server: NatsServer, seconds: float, *, wakes: bool = False, **options: Any) -> AsyncIterator[Scene]:
    reads = Reads(wakes=wakes)
    with fail_after(60):
        async with connected(server, error_cb=quiet, **options) as connection, connected(server, **options) as other:
            await BulkLink(connection, lambda: seconds).subscribe(SUBJECT, reads.receive)
            await written(connection)
            yield Scene(connection, other, reads)


async def of_kind(kind: str, own_nats: Callable[..., NatsServer], pki: Authority) -> tuple[NatsServer, dict[str, Any]]:
    if kind == "plain":
        return await anyio.to_thread.run_sync(own_nats), {}
    context = ssl.create_default_context(cafile=pki.path("ca.pem"))
    return await anyio.to_thread.run_sync(own_nats, tls_config(pki, verify=False)), {"tls": context}


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_what_trickles_in_during_the_wait_is_one_read(
    kind: str, own_nats: Callable[..., NatsServer], pki: Authority
) -> None:
    server, options = await of_kind(kind, own_nats, pki)
    async with reading(server, 3.0, **options) as scene:
        await scene.publish()
        await scene.reads.until(1)
        for _ in range(10):
            await scene.publish()
        await scene.reads.until(11)
        assert scene.reads.sizes == [1, 10]


async def test_what_wakes_somebody_is_followed_by_no_wait(nats_server: NatsServer) -> None:
    async with reading(nats_server, HOURS, wakes=True) as scene:
        for number in range(1, 11):
            await scene.publish()
            await scene.reads.until(number)


async def test_a_backlog_is_read_without_a_wait(nats_server: NatsServer) -> None:
    async with reading(nats_server, HOURS) as scene:
        for number in range(1, 11):
            await scene.publish(BODY * 1000)
            await scene.reads.until(number)


@pytest.mark.parametrize("asks", ["request", "flush"])
async def test_while_an_answer_is_awaited_nothing_is_gathered(nats_server: NatsServer, asks: str) -> None:
    async with reading(nats_server, HOURS) as scene, create_task_group() as group:
        answered = Event()

        async def ask() -> None:
            if asks == "request":
                await scene.connection.request("gathered.question", timeout=60)
            else:
                await scene.connection.flush()
            answered.set()

        questions = await scene.other.subscribe("gathered.question")
        await written(scene.other)
        group.start_soon(ask)
        if asks == "request":
            question = await questions.next_msg(timeout=60)
            for number in range(1, 6):
                await scene.publish()
                await scene.reads.until(number)
            await question.respond(b"yes")
        await answered.wait()


async def test_a_connection_that_waits_is_closed_at_once(nats_server: NatsServer) -> None:
    async with reading(nats_server, HOURS) as scene:
        await scene.publish()
        await scene.reads.until(1)
        await scene.connection.close()
        assert scene.connection.is_closed


async def test_a_connection_that_is_lost_during_the_wait_is_made_again(own_nats: Callable[..., NatsServer]) -> None:
    server = await anyio.to_thread.run_sync(own_nats)
    async with reading(server, 0.2) as scene:
        await scene.publish()
        await scene.reads.until(1)
        await anyio.to_thread.run_sync(server.kill)
        await anyio.to_thread.run_sync(server.start)
        for one in (scene.connection, scene.other):
            while not (one.stats["reconnects"] and one.is_connected):  # noqa: ASYNC110 - no event tells it
                await anyio.sleep(0.05)
        await written(scene.connection)
        for number in range(2, 5):
            await scene.publish()
            await scene.reads.until(number)
