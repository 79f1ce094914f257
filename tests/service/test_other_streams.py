"""Streams and durables that are no logger's are pulled by the same pipeline, bound to them by their source alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event, create_task_group, fail_after, sleep

from collector.actors.moving import Shared
from collector.actors.pipeline import Pipeline
from collector.decoding.identity import Incarnation
from collector.events import BatchSettled
from collector.flow.batch_age import BatchAge
from collector.flow.budget import Budget
from collector.jetstream.connection import close, connect
from collector.jetstream.source import Attached
from collector.settings import Settings
from tests.support.fakes import FakeSink, Reports
from tests.support.moving import ENVIRON, FakeDestination
from transfer.nats_settings import NatsSettings
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.js import JetStreamContext

    from collector.local import NatsServer

MESSAGES = 2500


class OtherSource:
    """A stream and a durable by their names, and that of every logger. See `Sources` and `DurableSource`."""

    def __init__(self, jetstream: JetStreamContext, stream: str, durable: str) -> None:
        self._jetstream, self._stream, self._durable = jetstream, stream, durable

    def of(self, key: str) -> OtherSource:
        assert key
        return self

    async def attach(self) -> Attached:
        stream = await self._jetstream.stream_info(self._stream)
        durable = await self._jetstream.consumer_info(self._stream, self._durable)
        wait = durable.config.ack_wait or 0.0
        return Attached(Incarnation(self._stream, str(stream.created)), self._stream, self._durable, wait)


POLICIES = [  # on a work queue nats-server refuses to ack all, err 10098
    ("limits", "explicit"),
    ("limits", "all"),
    ("interest", "explicit"),
    ("interest", "all"),
    ("workqueue", "explicit"),
]


@pytest.mark.parametrize(("retention", "ack_policy"), POLICIES)
async def test_a_durable_of_any_name_on_a_stream_of_any_name_is_emptied(
    nats_server: NatsServer, namespace: str, retention: str, ack_policy: str
) -> None:
    stream, durable = f"{namespace}-ORDERS", f"archive-{retention}"
    reports, sink = Reports(), FakeSink()
    opened = await connect(NatsSettings((nats_server.url,)), reports)
    jetstream = opened.connection.jetstream()
    try:
        await jetstream.add_stream(name=stream, subjects=[f"{namespace}.orders.>"], retention=retention)
        config = {"durable_name": durable, "ack_policy": ack_policy, "max_ack_pending": -1}
        await add_durable(jetstream, stream, durable, config)
        for number in range(MESSAGES):
            await jetstream.publish_async(
                f"{namespace}.orders.{number % 7}", b"\x81\xa4data\x81\xa1n\xcd%c%c" % divmod(number, 256)
            )
        await jetstream.publish_async_completed()
        shared = Shared(
            settings=Settings.read({**ENVIRON, "COLLECTOR_WRITES": "1"}),  # in order, as ack_policy all needs it
            nats=opened,
            sources=OtherSource(jetstream, stream, durable),
            destinations=FakeDestination(sink),
            budget=Budget(64 * 1024 * 1024),
            batch_age=BatchAge(0.1, 1.0),
            report=reports,
        )
        stopping = Event()
        with fail_after(60):
            async with create_task_group() as group:
                group.start_soon(Pipeline(LoggerSpec("capture"), shared).run, stopping)
                await reports.until(lambda: sum(one.messages for one in reports.of(BatchSettled)) >= MESSAGES)
                await until(lambda: nothing_waits(jetstream, stream, durable))
                stopping.set()
        numbers = [entry.document["n"] for write in sink.writes for entry in write]
        assert numbers == list(range(MESSAGES))
    finally:
        await jetstream.delete_stream(stream)
        await close(opened.connection)


async def add_durable(jetstream: JetStreamContext, stream: str, durable: str, config: dict[str, Any]) -> None:
    await jetstream.add_consumer(stream, None, **config)
    assert (await jetstream.consumer_info(stream, durable)).name == durable


async def nothing_waits(jetstream: JetStreamContext, stream: str, durable: str) -> bool:
    info = await jetstream.consumer_info(stream, durable)
    return not info.num_ack_pending and not info.num_pending


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    while not await is_so():  # noqa: ASYNC110 - the server tells nobody
        await sleep(0.05)
