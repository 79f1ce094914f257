"""Both links on a real nats-server. What the fast one uses of nats-py is private: a change there fails here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anyio import fail_after

from collector.jetstream.link import BulkLink, PlainLink, open_link
from collector.jetstream.messages import PullStatus, read_status
from collector.jetstream.parser import BulkParser, Frame
from tests.support.pulling import BODY, LINKS, Inbox, connected, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.client import Client

    from collector.jetstream.link import Link
    from collector.local import NatsServer


async def test_this_nats_py_has_the_names_that_the_fast_link_needs_and_the_fast_link_is_chosen(
    nats_server: NatsServer,
) -> None:
    with fail_after(60):
        async with connected(nats_server) as connection:
            link = open_link(connection)
            assert isinstance(link, BulkLink)
            assert isinstance(connection._ps, BulkParser)
            inbox = Inbox()
            subscribed = await link.subscribe("bulk.names", inbox.receive)
            assert list(connection._subs) == [subscribed._subscription._id]  # type: ignore[attr-defined]
            await connection.publish("bulk.names", b"taken in bulk")
            await inbox.until(1)
            assert connection._subs[1].delivered == 0, "nats-py has not seen it"


@pytest.mark.parametrize("name", ["_send_command", "_flush_pending", "_process_msg", "_ps"])
async def test_without_one_of_these_names_the_plain_link_is_chosen(name: str) -> None:
    known = dict.fromkeys(("_send_command", "_flush_pending", "_process_msg", "_ps"))
    del known[name]
    link = open_link(type("Changed", (), known)())
    assert type(link) is PlainLink


@pytest.mark.parametrize("make", LINKS)
async def test_both_links_give_the_same_frames(nats_server: NatsServer, make: Callable[[Client], Link]) -> None:
    with fail_after(60):
        async with connected(nats_server) as connection, connected(nats_server) as other:
            link, inbox = make(connection), Inbox()
            await link.subscribe("frames.*", inbox.receive)
            await written(connection)
            await other.publish("frames.a", b"")
            await other.publish("frames.b", BODY, reply="back")
            await other.publish("frames.c", b"with", headers={"Content-Type": "text", "X": "ü"})
            await other.publish("frames.d", b"x" * 500_000)
            assert await inbox.until(4) == [
                Frame(b"frames.a", b"", b"", b""),
                Frame(b"frames.b", b"back", b"", BODY),
                Frame(b"frames.c", b"", "NATS/1.0\r\nContent-Type: text\r\nX: ü\r\n\r\n".encode(), b"with"),
                Frame(b"frames.d", b"", b"", b"x" * 500_000),
            ]
            assert (await connection.request("$JS.API.INFO")).data, "nats-py's own subscriptions go on"


@pytest.mark.parametrize("make", LINKS)
async def test_nobody_who_answers_is_a_status(nats_server: NatsServer, make: Callable[[Client], Link]) -> None:
    with fail_after(60):
        async with connected(nats_server) as connection:
            link, inbox = make(connection), Inbox()
            await link.subscribe("status.inbox.*", inbox.receive)
            await link.publish("status.nobody", b"", "status.inbox.1")
            (frame,) = await inbox.until(1)
            assert frame.subject == b"status.inbox.1"
            assert read_status(frame.raw_headers)[0] is PullStatus.NOBODY_ANSWERS


@pytest.mark.parametrize("make", LINKS)
async def test_after_a_drain_nothing_comes_any_more(nats_server: NatsServer, make: Callable[[Client], Link]) -> None:
    with fail_after(60):
        async with connected(nats_server) as connection, connected(nats_server) as other:
            link, inbox = make(connection), Inbox()
            subscribed = await link.subscribe("drained.*", inbox.receive)
            await written(connection)
            for number in range(1000):
                await other.publish(f"drained.{number}", BODY)
            await written(other)
            await subscribed.drain()
            assert len(inbox.frames) == 1000
            await other.publish("drained.after", BODY)
            await written(other)
            await written(connection)
            assert len(inbox.frames) == 1000
            assert connection._subs == {}


@pytest.mark.parametrize("make", LINKS)
async def test_answers_are_all_sent_in_order(
    nats_server: NatsServer, namespace: str, make: Callable[[Client], Link]
) -> None:
    with fail_after(60):
        async with connected(nats_server) as connection, connected(nats_server) as other:
            inbox = Inbox()
            await PlainLink(other).subscribe(f"{namespace}.answers.*", inbox.receive)
            await written(other)
            answers = [(f"{namespace}.answers.{number}", b"+TERM %d" % number) for number in range(500)]
            assert await make(connection).answer(answers) == 0
            assert await make(connection).answer([]) == 0
            assert [frame.body for frame in await inbox.until(500)] == [body for _, body in answers]
