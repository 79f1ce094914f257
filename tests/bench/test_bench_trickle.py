"""A trickle is published at its rate, and its figures are those of all three processes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.checkout import Checkout
from bench.entries import FIRST
from bench.errors import NotAsExpected
from bench.groups import trickle
from bench.groups.trickle import Window
from bench.oplog import Oplog
from bench.plan import FULL, QUICK, Load
from bench.processes import is_available
from bench.publisher import Sent
from bench.thresholds import THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.stand import Stand

ROOT = Path(__file__).parents[2]
HERE = Checkout(ROOT, "this one")


@pytest.mark.parametrize(
    ("text", "load", "case"),
    [
        ("1x1000", Load(1, 1000), "1 logger, 1,000/s each"),
        ("100x0.5", Load(100, 0.5), "100 loggers, 0.5/s each"),
        ("100x10x4", Load(100, 10, 4), "100 loggers, 10/s each, 4 replicas"),
    ],
)
def test_a_load_is_read_and_named(text: str, load: Load, case: str) -> None:
    assert Load.parse(text) == load
    assert str(load) == case


@pytest.mark.parametrize("text", ["", "100", "100x", "x10", "0x10", "100x10x4x1", "ten x 10"])
def test_other_words_are_no_load(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        Load.parse(text)


def test_every_threshold_of_a_trickle_names_a_load_of_the_plan() -> None:
    cases = {str(load) for load in FULL.loads} | {trickle.FLOW, ""}
    groups = {trickle.NAME, trickle.BEFORE, trickle.OF_BEFORE}
    assert {one.case for one in THRESHOLDS if one.group in groups} <= cases


def test_a_window_counts_what_was_stored_in_it_and_waits_in_vain_for_what_was_not() -> None:
    sent = Sent({1: 10.0, 2: 11.0, 3: 12.0, 4: 12.9}, late={4})
    window = Window(sent, 10.0, 13.0, {"collector": 0.0002, "mongod": 0.0001}, inserts=1)
    measures = window.measures({0: 10.2, 1: 10.1, 2: 11.1, 3: 13.1}, looked=20.9)
    assert measures["collector µs"] == pytest.approx(200 / 3)
    assert measures["sum µs"] == pytest.approx(100)
    assert measures["p99 ms"] == pytest.approx(8000)
    assert measures["entries a write"] == 3
    assert measures["entries/s"] == 1
    assert measures["collector % of a core"] == pytest.approx(0.02 / 3)
    assert measures["sent in time"] == 0.75
    assert measures[trickle.LIVE] == 0.75


@pytest.mark.skipif(not is_available(), reason="expected Linux, which counts in /proc")
def test_a_trickle_is_stored_by_both_checkouts(stand: Stand) -> None:
    load = Load(3, 20)
    plan = replace(QUICK, loads=(load,), warm_up_seconds=0.3, trickle_seconds=0.5, against=HERE)
    trickle.measure(replace(stand, plan=plan))
    for group in (trickle.NAME, trickle.BEFORE):
        for measure in ("collector µs", "nats-server µs", "mongod µs", "p50 ms", "entries a write"):
            assert found(stand, group, load, measure) > 0, (group, measure)
    assert found(stand, trickle.NAME, load, "published alone µs") > 0


class Script:
    """Trickles whose figures are known beforehand: the collectors pay so much for each side and number of replicas."""

    def __init__(self, costs: dict[tuple[bool, int], float]) -> None:
        self._costs = costs

    def alone(self, _load: Load) -> float:
        return 5.0

    def stored(self, load: Load, settings: Mapping[str, str]) -> dict[str, float]:
        return {"collector µs": self._costs[bool(settings), load.replicas], "sent in time": 1.0}


def test_both_checkouts_and_many_replicas_are_compared_in_each_round(stand: Stand) -> None:
    stand, load = replace(stand, plan=replace(QUICK, against=HERE)), Load(100, 10)
    script: Any = Script({(False, 1): 40.0, (True, 1): 160.0, (False, 4): 60.0, (True, 4): 120.0})
    for one in (load, replace(load, replicas=4)):
        trickle.measure_load(stand, script, one)
    assert found(stand, trickle.OF_BEFORE, load, "collector µs") == 0.25
    assert found(stand, trickle.OF_BEFORE, replace(load, replicas=4), "collector µs") == 0.5
    assert found(stand, trickle.NAME, replace(load, replicas=4), "collector, of one") == 1.5
    assert stand.figures.find(trickle.OF_BEFORE, str(load), "sent in time") is None


def found(stand: Stand, group: str, load: Load, measure: str) -> float:
    """Return the median of a figure."""
    figure = stand.figures.find(group, str(load), measure)
    assert figure is not None, (group, load, measure)
    return figure.median


def test_mongodb_notes_when_an_entry_was_stored(stand: Stand) -> None:
    with stand.space() as space:
        documents = [{"number": FIRST + number} for number in range(3)]
        space.database["logs"].insert_one(documents[0])
        oplog, started = Oplog(space.database), time.time()
        space.database["logs"].insert_many(documents[1:])
        stored = oplog.wait(0, 1, patience=5)
    assert list(stored) == [1, 2]
    assert all(abs(moment - started) < 5 for moment in stored.values())


def test_a_checkout_is_a_folder_with_both_packages(tmp_path: Path) -> None:
    assert Checkout.at(ROOT).root == ROOT
    with pytest.raises(NotAsExpected, match="expected to import"):
        Checkout.at(tmp_path)
