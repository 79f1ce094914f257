"""Destinations outside MongoDB: which slots the writes and the dead letters of a logger take."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event, Semaphore, fail_after

from collector.actors.destinations import ChosenDestinations
from collector.actors.mongo_destinations import MongoDestinations
from collector.settings import Settings
from collector.sinks.stdout import Stdout
from tests.support.fakes import ATTACHED, KEY, Reports
from tests.support.moving import ENVIRON
from transfer.names import Names
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
