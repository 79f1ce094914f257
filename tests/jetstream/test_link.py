"""Both links on a real nats-server. What the fast one uses of nats-py is private: a change there fails here."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import nats.errors
import nats.js.errors
import pytest
from anyio import create_task_group, fail_after, lowlevel

from collector.flow.in_hand import InHand
from collector.jetstream.link import BulkLink, BulkParser, Frame, PlainLink, open_link
from collector.jetstream.pull import Outstanding, Pull, PullStatus, Signal, read_status, unused
from transfer.jetstream.connection import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from collector.jetstream.link import AnyFrame, Link
    from collector.local import NatsServer

LINKS = [BulkLink, PlainLink]
BODY = b"x" * 100


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
        inbox=connection.new_inbox(),
        stream=name,
        durable=name,
        in_hand=InHand() if in_hand is None else in_hand,
        clock=anyio.current_time,
        heartbeat=0.2,
    )


def came(pull: Pull, messages: int) -> bool:
    return len(pull._deliveries) >= messages


async def until(pull: Pull, enough: Callable[[], bool]) -> None:
    while not enough():
        await pull.changed.wait()
        pull.changed = anyio.Event()


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
async def test_every_request_ends_with_a_word_that_makes_what_is_outstanding_exact(
    nats_server: NatsServer, namespace: str, make: Callable[[Client], Link]
) -> None:
    """That includes what the server counts as the size of a message."""
    with fail_after(20):
        async with durable(nats_server, namespace) as jetstream, connected(nats_server) as connection:
            pull = pulling(connection, make(connection), namespace)
            await pull.open()
            await fill(jetstream, namespace, [b"x" * size for size in range(0, 3000, 100)])
            await pull.ask(10, 1_000_000)
            await pull.ask(10, 1_000_000)
            await until(pull, lambda: not pull.outstanding.requests)
            assert len(pull.take()) == 20
            await pull.ask(10, 6_000)  # the rest is of 2,000 bytes and more each
            await until(pull, lambda: not pull.outstanding.requests)
            assert (1 <= len(pull.take()) < 10, pull.too_small) == (True, 0)
            await pull.ask(10, 500)
            await until(pull, lambda: not pull.outstanding.requests)
            while pull.too_small:
                assert pull.outstanding == Outstanding()
                await pull.ask_for_one(pull.alone_bytes)
                await until(pull, lambda: not pull.outstanding.requests)
            assert len(pull.take()) == 1
            assert pull.fruitless == 0


async def test_what_is_outstanding_counts_down_by_what_the_server_counts(
    nats_server: NatsServer, namespace: str
) -> None:
    """A request that ends by itself says what of it was not used: that has to be what we think it is."""
    with fail_after(20):
        async with durable(nats_server, namespace) as jetstream, connected(nats_server) as connection:
            inbox, link = Inbox(), BulkLink(connection)
            pull = pulling(connection, link, namespace)
            await link.subscribe(f"{pull._inbox}.*", inbox.receive)
            await jetstream.publish(f"{namespace}.log", BODY, headers={"a": "b", "c": "d"})
            await jetstream.publish(f"{namespace}.log", BODY)
            await pull.ask(2, 10_000)
            await inbox.until(3)
            pull.receive(inbox.frames[:2])
            assert unused(inbox.frames[2].raw_headers) == (pull.outstanding.messages, pull.outstanding.bytes)


@pytest.mark.parametrize("make", LINKS)
async def test_a_durable_that_is_deleted_is_a_signal_while_a_request_is_outstanding(
    nats_server: NatsServer, namespace: str, make: Callable[[Client], Link]
) -> None:
    with fail_after(20):
        async with durable(nats_server, namespace) as jetstream, connected(nats_server) as connection:
            pull = pulling(connection, make(connection), namespace)
            await pull.open()
            await pull.ask(10, 1_000_000)
            await written(connection)
            await jetstream.delete_consumer(namespace, namespace)
            await until(pull, lambda: not pull.outstanding.requests)
            assert pull.signals() == {Signal.RECHECK}
            await pull.ask(10, 1_000_000)  # and now nobody answers any more
            await until(pull, lambda: not pull.outstanding.requests)
            assert pull.signals() == {Signal.RECHECK}


async def test_a_request_above_the_durables_limits_is_refused_and_not_asked_again_at_once(
    nats_server: NatsServer, namespace: str
) -> None:
    with fail_after(20):
        async with (
            durable(nats_server, namespace, max_batch=5),
            connected(nats_server) as connection,
        ):
            pull = pulling(connection, BulkLink(connection), namespace)
            await pull.open()
            await pull.ask(10, 1_000_000)
            await until(pull, lambda: not pull.outstanding.requests)
            assert pull.signals() == {Signal.REFUSED}
            assert pull.last_words == "409 Exceeded MaxRequestBatch of 5"


async def test_heartbeats_keep_a_request_from_being_silent(nats_server: NatsServer, namespace: str) -> None:
    with fail_after(20):
        async with durable(nats_server, namespace), connected(nats_server) as connection:
            pull = pulling(connection, BulkLink(connection), namespace)
            await pull.open()
            await pull.ask(10, 1_000_000)
            begun = pull.deadline
            while pull.deadline < begun + 0.5:
                await until(pull, lambda: True)
                await lowlevel.checkpoint()
                assert pull.signals() == set()


async def test_draining_strands_nothing(nats_server: NatsServer, namespace: str) -> None:
    """Whatever JetStream has handed over by the end of a drain has come, however fast it came until then."""
    with fail_after(60):
        async with durable(nats_server, namespace) as jetstream, connected(nats_server) as connection:
            link, taken, in_hand = BulkLink(connection), 0, InHand()
            async with create_task_group() as group:

                async def publish() -> None:
                    async with connected(nats_server) as other:
                        for number in range(1_000_000):
                            await other.publish(f"{namespace}.log", BODY)
                            if number % 50 == 0:
                                await anyio.sleep(0.001)

                group.start_soon(publish)
                for _ in range(60):
                    pull = pulling(connection, link, namespace, in_hand)
                    await pull.open()
                    await pull.ask(1_000, 100_000_000)
                    await until(pull, partial(came, pull, 20))
                    taken += len(await pull.drain())
                group.cancel_scope.cancel()
            handed_over = (await jetstream.consumer_info(namespace, namespace)).num_ack_pending
            assert (taken, len(in_hand)) == (handed_over, handed_over)


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


@pytest.mark.parametrize("make", LINKS)
@pytest.mark.parametrize("kill", [False, True])
async def test_after_a_restart_of_the_server_pulling_goes_on(
    own_nats: Callable[[], NatsServer], make: Callable[[Client], Link], *, kill: bool
) -> None:
    server = own_nats()
    with fail_after(30):
        again = anyio.Event()

        async def tell() -> None:
            again.set()

        async with (
            connected(server, reconnected_cb=tell, error_cb=quiet) as connection,
            connected(server, error_cb=quiet) as other,
        ):
            jetstream = other.jetstream()
            await jetstream.add_stream(name="s", subjects=["s.>"], retention="workqueue")
            await jetstream.add_consumer("s", durable_name="s", ack_policy="explicit")
            link = make(connection)
            pull = pulling(connection, link, "s")
            await pull.open()
            await pull.ask(10, 1_000_000)
            await jetstream.publish("s.log", b"before")
            await until(pull, lambda: len(pull._deliveries) == 1)
            await link.answer([(delivery.reply, b"+ACK") for delivery in pull.take()])
            await written(connection)
            await anyio.to_thread.run_sync(server.kill if kill else server.stop)
            await anyio.to_thread.run_sync(server.start)
            await again.wait()
            pull.forget_requests()
            assert pull.deadline == math.inf
            await pull.ask(10, 1_000_000)
            await _published(other, b"after")
            await until(pull, lambda: any(one.body == b"after" for one in pull._deliveries))


async def _published(connection: Client, body: bytes) -> None:
    while True:
        try:
            await connection.jetstream().publish("s.log", body, timeout=1)
        except (nats.errors.Error, nats.js.errors.Error):
            await anyio.sleep(0.05)
        else:
            return


async def quiet(_: Exception) -> None:
    """Say nothing of a server that is down: it is meant to be."""
