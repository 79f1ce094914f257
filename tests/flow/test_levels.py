"""Levels: told once a second, each as it is then, and only those that have changed."""

from __future__ import annotations

from collector.events import Held, WritesInProgress
from collector.flow.in_hand import InHand
from collector.flow.levels import Levels
from tests.support.fakes import Reports, delivery


def test_a_level_is_told_once_however_often_it_changes_and_as_it_is_then() -> None:
    levels, in_hand, reports = Levels(), InHand(), Reports()
    level, quiet = levels.open("a", in_hand), levels.open("b", InHand())
    for number in range(1, 4):
        in_hand.take([delivery(number)])
        level.writes += 1
        level.touch()
    levels.tell(reports)
    assert reports.all == [Held("a", 3, in_hand.memory_bytes), WritesInProgress("a", 3)]
    levels.tell(reports)
    assert len(reports.all) == 2, "nothing has changed"
    quiet.touch()
    levels.tell(reports)
    assert reports.all[2:] == [Held("b", 0, 0), WritesInProgress("b", 0)]


def test_a_logger_that_moves_no_more_holds_nothing_and_is_told_at_once() -> None:
    levels, in_hand, reports = Levels(), InHand(), Reports()
    level = levels.open("a", in_hand)
    in_hand.take([delivery(1)])
    level.writes = 1
    level.touch()
    level.close(reports)
    assert reports.all == [Held("a", 0, 0), WritesInProgress("a", 0)]
    levels.tell(reports)
    assert len(reports.all) == 2
