"""The log over a scripted store: numbers without a gap, results that are unknown, damage, and hints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from collector.archive.layout import record_path
from collector.archive.log import Log, missing
from collector.errors import CollectorError, RecordDamaged
from tests.archive.test_record import members_of, record_of

if TYPE_CHECKING:
    from collector.archive.record import Record


class Unavailable(CollectorError):
    """The store's answer is lost."""


class ScriptedStore:
    """Objects in memory. The next calls of `create` may be lost before or after they are done."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.lost: list[str] = []
        self.listed: list[int] = []

    async def create(self, path: str, data: bytes) -> bool:
        lost = self.lost.pop(0) if self.lost else ""
        if lost == "before":
            raise Unavailable
        made = self.objects.setdefault(path, data) is data
        if lost == "after":
            raise Unavailable
        return made and not lost

    async def read(self, path: str) -> bytes:
        return self.objects[path]

    async def after(self, prefix: str, path: str) -> list[str]:
        found = sorted(one for one in self.objects if one.startswith(f"{prefix}/") and one > path)
        self.listed.append(len(found))
        return found


def nth(number: int, record_id: str = "mine") -> Record:
    held = members_of([([10 * number], [[0]])])
    return record_of(held, number=number, id=record_id, after=10 * (number - 1), to=10 * number)


def log_over(store: ScriptedStore) -> Log:
    return Log(store, nth(1).capture, nth(1).incarnation)


async def test_the_last_record_is_the_one_with_the_highest_number() -> None:
    store = ScriptedStore()
    log = log_over(store)
    assert await log.last() is None
    for number in range(1, 13):
        assert await log.create(nth(number))
    assert await log.last() == await log_over(store).last() == nth(12)
    assert await log.numbers(9) == [10, 11, 12]


async def test_who_comes_second_has_lost_whatever_he_holds() -> None:
    store = ScriptedStore()
    assert await log_over(store).create(nth(1, "mine"))
    assert not await log_over(store).create(nth(1, "theirs"))
    assert await log_over(store).last() == nth(1, "mine")


@pytest.mark.parametrize("lost", ["before", "after"])
@pytest.mark.parametrize("theirs", [False, True])
async def test_an_unknown_result_is_made_known_by_the_same_call(lost: str, *, theirs: bool) -> None:
    store = ScriptedStore()
    log, record = log_over(store), nth(1)
    store.lost = [lost]
    if theirs:
        store.objects[record_path(log.folder, 1)] = b""
        await log_over(other := ScriptedStore()).create(nth(1, "theirs"))
        store.objects.update(other.objects)
    with pytest.raises(Unavailable):
        await log.create(record)
    assert await log.create(record) is not theirs


async def test_a_store_that_repeats_by_itself_and_then_says_exists_has_still_made_ours() -> None:
    store = ScriptedStore()
    store.lost = ["answered as there"]
    assert await log_over(store).create(nth(1))


async def test_a_new_owner_of_a_long_log_lists_only_its_end() -> None:
    store = ScriptedStore()
    log = log_over(store)
    for number in range(1, 2501):
        assert await log.create(nth(number))
    store.listed.clear()
    assert await log_over(store).last() == nth(2500)
    assert store.listed == [2, 501]
    store.listed.clear()
    assert await log.last() == nth(2500)
    assert store.listed == [1]


async def test_a_log_whose_end_is_gone_is_no_empty_log() -> None:
    store = ScriptedStore()
    log = log_over(store)
    for number in range(1, 1002):
        await log.create(nth(number))
    for number in range(900, 1002):
        del store.objects[record_path(log.folder, number)]
    for one in (log, log_over(store)):
        with pytest.raises(RecordDamaged, match="neither it nor a later one"):
            await one.last()


async def test_old_records_may_go() -> None:
    store = ScriptedStore()
    log = log_over(store)
    for number in range(1, 4):
        await log.create(nth(number))
    for number in (1, 2):
        del store.objects[record_path(log.folder, number)]
    assert await log_over(store).last() == nth(3)


@pytest.mark.parametrize("field", [{"number": 2, "after": 0, "to": 30}, {"capture": "b"}, {"incarnation": "b"}])
async def test_a_record_of_another_log_is_damage(field: dict[str, object]) -> None:
    store = ScriptedStore()
    log = log_over(store)
    await log.create(nth(1))
    path = record_path(log.folder, 1)
    other = msgspec.structs.replace(nth(1), **field)
    elsewhere = ScriptedStore()
    await Log(elsewhere, other.capture, other.incarnation).create(other)
    store.objects[path] = next(iter(elsewhere.objects.values()))
    with pytest.raises(RecordDamaged, match=path):
        await log.last()


async def test_blocks_that_are_missing_are_found_each() -> None:
    store = ScriptedStore()
    record = record_of(members_of([([1, 2, 3, 4], [[0], [1], [2], [3]])]))
    await store.create(record.blocks[2].path, b"")
    await store.create(record.blocks[1].path + ".other", b"")
    assert await missing(store, record) == [0, 1, 3]
