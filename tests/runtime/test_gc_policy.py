"""When what is in memory is frozen, and when it is looked through."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING
from weakref import ref

import pytest

from collector.runtime.gc_policy import GcPolicy

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
    monkeypatch.setattr("collector.runtime.gc_policy.gc", found)
    return found


@pytest.fixture
def thresholds() -> Iterator[None]:
    """Leave the collector of this process as it was."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def looked(heap: GcPolicy, recorded: RecordedGc, loggers: int) -> list[str]:
    recorded.calls.clear()
    heap.observe(loggers)
    return list(recorded.calls)


def test_while_loggers_start_and_once_after_everything_is_frozen_and_nothing_looked_through(
    recorded: RecordedGc,
) -> None:
    heap = GcPolicy()
    numbers = (0, 300, 1000, 1000, 1000)
    assert [looked(heap, recorded, loggers) for loggers in numbers] == [[], *[["freeze"]] * 3, []]


@pytest.mark.parametrize(
    ("before", "loggers", "calls"),
    [(1000, 920, ["freeze"]), (1000, 800, CLEANED), (12, 4, ["freeze"]), (12, 0, CLEANED)],
)
def test_everything_is_looked_through_when_the_number_has_settled_after_many_have_gone(
    before: int, loggers: int, calls: list[str], recorded: RecordedGc
) -> None:
    heap = GcPolicy()
    heap.observe(before)
    assert looked(heap, recorded, loggers) == ["freeze"]
    assert looked(heap, recorded, loggers) == calls
    assert looked(heap, recorded, loggers) == []


def test_loggers_that_come_and_go_add_up(recorded: RecordedGc) -> None:
    heap = GcPolicy()
    calls = [looked(heap, recorded, loggers) for _ in range(6) for loggers in (100, 98, 100, 100)]
    assert calls.count(CLEANED) == 1


@pytest.mark.usefixtures("thresholds")
def test_the_program_itself_is_frozen_at_the_start() -> None:
    GcPolicy().begin()
    assert gc.get_freeze_count() > 1000


class Pipeline:
    """Something that is in a cycle with itself."""

    def __init__(self) -> None:
        self.stages = [self]


@pytest.mark.usefixtures("thresholds")
def test_what_is_left_of_loggers_that_are_gone_is_found_though_it_was_frozen() -> None:
    heap, pipeline = GcPolicy(), Pipeline()
    left = ref(pipeline)
    heap.observe(20)
    del pipeline
    gc.collect()
    assert left() is not None, "frozen"
    for _ in range(2):
        heap.observe(0)
    assert left() is None
