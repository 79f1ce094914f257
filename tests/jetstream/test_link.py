"""Both links on a real nats-server. What the fast one uses of nats-py is private: a change there fails here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anyio import create_task_group, fail_after, to_thread

from collector.jetstream.link import _PRIVATE_NAMES, BulkLink, PlainLink, Subscribed, open_link
from collector.jetstream.messages import PullStatus, read_status
from collector.jetstream.parser import BulkParser, Frame
from tests.support.pulling import BODY, LINKS, Inbox, connected, written
from transfer.errors import Unavailable

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


@pytest.mark.parametrize("name", _PRIVATE_NAMES)
async def test_without_one_of_these_names_the_plain_link_is_chosen(name: str) -> None:
    known = dict.fromkeys(_PRIVATE_NAMES)
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


async def test_answers_wait_for_nothing_but_room_in_the_buffer_of_nats_py(
    nats_server: NatsServer, namespace: str
) -> None:
    with fail_after(60):
        async with connected(nats_server) as connection, connected(nats_server) as other:
            inbox, link = Inbox(), BulkLink(connection)
            await PlainLink(other).subscribe(f"{namespace}.answers.*", inbox.receive)
            await written(other)
            answers = [(f"{namespace}.answers.{number}", b"+ACK") for number in range(200)]
            room, connection._max_pending_size = connection._max_pending_size, 1000
            assert link.answer_at_once(answers) is None
            assert link.answer_at_once([]) == 0
            assert await link.answer(answers[:100]) == 0
            connection._max_pending_size = room
            assert [link.answer_at_once([answer]) for answer in answers[100:]] == [0] * 100
            subjects = [frame.subject.decode() for frame in await inbox.until(200)]
        assert subjects == [subject for subject, _ in answers], "all of them, once, in order"
        assert link.answer_at_once(answers) == 200, "without a connection none is sent"


@pytest.mark.parametrize("loggers", [100, 200])
async def test_subscriptions_that_begin_or_end_together_share_a_question_to_the_server(
    nats_server: NatsServer, loggers: int
) -> None:
    """One question for each would let 10,000 loggers wait for each other at the start and at the end."""
    inboxes, subscribed = [Inbox() for _ in range(loggers)], list[Subscribed]()
    with fail_after(60):
        async with connected(nats_server) as connection, connected(nats_server) as other:
            link, flush, flushes = BulkLink(connection), connection.flush, list[int]()

            async def flush_and_count(timeout: int = 10) -> None:
                flushes.append(timeout)
                await flush(timeout)

            async def subscribe(number: int) -> None:
                subscribed.append(await link.subscribe(f"together.{number}.*", inboxes[number].receive))

            connection.flush = flush_and_count  # type: ignore[method-assign]
            async with create_task_group() as group:
                for number in range(loggers):
                    group.start_soon(subscribe, number)
            assert len(flushes) <= 2
            for number in range(loggers):
                await other.publish(f"together.{number}.x", b"%d" % number)
            for number, inbox in enumerate(inboxes):
                assert [frame.body for frame in await inbox.until(1)] == [b"%d" % number]
            flushes.clear()
            async with create_task_group() as group:
                for one in subscribed:
                    group.start_soon(one.drain)
            assert len(flushes) <= 2
            assert connection._subs == {}


async def test_of_many_that_are_asked_for_together_exactly_those_fail_that_the_server_refuses(
    own_nats: Callable[..., NatsServer],
) -> None:
    user = '{user: a, password: b, permissions: {subscribe: {deny: ["no.*.*"]}}}'
    server = await to_thread.run_sync(own_nats, f"authorization {{ users: [{user}] }}")
    ends: dict[str, str] = {}
    with fail_after(60):
        async with connected(server, user="a", password="b") as connection:
            link, inboxes = BulkLink(connection), dict[str, Inbox]()

            async def subscribe(subject: str) -> None:
                inboxes[subject] = Inbox()
                try:
                    await link.subscribe(subject, inboxes[subject].receive)
                except Unavailable as exc:
                    ends[subject] = str(exc)

            subjects = [f"{kind}.{number}.*" for number in range(5) for kind in ("yes", "no")]
            async with create_task_group() as group:
                for subject in subjects:
                    group.start_soon(subscribe, subject)
            assert sorted(ends) == [subject for subject in sorted(subjects) if subject.startswith("no")]
            assert all(subject in why for subject, why in ends.items())
            for number in range(5):
                await connection.publish(f"yes.{number}.x", b"heard")
                assert len(await inboxes[f"yes.{number}.*"].until(1)) == 1
            assert len(connection._subs) == 5
