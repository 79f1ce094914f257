"""Which faults come in which round follows from the seed, and none is forgotten."""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.archive import faults as archive_faults
from tests.chaos.archive.game import draw as draw_for_the_archive
from tests.chaos.archive.world import WORLDS
from tests.chaos.faults.table import FAULTS
from tests.chaos.game import draw
from tests.chaos.run import plans

if TYPE_CHECKING:
    from tests.chaos.faults.fault import Fault


def drawn(seed: int, rounds: int) -> list[list[Fault]]:
    return list(islice(draw(FAULTS, Random(seed)), rounds))  # noqa: S311 - the same rounds from the same seed


def test_the_same_seed_draws_the_same_rounds_and_another_one_others() -> None:
    assert drawn(1, 100) == drawn(1, 100)
    assert drawn(1, 100) != drawn(2, 100)


def test_each_fault_comes_before_any_comes_again() -> None:
    assert {faults[0].name for faults in drawn(3, len(FAULTS))} == {fault.name for fault in FAULTS}


def test_two_faults_of_a_round_strike_different_victims_and_some_stand_alone() -> None:
    pairs = [faults for faults in drawn(4, 500) if len(faults) == 2]
    assert pairs
    assert all(first.victim != second.victim for first, second in pairs)
    assert not any(fault.alone for pair in pairs for fault in pair)


def test_names_are_unique_and_every_fault_is_struck_in_some_world() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.single or fault.cluster or fault.arbiter for fault in FAULTS)


def test_faults_of_the_archive_that_are_struck_together_have_different_victims() -> None:
    chance = Random(5)  # noqa: S311 - as above
    rounds = list(islice(draw_for_the_archive(archive_faults.FAULTS, chance), 300))
    assert {faults[0].name for faults in rounds[: len(archive_faults.FAULTS)]} == {
        fault.name for fault in archive_faults.FAULTS
    }
    for faults in rounds:
        victims = [victim for fault in faults for victim in fault.victims]
        assert len(victims) == len(set(victims))
    assert any(len(faults) == 3 for faults in rounds)


def test_each_world_of_the_archive_has_faults_of_replicas_of_nats_and_of_its_store() -> None:
    for world in WORLDS:
        suited = [fault for fault in archive_faults.FAULTS if fault.suits(world)]
        assert frozenset().union(*(fault.victims for fault in suited)) == {"replica", "nats", "store"}


def test_the_rounds_of_all_worlds_are_numbered_in_one_row() -> None:
    single, cluster, arbiter = plans(60, "all", "")[:3]
    assert (single.first, cluster.first, arbiter.first) == (1, single.rounds + 1, single.rounds + cluster.rounds + 1)
    assert single.rounds > cluster.rounds > arbiter.rounds > 0
    assert sum(plan.rounds for plan in plans(60, "all", "")) == 60


def test_only_picks_faults_by_a_part_of_their_names() -> None:
    (plan,) = plans(10, "cluster", "stepped down")
    assert (plan.world, plan.rounds) == ("cluster", 10)
    assert all("stepped down" in fault.name for fault in plan.faults)
    cluster, arbiter = plans(24, "all", "then the primary dies")
    assert (cluster.world, cluster.rounds, arbiter.world, arbiter.rounds) == ("cluster", 18, "arbiter", 6)
    assert plans(10, "single", "stepped down") == []
