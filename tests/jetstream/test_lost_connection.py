"""What was to be said on a NATS connection is not said on the next one, which may know the same subjects otherwise."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import fail_after
from nats.aio.client import Client

from collector.events import lifecycle
from collector.jetstream.connection import close, connect
from collector.jetstream.link import PlainLink
from tests.support.fakes import Reports
from tests.support.pulling import LINKS, Inbox, connected, quiet, written
from transfer.jetstream.connection import Connection
from transfer.nats_settings import NatsSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.jetstream.link import Link
    from collector.local import NatsServer


@pytest.mark.parametrize("make", LINKS)
async def test_while_disconnected_no_answer_is_sent_also_not_when_connected_again(
    own_nats: Callable[[], NatsServer], make: Callable[[Client], Link]
) -> None:
    """On the next connection the same subject may be that of another message."""
    server, reports = own_nats(), Reports()
    with fail_after(30):
        nats = await connect(NatsSettings((server.url,)), reports)
        try:
            link, inbox, life = make(nats.connection), Inbox(), 0
            life = link.life
            await link.subscribe("answers.*", inbox.receive)
            await written(nats.connection)
            nats.connection._flush_pending = _waiting  # type: ignore[method-assign]
            flushes, nats.connection._flush_queue = nats.connection._flush_queue, asyncio.Queue()  # noqa: TID251 - as nats-py has it
            assert await link.answer([("answers.waits", b"+ACK")]) == 0
            await anyio.to_thread.run_sync(server.stop)
            await reports.until(lambda: reports.of(lifecycle.ConnectionChanged)[-1].connected is False)
            del nats.connection._flush_pending
            nats.connection._flush_queue = flushes
            answers = [(f"answers.{number}", b"+ACK") for number in range(200)]
            assert (link.connected, await link.answer(answers)) == (False, 200)
            await anyio.to_thread.run_sync(server.start)
            await reports.until(lambda: reports.of(lifecycle.ConnectionChanged)[-1].connected)
            assert (link.connected, link.life > life) == (True, True)
            assert await link.answer(answers[:3]) == 0
            await inbox.until(3)
            assert [frame.subject for frame in inbox.frames] == [b"answers.0", b"answers.1", b"answers.2"]
        finally:
            await close(nats.connection)
        assert await link.answer(answers) == 200, "closed"


async def _waiting(force_flush: bool = False) -> None:
    """Leave what is to be written where it is, as a server does that reads nothing."""


class _Watched(Connection):
    """Says at which count of reconnects anybody else could first see it connected."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        super().__init__()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "_status" and value == Client.CONNECTED:
            asyncio.get_running_loop().call_soon(lambda: self.seen.append(PlainLink(self).life))


async def test_a_connection_is_another_one_as_soon_as_it_is_there(own_nats: Callable[[], NatsServer]) -> None:
    server, connection, again = own_nats(), _Watched(), anyio.Event()

    async def tell() -> None:
        again.set()

    with fail_after(30):
        try:
            await connection.connect(server.url, reconnected_cb=tell, error_cb=quiet)
            await connection.flush()
            assert set(connection.seen) == {0}
            connection.seen.clear()
            await anyio.to_thread.run_sync(server.restart)
            await again.wait()
        finally:
            await connection.close()
    assert set(connection.seen) == {1}


@pytest.mark.parametrize("make", LINKS)
async def test_answers_that_a_lost_connection_cuts_are_told_from_those_before(
    own_nats: Callable[[], NatsServer], make: Callable[[Client], Link]
) -> None:
    """Of the plain link's some were sent; of the fast one's nobody knows, and all count as not sent.

    The fast one waits for room in nats-py's buffer here.
    """
    server = own_nats()
    with fail_after(30):
        async with connected(server, error_cb=quiet) as connection:
            link = make(connection)
            publish, flush = connection.publish, connection._flush_pending

            async def lost() -> None:
                connection._flush_pending = flush  # type: ignore[method-assign]
                await connection._process_op_err(OSError("cut"))

            async def publish_some(subject: str, payload: bytes) -> None:
                await publish(subject, payload)
                if subject == "answers.6":
                    await lost()

            async def lost_in_flush(force_flush: bool = False) -> None:
                await lost()

            if make is PlainLink:
                connection.publish = publish_some  # type: ignore[method-assign, assignment]
            else:
                connection._flush_pending = lost_in_flush  # type: ignore[method-assign]
                connection._max_pending_size = 1
            unsent = await link.answer([(f"answers.{number}", b"+ACK") for number in range(10)])
            assert unsent == (3 if make is PlainLink else 10)
