"""Destinations outside MongoDB: which slots the writes and the dead letters of a logger take."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event, Semaphore, create_task_group, fail_after, move_on_after

from collector.actors.destinations import ChosenDestinations, FileSlots
from collector.actors.mongo_destinations import MongoDestinations
from collector.settings import Settings
from collector.sinks.file import FILES_AT_ONCE
from collector.sinks.log_file import LogFile
from collector.sinks.stdout import Stdout
from tests.support.fakes import ATTACHED, KEY, Reports, delivery, entry, settled
from tests.support.moving import ENVIRON
from transfer.names import Names
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from collector.model import Entry
    from collector.sinks import Target
    from transfer.wire import DestinationName


def nobody_is_gone() -> None:
    """Ignore that a reader is gone."""


@pytest.fixture
def null() -> Iterator[int]:
    """Give a file that takes everything."""
    with ExitStack() as stack:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, descriptor)
        yield descriptor


def mongodb(settings: Settings) -> MongoDestinations:
    """Make a MongoDB that is asked nothing."""
    nothing: Any = None
    return MongoDestinations(
        names=Names("beta"),
        settings=settings,
        database=nothing,
        catalog=nothing,
        claims=nothing,
        owners=nothing,
        report=Reports(),
        write_slots=Semaphore(1),
    )


@pytest.mark.parametrize("has_mongodb", [True, False], ids=["letters in MongoDB", "letters in files"])
@pytest.mark.parametrize("destination", ["stdout", "file", "blackhole"])
async def test_dead_letters_that_are_kept_elsewhere_have_slots_elsewhere(
    destination: DestinationName, null: int, tmp_path: Path, *, has_mongodb: bool
) -> None:
    settings = Settings.read({**ENVIRON, "COLLECTOR_FILES": str(tmp_path)})
    database, stdout = mongodb(settings) if has_mongodb else None, Stdout(null, 1.0, nobody_is_gone)
    chosen = ChosenDestinations(
        settings=settings, mongodb=database, report=Reports(), on_reader_gone=nobody_is_gone, _stdout=stdout
    )
    with fail_after(30):
        async with chosen.of(LoggerSpec(KEY, destination=destination)).opened(ATTACHED, Event()) as target:
            assert target is not None
            assert target.letter_slots is not target.write_slots
            assert database is None or target.letter_slots is database.write_slots, "its connections are counted"


async def write(target: Target, sequence: int) -> None:
    """Write a batch of one entry as the writer does."""
    writing = target.sink.begin([entry(delivery(sequence))])
    async with target.write_slots:
        await writing.attempt()


async def test_a_file_that_stalls_takes_one_thread_however_many_batches_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.read({**ENVIRON, "COLLECTOR_FILES": str(tmp_path)})
    chosen = ChosenDestinations(settings=settings, mongodb=None, report=Reports(), on_reader_gone=nobody_is_gone)
    let, append = threading.Event(), LogFile.append

    def stalled(file: LogFile, entries: Sequence[Entry], lines: Sequence[bytes]) -> int:
        if entries[0].delivery.sequence < 100:
            let.wait()
        return append(file, entries, lines)

    monkeypatch.setattr(LogFile, "append", stalled)
    stalling, other = (chosen.of(LoggerSpec(key, destination="file")) for key in ("stalling", "other"))
    async with stalling.opened(ATTACHED, Event()) as one, other.opened(ATTACHED, Event()) as two:
        assert one is not None
        assert two is not None
        with fail_after(30):
            async with create_task_group() as group:
                for sequence in range(1, FILES_AT_ONCE + 1):
                    group.start_soon(write, one, sequence)
                await settled()
                try:
                    await write(two, 100)
                finally:
                    let.set()
    assert len((tmp_path / "stalling.ndjson").read_text().splitlines()) == FILES_AT_ONCE


async def test_files_share_their_slots_and_a_wait_that_is_cancelled_keeps_none() -> None:
    """A write that has its slot has a thread too, and its timeout does not begin in a line."""
    of_all = Semaphore(1)
    one, two = FileSlots(of_all), FileSlots(of_all)
    with fail_after(30):
        async with one:
            with move_on_after(0.01) as waits:
                async with two:
                    pass
            assert waits.cancelled_caught
        async with two:
            assert of_all.value == 0
    assert of_all.value == 1
