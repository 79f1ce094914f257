"""Captures and nats-server are killed and frozen: each message is in exactly one block in the end."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import nats.errors
import pytest
from anyio import Event, create_task_group, fail_after, sleep, to_thread

from collector.archive.capture import Capture
from collector.archive.log import Log, missing
from collector.archive.stores.local import LocalStore
from tests.support.capturing import blocks_of, captured, each_once, paths
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from collector.local import NatsServer
    from tests.support.capturing import Stream

pytestmark = pytest.mark.timeout(300)
_NAME = "ORDERS"
_QUICK = """
from collector.archive.owning import lease, owner
lease.LASTS, lease.BEAT, owner.BEAT = 1.0, 0.2, 0.2
from collector.__main__ import main
main()
"""
"""A process whose lease lasts a second."""


class Process:
    """A process that archives a stream with short cuts."""

    def __init__(self, root: Path, server: NatsServer, durable: str) -> None:
        options = ["--stream", _NAME, "--to", str(root), "--group-by", "subject:2", "--nats-server", server.url]
        options += ["--max-age", "0.2s", "--max-messages", "25", *(["--durable", durable] if durable else [])]
        command = [sys.executable, "-c", _QUICK, "archive", "run", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def end(self, number: signal.Signals) -> int:
        self.send(number)
        self.send(signal.SIGCONT)
        return await to_thread.run_sync(self.process.wait, 60)


@contextmanager
def replicas(root: Path, server: NatsServer, durable: str) -> Iterator[Callable[[], Process]]:
    """Give a function that starts a process; all are killed at the end."""
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(root, server, durable))
        return started[-1]

    try:
        yield start
    finally:
        for one in started:
            one.process.kill()
            one.process.wait(10)


@asynccontextmanager
async def publishing(stream: Stream) -> AsyncIterator[None]:
    """Publish all the time; a message whose answer gets lost may be there, or not."""
    ended = Event()

    async def publish() -> None:
        while not ended.is_set():
            with suppress(nats.errors.Error):
                await stream.publish(5, timeout=1)
            await sleep(0.02)

    async with create_task_group() as group:
        group.start_soon(publish)
        yield
        ended.set()


def cuts(root: Path) -> int:
    return len(paths(root, "*.cut"))


async def until_more(root: Path, more: int = 1) -> None:
    """Wait for the next records."""
    before = cuts(root)
    await until(lambda: cuts(root) >= before + more, 20)


async def assert_each_once(root: Path, stream: Stream) -> None:
    """Wait until all is archived, and look into all blocks."""
    await stream.until_empty()
    store = LocalStore(root, patience=30)
    log = Log(store, _NAME, await stream.created())
    end = (await stream.jetstream.stream_info(_NAME)).state.last_seq
    with fail_after(120):
        while (last := await log.last()) is None or last.to < end or await missing(store, last):  # noqa: ASYNC110
            await sleep(0.1)
    assert blocks_of(root) == each_once(end)


@pytest.mark.parametrize("retention", ["limits", "workqueue"])
async def test_processes_that_are_killed_and_frozen_leave_each_message_in_one_block(
    own_nats: Callable[[], NatsServer], tmp_path: Path, retention: str
) -> None:
    """A frozen owner is thawed when another one has created records after its last one."""
    chance, server = random.Random(retention), own_nats()  # noqa: S311 - the same moments each time
    with fail_after(240):
        async with captured(server, _NAME, retention) as stream:
            with replicas(tmp_path, server, stream.durable) as start:
                async with publishing(stream):
                    owner = start()
                    await until_more(tmp_path)
                    other = start()
                    owner.send(signal.SIGSTOP)
                    await until_more(tmp_path, 3)
                    owner.send(signal.SIGCONT)
                    await until_more(tmp_path, 3)
                    last = other
                    for one in (other, owner):
                        await sleep(chance.random() * 0.3)
                        await one.end(signal.SIGKILL)
                        last = start()
                        await until_more(tmp_path)
                await assert_each_once(tmp_path, stream)
                assert await last.end(signal.SIGTERM) in {0, -signal.SIGTERM}  # it may just start
            assert blocks_of(tmp_path) == each_once(stream.published)


@pytest.mark.parametrize("retention", ["limits", "workqueue"])
async def test_a_nats_server_that_is_killed_doubles_and_loses_nothing(
    own_nats: Callable[[], NatsServer], tmp_path: Path, retention: str
) -> None:
    server = own_nats()
    age = timedelta(seconds=0.2)
    with fail_after(200):
        async with captured(server, _NAME, retention) as stream:
            capture = Capture(_NAME, to=str(tmp_path), durable=stream.durable, max_age=age, max_messages=25)
            async with Capture.connected(capture, server.url) as running:
                async with publishing(stream):
                    for _ in range(2):
                        await until_more(tmp_path, 2)
                        await to_thread.run_sync(server.kill)
                        await to_thread.run_sync(server.start)
                await assert_each_once(tmp_path, stream)
                assert running.facts().resets["reconnect"] >= 1
