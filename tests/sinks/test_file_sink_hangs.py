"""A file system that hangs is an outage: it is said, nobody waits for it for ever, and no line is there twice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from anyio import CancelScope, CapacityLimiter, create_task_group, fail_after, sleep, to_thread
from anyio import Event as AnyEvent

from collector.actors.destinations import ChosenDestinations
from collector.errors import SinkUnavailable
from collector.settings import Settings
from collector.sinks.file import FileSink
from tests.sinks.test_log_file import content, expected, log_file, messages
from tests.support.disks import Disk
from tests.support.fakes import ATTACHED, Reports
from tests.support.moving import ENVIRON
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

HANGS = "expected the file system of .* to answer"


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(monkeypatch)
    yield disk
    disk.answers.set()


async def open_as_another(folder: Path) -> None:
    """Open the file as another process would, and close it."""
    other = log_file(folder)
    await to_thread.run_sync(other.open)
    await to_thread.run_sync(other.close)


async def until_it_works(attempt: Callable[[], Awaitable[None]]) -> None:
    with fail_after(20):
        while True:
            try:
                return await attempt()
            except SinkUnavailable:
                await sleep(0.01)


async def test_a_write_that_hangs_is_said_and_counted_once_when_it_is_over(tmp_path: Path, disk: Disk) -> None:
    sink = FileSink(log_file(tmp_path), CapacityLimiter(4), 0.2)
    await until_it_works(sink.open)
    disk.answers.clear()
    before, first, second = disk.asked, sink.begin(messages(1, 2)), sink.begin(messages(3))
    for writing in (first, second, first, second):
        with pytest.raises(SinkUnavailable, match=HANGS):
            await writing.attempt()
    assert disk.asked == before + 1
    with pytest.raises(SinkUnavailable, match="another process"):
        await open_as_another(tmp_path)
    disk.answers.set()
    await until_it_works(second.attempt)
    await until_it_works(first.attempt)
    assert (first.written.stored, first.written.duplicates, second.written.stored) == (2, 0, 1)
    await sink.close()
    assert content(tmp_path) == expected(1, 2, 3)


async def test_a_stop_does_not_wait_for_a_disk_that_hangs_and_the_lock_is_held_as_long(
    tmp_path: Path, disk: Disk
) -> None:
    sink = FileSink(log_file(tmp_path), CapacityLimiter(4), 0.2)
    await until_it_works(sink.open)
    disk.answers.clear()
    with fail_after(20):
        async with create_task_group() as group:
            group.start_soon(sink.look_at_age)
            with pytest.raises(SinkUnavailable, match=HANGS):
                await sink.begin(messages(1)).attempt()
            group.cancel_scope.cancel()
        with CancelScope() as scope:
            scope.cancel()
            await sink.close()
    with pytest.raises(SinkUnavailable, match="another process"):
        await open_as_another(tmp_path)
    disk.answers.set()
    await until_it_works(partial(open_as_another, tmp_path))
    assert content(tmp_path) == expected(1)


async def test_a_file_whose_opening_hangs_is_tried_again(tmp_path: Path, disk: Disk) -> None:
    disk.answers.clear()
    sink = FileSink(log_file(tmp_path), CapacityLimiter(4), 0.2)
    with pytest.raises(SinkUnavailable, match=HANGS):
        await sink.open()
    disk.answers.set()
    await until_it_works(sink.open)
    writing = sink.begin(messages(1))
    await until_it_works(writing.attempt)
    await sink.close()
    assert content(tmp_path) == expected(1)


async def test_the_end_of_a_pipeline_does_not_wait_for_a_disk_that_hangs(tmp_path: Path, disk: Disk) -> None:
    settings = Settings.read({**ENVIRON, "COLLECTOR_FILES": str(tmp_path), "COLLECTOR_WRITE_TIMEOUT": "0.5s"})
    chosen = ChosenDestinations(settings=settings, mongodb=None, report=Reports(), on_reader_gone=pytest.fail)
    with fail_after(20):
        async with chosen.of(LoggerSpec("system", destination="file")).opened(ATTACHED, AnyEvent()) as target:
            assert target is not None
            disk.answers.clear()
            with pytest.raises(SinkUnavailable, match=HANGS):
                await target.sink.begin(messages(1)).attempt()
    disk.answers.set()
    await until_it_works(partial(open_as_another, tmp_path))
    assert content(tmp_path) == expected(1)
