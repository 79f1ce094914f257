"""A short game of a fixed seed in each run of the tests; `make chaos` plays the long one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bson import ObjectId
from pymongo import MongoClient

from tests.chaos.faults.table import FAULTS
from tests.chaos.found import sightings
from tests.chaos.game import Game
from tests.chaos.report import lines
from tests.chaos.verdict import Harm, judge
from tests.chaos.world import single

if TYPE_CHECKING:
    from tests.chaos.world import World

pytestmark = pytest.mark.timeout(300)
SEED = 1
SELECTION = (
    "replica: SIGKILL",
    "replica: SIGSTOP before it sends, series",
    "nats: SIGKILL amid deliveries",
    "nats: connections reset",
    "mongodb: reset in an insert",
    "mongodb: not primary",
    "data: bad entries in bundles",
    "data: entries published twice",
)


async def test_a_short_game_harms_no_entry_and_what_is_harmed_by_hand_is_found() -> None:
    faults = [fault for fault in FAULTS if fault.name in SELECTION]
    assert len(faults) == len(SELECTION)
    async with single(rate=200.0, replicas=2) as world:
        outcome = await Game(world, faults, SEED, lambda _: None).play(len(faults))
        assert outcome.good, "\n".join(lines([outcome]))
        assert {name for one in outcome.rounds for name in one.faults} == set(SELECTION)
        assert all(len(outcome.rounds[0].stops) == 4 for one in outcome.rounds)
        harm_by_hand(world)
        found = judge(world.ledger, sightings(world.mongo_uri, world.transfer.names, world.traffics, world.ledger))
    harms = [(one.harm, one.key) for one in found.damages if one.key in world.traffics]
    assert sorted(harms) == [(Harm.DUPLICATED, "series"), (Harm.LOST, "plain"), (Harm.WRONG, "bundles")]


def harm_by_hand(world: World) -> None:
    """Remove a document, add a copy of one, and change one."""
    with MongoClient[dict[str, Any]](world.mongo_uri) as client:
        database, names = client[world.transfer.names.database], world.transfer.names
        database[names.collection("plain")].delete_one({"source": {"$exists": True}})
        series = database[names.collection("series")]
        copy = series.find_one()
        assert copy is not None
        series.insert_one({**copy, "_id": ObjectId()})
        database[names.collection("bundles")].update_one({"source": {"$exists": True}}, {"$set": {"took": -1.0}})
