"""The store in a folder: calls end in time, threads are bounded, and no create is cut."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from anyio import create_task_group, fail_after
from anyio.lowlevel import checkpoint

from collector.archive.stores.local import THREADS, LocalStore
from collector.errors import StoreUnavailable
from tests.support.disks import Disk
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(monkeypatch)
    disk.answers.clear()
    yield disk
    disk.answers.set()


async def test_a_folder_that_hangs_is_an_outage_with_bounded_threads_until_it_answers(
    tmp_path: Path, disk: Disk
) -> None:
    store = LocalStore(tmp_path, patience=0.1)
    before, told = threading.active_count(), []
    with fail_after(60):
        for number in range(3 * THREADS):
            with pytest.raises(StoreUnavailable, match=r"file system of .* to answer within 0.1 s") as raised:
                await store.create(f"{number}.ndjson", b"data")
            told.append(raised.value.ambiguous)
        assert told == [True] * THREADS + [False] * 2 * THREADS, "no thread was there for the others"
        assert threading.active_count() - before <= 2 * THREADS
        disk.answers.set()
        while not await created(store, "last.ndjson"):
            await checkpoint()
        assert await store.read("last.ndjson") == b"data"
        for number in range(THREADS):
            assert not await store.create(f"{number}.ndjson", b"data"), "the late thread has created it"


async def created(store: LocalStore, path: str) -> bool:
    try:
        await store.create(path, b"data")
    except StoreUnavailable:
        return False
    return True


async def test_a_create_that_has_begun_is_not_cut_by_its_callers_end(tmp_path: Path, disk: Disk) -> None:
    store, answers = LocalStore(tmp_path, patience=60.0), []

    async def create() -> None:
        answers.append(await store.create("a", b"data"))

    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(create)
            await until(lambda: disk.asked > 0, 5)
            group.cancel_scope.cancel()
            disk.answers.set()
    assert answers == [True]
