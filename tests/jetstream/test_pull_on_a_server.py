"""Pulls of a real server: what is outstanding is exact, and nothing is stranded."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import anyio
import nats.errors
import nats.js.errors
import pytest
from anyio import create_task_group, fail_after, lowlevel

from collector.flow.in_hand import InHand
from collector.jetstream.link import BulkLink
from collector.jetstream.messages import Signal, unused
from collector.jetstream.outstanding import Outstanding
from tests.support.pulling import BODY, LINKS, Inbox, came, connected, durable, fill, pulling, quiet, until, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.client import Client

    from collector.jetstream.link import Link
    from collector.local import NatsServer


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
            assert (1 <= len(pull.take()) < 10, pull.endings.too_small) == (True, 0)
            await pull.ask(10, 500)
            await until(pull, lambda: not pull.outstanding.requests)
            while pull.endings.too_small:
                assert pull.outstanding == Outstanding()
                await pull.ask_for_one(pull.endings.alone_bytes)
                await until(pull, lambda: not pull.outstanding.requests)
            assert len(pull.take()) == 1
            assert pull.endings.fruitless == 0


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
            assert pull.endings.last_words == "409 Exceeded MaxRequestBatch of 5"


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
