"""A short game of a fixed seed in each run of the tests; `make chaos` plays the long one, on S3 and Azure too."""

from __future__ import annotations

import pytest

from tests.chaos.archive.faults import FAULTS
from tests.chaos.archive.game import ArchiveGame
from tests.chaos.archive.world import archive_world
from tests.chaos.report import lines
from tests.chaos.verdict import Harm

pytestmark = pytest.mark.timeout(300)
SEED = 1
SELECTION = ("replica: SIGKILL after it creates a record", "store: requests answer lost")
"""Both come in one round, and with them the killed nats-server and all weather of every round."""


async def test_a_short_game_archives_each_message_once_and_a_block_that_is_copied_by_hand_is_found() -> None:
    faults = [fault for fault in FAULTS if fault.name in SELECTION]
    assert len(faults) == len(SELECTION)
    streams = ("limits", "queue")
    async with archive_world(200.0, 2, name="archive-folder", kind="folder", streams=streams) as world:
        game = ArchiveGame(world, faults, SEED, lambda _: None)
        outcome = await game.play(1)
        assert outcome.good, "\n".join(lines([outcome]))
        assert {struck.partition(": ")[2] for one in outcome.rounds for struck in one.faults} >= set(SELECTION)
        assert outcome.verdict.dead_lettered > 0
        path, rows = next((path, rows) for path, rows in world.looks.blocks.items() if path.startswith("queue/"))
        assert await world.place.store.create(path.replace("queue/", "queue/copy/"), await world.place.store.read(path))
        await world.looks.look_at_all()
        found = game.judge()
    assert [one.harm for one in found.damages].count(Harm.DUPLICATED) == len(rows)
    assert any("no record names it" in one.what for one in found.damages)
