"""A nats-server comes back with another stream of the same name, while a pipeline still writes what the old one gave.

The server takes an ack by its subject, which is the same for both. The sink and the moment of the look are the test's.
"""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import Event, create_task_group, fail_after, to_thread

from collector.actors.moving import Shared
from collector.actors.pipeline import Pipeline
from collector.events import BatchSettled
from collector.flow.batch_age import BatchAge
from collector.flow.budget import Budget
from collector.jetstream.connection import NatsConnection, close, connect
from collector.jetstream.link import BulkLink, PlainLink
from collector.jetstream.source import LoggerSource, LoggerSources
from collector.settings import Settings
from tests.support.ancestor import ancestor, entry
from tests.support.fakes import FakeSink, Reports
from tests.support.moving import FakeDestination
from transfer.jetstream.durables import durable_info, ensure_durable
from transfer.jetstream.streams import stream_state
from transfer.names import Names
from transfer.nats_settings import NatsSettings
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from nats.aio.client import Client

    from collector.jetstream.link import Link
    from collector.jetstream.source import Attached
    from collector.local import NatsServer
    from tests.support.ancestor import Ancestor

KEY, HELD = "system", 5


class GatedSources(LoggerSources):
    """Sources that look when the test lets them."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.gate = Event()
        self.gate.set()

    def of(self, key: str) -> LoggerSource:
        return GatedSource(self, key)


class GatedSource(LoggerSource):
    """One of them."""

    def __init__(self, sources: GatedSources, key: str) -> None:
        super().__init__(sources, key)
        self._sources = sources

    async def attach(self) -> Attached:
        await self._sources.gate.wait()
        return await super().attach()


class Scene:
    """A pipeline that runs on a real connection."""

    def __init__(
        self, namespace: str, nats: NatsConnection, source: GatedSources, reports: Reports, more: Mapping[str, str]
    ) -> None:
        self.names, self.nats, self.source, self.reports = Names(namespace), nats, source, reports
        self.sink, self.stopping = FakeSink(), Event()
        environ = {"NAMESPACE": namespace, "NATS_HOSTS": "nats://x", "DATABASE": "mongodb://x"}
        self.shared = Shared(
            settings=Settings.read({**environ, **more, "COLLECTOR_BATCH_AGE": "10ms"}),
            nats=nats,
            sources=source,
            destinations=FakeDestination(self.sink),
            budget=Budget(64 * 1024 * 1024),
            batch_age=BatchAge(0.1, 1.0),
            report=reports,
        )

    async def settled(self) -> None:
        await self.reports.until(lambda: self.reports.of(BatchSettled))


@asynccontextmanager
async def moving(
    server: NatsServer, namespace: str, make: Callable[[Client], Link], **more: str
) -> AsyncIterator[Scene]:
    reports = Reports()
    opened = await connect(NatsSettings((server.url,)), reports)
    try:
        link = make(opened.connection)
        nats = NatsConnection(opened.connection, link, opened.reconnects, opened.closed)
        source = GatedSources(opened.connection.jetstream(), Names(namespace), 30.0, reports)
        scene = Scene(namespace, nats, source, reports, more)
        async with create_task_group() as group:
            group.start_soon(Pipeline(LoggerSpec(KEY), scene.shared).run, scene.stopping)
            try:
                yield scene
            finally:
                for event in (scene.stopping, source.gate, scene.sink.let_write):
                    event.set()
    finally:
        await close(opened.connection)


async def make_anew(server: NatsServer, names: Names, scene: Scene, how: str) -> None:
    """Let the stream be gone, with the server or while it runs, and the pipeline connected afterwards."""
    if how in {"deleted", "full"}:
        async with ancestor(server.url, scene.shared.settings.namespace) as go:
            while how == "full" and (await durable_info(go.jetstream, names, KEY)).num_waiting:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            await go.jetstream.delete_stream(names.stream(KEY))
        await scene.nats.connection.flush()
        return
    life = scene.nats.link.life
    await to_thread.run_sync(server.kill if how == "killed" else server.stop)
    shutil.rmtree(server.folder / "jetstream")
    await to_thread.run_sync(server.start)
    while not (scene.nats.link.connected and scene.nats.link.life > life):  # noqa: ASYNC110 - nobody is told
        await anyio.sleep(0.01)


async def fill(go: Ancestor, names: Names) -> None:
    """Make the stream and the durable, and have another replica be given as many messages, which it never answers."""
    await go.make_stream(KEY)
    await ensure_durable(go.jetstream, names, KEY, ack_wait=30.0, on_change=lambda _: None)
    await go.publish(KEY, [entry(100 + number) for number in range(HELD)])
    other = await go.jetstream.pull_subscribe_bind(names.durable(KEY), names.stream(KEY))
    assert len(await other.fetch(HELD)) == HELD


async def messages(go: Ancestor, names: Names) -> int:
    """Return how many messages the stream has, after the server has read what was sent to it before."""
    await go.connection.flush()
    return (await stream_state(go.jetstream, names.stream(KEY))).messages


@pytest.mark.parametrize("make", [BulkLink, PlainLink])
@pytest.mark.parametrize("how", ["killed", "stopped", "deleted", "full"])
async def test_a_batch_that_ends_between_the_end_of_its_stream_and_the_look_acks_nothing_of_the_new_stream(
    own_nats: Callable[..., NatsServer],
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Client], Link],
    how: str,
) -> None:
    """Deleted while a request is outstanding the pipeline is told; with its hands full it has none."""
    server, names, more = own_nats(), Names(namespace), dict[str, str]()
    if how == "full":
        more = {"COLLECTOR_BATCH_ENTRIES": "1", "COLLECTOR_WRITES": str(HELD - 2)}
        monkeypatch.setattr("collector.jetstream.certainty.UNWATCHED", -1.0)
    with fail_after(60):
        async with ancestor(server.url, namespace) as go:
            await go.make_stream(KEY)
            await go.publish(KEY, [entry(number) for number in range(HELD)])
        async with moving(server, namespace, make, **more) as scene:
            scene.sink.let_write = Event()
            await scene.sink.writing.wait()
            scene.source.gate = Event()
            await make_anew(server, names, scene, how)
            async with ancestor(server.url, namespace) as go:
                await fill(go, names)
                scene.sink.let_write.set()
                await scene.settled()
                await scene.nats.connection.flush()
                assert await messages(go, names) == HELD, "nobody has written them"
                scene.source.gate.set()
                await go.publish(KEY, [entry(1000)])
                await scene.reports.until(lambda: len(scene.reports.of(BatchSettled)) >= 2)
                while await messages(go, names) > HELD:  # noqa: ASYNC110 - the server tells nobody
                    await anyio.sleep(0.01)
                assert await messages(go, names) == HELD, "goes on with the new stream"
            scene.stopping.set()


@pytest.mark.parametrize("make", [BulkLink, PlainLink])
async def test_when_it_is_the_same_stream_what_was_written_meanwhile_is_acked(
    own_nats: Callable[..., NatsServer],
    namespace: str,
    make: Callable[[Client], Link],
) -> None:
    server, names = own_nats(), Names(namespace)
    with fail_after(60):
        async with ancestor(server.url, namespace) as go:
            await go.make_stream(KEY)
            await go.publish(KEY, [entry(number) for number in range(HELD)])
        async with moving(server, namespace, make) as scene:
            scene.sink.let_write = Event()
            await scene.sink.writing.wait()
            await to_thread.run_sync(server.restart)
            scene.sink.let_write.set()
            async with ancestor(server.url, namespace) as go:
                while await messages(go, names):  # noqa: ASYNC110 - the server tells nobody
                    await anyio.sleep(0.01)
            scene.stopping.set()
