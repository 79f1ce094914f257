"""A connection that has ended under its writer, before anybody has read that: writing is an ordinary loss of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import fail_after

from collector.jetstream.link import BulkLink, PlainLink
from collector.runtime.loop import new_event_loop
from tests.transfer.noted import connected, works
from tests.transfer.scripted import scripted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.aio.client import Client

    from collector.jetstream.link import Link

pytestmark = pytest.mark.timeout(120)


async def _answer(link: Link, _: Client) -> None:
    await link.answer([("reply", b"+ACK")] * 3)


async def _answer_much(link: Link, _: Client) -> None:
    await link.answer([("reply", b"x" * 1000)] * 3000)


async def _publish(link: Link, _: Client) -> None:
    await link.publish("subject", b"payload", "reply")


async def _subscribe(link: Link, _: Client) -> None:
    await (await link.subscribe("subject", lambda _: None)).drain()


async def _flush(_: Link, connection: Client) -> None:
    await connection.publish("subject", b"payload")
    await connection._flush_pending(force_flush=True)


WAYS = [_answer, _answer_much, _publish, _subscribe, _flush]
LOOPS = [asyncio.new_event_loop, new_event_loop]


@pytest.mark.parametrize("flusher", ["alive", "ended"])
@pytest.mark.parametrize("make", [PlainLink, BulkLink])
@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "service"])
@pytest.mark.parametrize("write", WAYS, ids=[way.__name__[1:] for way in WAYS])
def test_writing_raises_nothing_of_the_loop_and_the_connection_is_made_anew(
    write: Callable[[Link, Client], Awaitable[None]],
    loop: Callable[[], Any],
    make: Callable[[Client], Link],
    flusher: str,
) -> None:
    async def play() -> None:
        async with scripted() as server, connected(server) as noted:
            connection = noted.connection
            link = make(connection)
            if flusher == "ended" and connection._flusher_task is not None:
                connection._flusher_task.cancel()
                await asyncio.wait([connection._flusher_task])
            assert connection._transport is not None
            writer: asyncio.StreamWriter = vars(connection._transport)["_io_writer"]
            writer.transport.abort()
            assert connection.is_connected, "nobody has read the end yet"
            with fail_after(20):
                await write(link, connection)
            await server.until(lambda: noted.back == 1)
            await works(server, noted)
            assert noted.closed == 0

    anyio.run(play, backend_options={"loop_factory": loop})
