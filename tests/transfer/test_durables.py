"""The durable: made once by many, brought in line, and what becomes of the push one of a Go collector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from transfer import DurableInUse, Logger, Transfer
from transfer.errors import Misconfigured, UnknownDurable, UnknownStream
from transfer.jetstream.api import request
from transfer.jetstream.configurations import DurableInfo
from transfer.jetstream.durable_needs import ACK_WAIT, LONGEST_ACK_WAIT
from transfer.jetstream.durables import durable_info, ensure_durable
from transfer.jetstream.streams import ensure_bucket, ensure_stream, stream_state
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.js import JetStreamContext

    from collector.local import NatsServer
    from transfer.difference import Difference

pytestmark = pytest.mark.anyio
SECOND = 1_000_000_000


@pytest.fixture
async def jetstream(nats_server: NatsServer) -> AsyncIterator[JetStreamContext]:
    async with await nats.connect(nats_server.url) as connection:
        yield connection.jetstream()


@pytest.fixture
async def names(jetstream: JetStreamContext, namespace: str) -> Names:
    await Transfer(jetstream, namespace=namespace).set(Logger("a"))
    return Names(namespace)


async def go_durable(jetstream: JetStreamContext, names: Names) -> None:
    """Make what `QueueSubscribe` of nats.go makes for the Go collector."""
    config = ConsumerConfig(
        durable_name=names.durable("a"),
        deliver_subject=f"_INBOX.{names.namespace}",
        deliver_group=names.durable("a"),
        ack_policy=AckPolicy.EXPLICIT,
        max_ack_pending=1000,
        filter_subject=names.subject("a"),
    )
    await jetstream.add_consumer(names.stream("a"), config)


async def test_a_durable_is_a_pull_consumer_that_never_gives_up(jetstream: JetStreamContext, names: Names) -> None:
    made = await ensure_durable(jetstream, names, "a")
    config = made.config
    assert (made.name, made.stream_name, made.is_push) == (names.durable("a"), names.stream("a"), False)
    assert (config.durable_name, config.ack_policy, config.deliver_policy) == (names.durable("a"), "explicit", "all")
    assert (config.ack_wait, config.max_ack_pending, config.max_deliver) == (30 * SECOND, 100_000, -1)
    assert (config.max_waiting, config.mem_storage) == (512, True)
    again = await ensure_durable(jetstream, names, "a")
    assert (again.created, again.config) == (made.created, made.config)


async def test_a_durable_that_differs_is_brought_in_line_and_keeps_its_state(
    jetstream: JetStreamContext, names: Names
) -> None:
    made = await ensure_durable(jetstream, names, "a")
    changed = await ensure_durable(jetstream, names, "a", ack_wait=45.5, max_ack_pending=200_000)
    assert (changed.config.ack_wait, changed.config.max_ack_pending) == (45.5 * SECOND, 200_000)
    assert changed.created == made.created


async def test_those_who_want_different_ack_waits_agree_on_the_longest_and_change_it_once(
    jetstream: JetStreamContext, names: Names
) -> None:
    changed: list[Difference] = []
    for _ in range(3):
        for ack_wait in (30.0, 60.0, 45.0):
            info = await ensure_durable(jetstream, names, "a", ack_wait=ack_wait, on_change=changed.append)
            assert info.ack_wait >= ack_wait
    assert (await durable_info(jetstream, names, "a")).ack_wait == 60.0
    assert [difference.field for difference in changed] == ["ack_wait"]


async def test_an_ack_wait_that_no_setting_may_have_is_brought_down(jetstream: JetStreamContext, names: Names) -> None:
    config = ConsumerConfig(durable_name=names.durable("a"), ack_policy=AckPolicy.EXPLICIT)
    await jetstream.add_consumer(names.stream("a"), config.evolve(ack_wait=LONGEST_ACK_WAIT + 1))
    assert (await ensure_durable(jetstream, names, "a")).ack_wait == ACK_WAIT


async def test_what_a_foreign_hand_has_limited_beyond_us_is_named(own_nats: Callable[..., NatsServer]) -> None:
    server = await anyio.to_thread.run_sync(
        own_nats, "jetstream { limits { max_ack_pending: 10, max_request_batch: 5 } }"
    )
    async with await nats.connect(server.url) as connection:
        names = Names("limited")
        await Transfer(connection.jetstream(), namespace="limited").set(Logger("a"))
        for max_ack_pending, field in ((100_000, "max_ack_pending"), (10, "max_batch")):
            with pytest.raises(Misconfigured, match="limits of nats-server") as raised:
                await ensure_durable(connection.jetstream(), names, "a", max_ack_pending=max_ack_pending)
            assert [difference.field for difference in raised.value.differences] == [field]


async def test_replicas_may_make_everything_at_once(jetstream: JetStreamContext, namespace: str) -> None:
    names, infos = Names(namespace), list[DurableInfo]()

    async def replica(ack_wait: float) -> None:
        await ensure_bucket(jetstream, names)
        await ensure_stream(jetstream, names, Logger("a"))
        infos.append(await ensure_durable(jetstream, names, "a", ack_wait=ack_wait))

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(replica, 30.0 + number % 2)
    assert {info.created for info in infos} == {infos[0].created}


async def test_replicas_may_replace_a_push_durable_at_once(jetstream: JetStreamContext, names: Names) -> None:
    await go_durable(jetstream, names)
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(lambda: ensure_durable(jetstream, names, "a"))
    assert not (await durable_info(jetstream, names, "a")).is_push


async def file_durable(jetstream: JetStreamContext, names: Names, **config: Any) -> None:
    """Make what versions before this one have made."""
    wanted = {"durable_name": names.durable("a"), "ack_policy": "explicit", "max_ack_pending": 100_000, **config}
    subject = f"CONSUMER.CREATE.{names.stream('a')}.{names.durable('a')}"
    await request(jetstream, subject, {"stream_name": names.stream("a"), "config": wanted})


async def test_a_durable_on_disk_is_replaced_once_and_all_that_is_not_acked_is_delivered(
    jetstream: JetStreamContext, names: Names
) -> None:
    await file_durable(jetstream, names)
    for body in (b"acked", b"delivered", b"waiting"):
        await jetstream.publish(names.subject("a"), body)
    pull = await jetstream.pull_subscribe_bind(names.durable("a"), names.stream("a"))
    acked, _ = await pull.fetch(2)
    await acked.ack_sync()
    changed: list[Difference] = []
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(lambda: ensure_durable(jetstream, names, "a", on_change=changed.append))
    made = await ensure_durable(jetstream, names, "a", on_change=changed.append)
    assert (made.config.mem_storage, made.num_pending, made.num_ack_pending) == (True, 2, 0)
    assert {difference.field for difference in changed} == {"mem_storage"}
    again: list[Difference] = []
    assert (await ensure_durable(jetstream, names, "a", on_change=again.append)).created == made.created
    assert again == []
    delivered = await pull.fetch(2)
    assert [message.data for message in delivered] == [b"delivered", b"waiting"]


@pytest.mark.parametrize("config", [{"deliver_subject": "push.it"}, {"max_waiting": 1}, {"mem_storage": True}])
async def test_on_a_stream_that_drops_what_no_durable_wants_none_is_replaced_and_a_new_one_is_on_disk(
    jetstream: JetStreamContext, namespace: str, config: dict[str, Any]
) -> None:
    names, interest = Names(namespace), "interest"
    await jetstream.add_stream(name=names.stream("a"), subjects=[names.subject("a")], retention=interest)
    made = await ensure_durable(jetstream, names, "a", retention=interest)
    assert not made.config.mem_storage
    await jetstream.delete_consumer(names.stream("a"), names.durable("a"))
    await file_durable(jetstream, names, **config)
    there = await durable_info(jetstream, names, "a")
    await jetstream.publish(names.subject("a"), b"kept")
    assert (await ensure_durable(jetstream, names, "a", retention=interest)).created == there.created
    assert (await stream_state(jetstream, names.stream("a"))).messages == 1


async def until_bound(jetstream: JetStreamContext, names: Names, *, bound: bool) -> None:
    """Wait until the server knows it too: it hears of a subscription a moment after it has confirmed it."""
    with anyio.fail_after(30):
        while (await durable_info(jetstream, names, "a")).push_bound != bound:  # noqa: ASYNC110 - nobody here could set an event
            await anyio.sleep(0.01)


async def test_a_push_durable_is_replaced_only_when_nobody_is_bound(jetstream: JetStreamContext, names: Names) -> None:
    await go_durable(jetstream, names)
    await jetstream.publish(names.subject("a"), b"waiting")
    bound = await jetstream._nc.subscribe(f"_INBOX.{names.namespace}", queue=names.durable("a"))
    await until_bound(jetstream, names, bound=True)
    with pytest.raises(DurableInUse, match="somebody is bound"):
        await ensure_durable(jetstream, names, "a")
    await bound.unsubscribe()
    await until_bound(jetstream, names, bound=False)
    replaced = await ensure_durable(jetstream, names, "a")
    assert (replaced.is_push, replaced.num_pending) == (False, 1)


async def test_what_is_missing_or_taken_is_said_by_type(jetstream: JetStreamContext, names: Names) -> None:
    with pytest.raises(UnknownDurable):
        await durable_info(jetstream, names, "a")
    for missing in (durable_info, ensure_durable):
        with pytest.raises(UnknownStream):
            await missing(jetstream, names, "nothing")
    with pytest.raises(UnknownStream):
        await stream_state(jetstream, names.stream("nothing"))
    await jetstream.add_consumer(names.stream("a"), ConsumerConfig(durable_name="other", ack_policy=AckPolicy.EXPLICIT))
    with pytest.raises(Misconfigured, match="expected consumers no other than the durable"):
        await ensure_durable(jetstream, names, "a")
