"""When what is in memory is frozen, and when it is looked through."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from collector.heap import Heap

if TYPE_CHECKING:
    from collections.abc import Iterator

CLEANED = ["unfreeze", "collect", "freeze"]


class RecordedGc:
    """Python's module, of which only the calls are noted."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def set_threshold(self, *_: int) -> None:
        self.calls.append("set_threshold")

    def freeze(self) -> None:
        self.calls.append("freeze")

    def unfreeze(self) -> None:
        self.calls.append("unfreeze")

    def collect(self) -> None:
        self.calls.append("collect")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> RecordedGc:
    """Give the calls."""
    found = RecordedGc()
    monkeypatch.setattr("collector.heap.gc", found)
    return found


@pytest.fixture
def thresholds() -> Iterator[None]:
    """Leave the collector of this process as it was."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def looked(heap: Heap, recorded: RecordedGc, loggers: int) -> list[str]:
    recorded.calls.clear()
    heap.look(loggers)
    return list(recorded.calls)


def test_while_loggers_start_everything_is_frozen_and_looked_through_once_when_all_have(recorded: RecordedGc) -> None:
    heap = Heap()
    assert [looked(heap, recorded, loggers) for loggers in (0, 300, 900, 1000)] == [[], *[["freeze"]] * 3]
    assert looked(heap, recorded, 1000) == CLEANED
    assert looked(heap, recorded, 1000) == []


@pytest.mark.parametrize(("loggers", "calls"), [(1050, []), (1200, CLEANED), (950, []), (800, CLEANED)])
def test_a_few_loggers_more_or_less_are_not_worth_a_look_at_everything(
    loggers: int, calls: list[str], recorded: RecordedGc
) -> None:
    heap = Heap()
    for _ in range(2):
        heap.look(1000)
    assert looked(heap, recorded, loggers) == ["freeze"]
    assert looked(heap, recorded, loggers) == calls


@pytest.mark.usefixtures("thresholds")
def test_the_program_itself_is_frozen_at_the_start() -> None:
    Heap().begin()
    assert gc.get_freeze_count() > 1000
