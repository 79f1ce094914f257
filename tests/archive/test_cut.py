"""The open cut and its plan: when it is due, what belongs where, and that the same cut is the same plan."""

from __future__ import annotations

import math
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.archive.cut import CutPolicy, OpenCut, Plan, planned
from collector.archive.layout import Layout, default_template
from collector.archive.record import BlockKind, CutTrigger, Record, decode, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.archive.layout import Key

MINUTE = 60_000_000_000
CLOCK = (1000.0, 1_795_000_500.0)


def plan_of(template: str = default_template("host")) -> Plan:
    made = Layout(template, capture="orders", stream="ORDERS", incarnation="i", ext="ndjson")
    return Plan(capture="orders", incarnation="i", owner="replica-1", layout=made, making={"format": "ndjson"})


def record_of(cut: OpenCut, last: Record | None = None, *, to: int, plan: Plan | None = None) -> Record:
    ids = map("{:026}".format, count())
    trigger = CutTrigger.AGE
    return planned(plan or plan_of(), cut, last, to=to, to_time_ns=5, trigger=trigger, new_id=lambda: next(ids))


def test_an_empty_cut_is_never_due() -> None:
    cut = OpenCut(CutPolicy())
    assert (bool(cut), cut.due_at, cut.due(math.inf, 1 << 40)) == (False, math.inf, None)
    assert cut.add([], "a", 0, clock=CLOCK) == ()
    assert not cut


@pytest.mark.parametrize(
    ("policy", "now", "held_bytes", "trigger"),
    [
        (CutPolicy(max_bytes=10), 0.0, 9, None),
        (CutPolicy(max_bytes=10), 0.0, 10, CutTrigger.BYTES),
        (CutPolicy(max_messages=4), 0.0, 0, None),
        (CutPolicy(max_messages=3), 0.0, 0, CutTrigger.MESSAGES),
        (CutPolicy(max_age=5.0), 4.9, 0, None),
        (CutPolicy(max_age=5.0), 5.0, 0, CutTrigger.AGE),
        (CutPolicy(window=60.0, grace=0.0), 29.9, 0, None),  # it was opened 30 s before a full minute
        (CutPolicy(window=60.0, grace=0.0), 30.0, 0, CutTrigger.WINDOW),
        (CutPolicy(window=60.0, grace=1.0), 30.9, 0, None),
        (CutPolicy(window=60.0, grace=1.0), 31.0, 0, CutTrigger.WINDOW),
    ],
)
def test_a_cut_is_due_at_the_first_of_its_limits(
    policy: CutPolicy, now: float, held_bytes: int, trigger: CutTrigger | None
) -> None:
    cut = OpenCut(policy)
    cut.add([1, 2, 3], "a", 0, clock=(1000.0, 1_795_000_530.0))
    assert cut.due(1000.0 + now, held_bytes) is trigger
    assert (cut.due_at <= 1000.0 + now) == (trigger in {CutTrigger.AGE, CutTrigger.WINDOW})


def test_a_backlog_of_many_windows_makes_no_cut_due() -> None:
    cut = OpenCut(CutPolicy(window=60.0))
    cut.add(range(1, 101), "a", [number * MINUTE for number in range(100)], clock=CLOCK)
    assert cut.due(CLOCK[0], 0) is None
    assert len(record_of(cut, to=100).blocks) == 100


@pytest.mark.parametrize(
    ("max_ack_pending", "ack_wait", "messages", "age"),
    [(-1, 30.0, 250_000, 15.0), (0, 3600.0, 250_000, 900.0), (1000, 3600.0, 950, 900.0), (1, 3600.0, 1, 900.0)],
)
def test_a_durable_neither_stalls_nor_delivers_again_before_its_cut_is_due(
    max_ack_pending: int, ack_wait: float, messages: int, age: float
) -> None:
    policy = CutPolicy(max_age=900.0).of_durable(max_ack_pending=max_ack_pending, ack_wait=ack_wait)
    assert (policy.max_messages, policy.max_age) == (messages, age)


def test_windows_are_in_utc() -> None:
    assert CutPolicy(window=900.0).window_of(1_795_000_799_999_999_999) == 1_794_999_600_000_000_000 + 900_000_000_000


def test_keys_that_are_too_many_go_under_other_and_are_counted() -> None:
    cut = OpenCut(CutPolicy(max_keys=2))
    assert list(cut.add([1, 2, 3, 4, 5], ["a", "b", "c", "d", "a"], 0, clock=CLOCK)) == [0, 1, 2, 2, 0]
    cut.add([6], BlockKind.DEAD, 0, clock=CLOCK)
    record = record_of(cut, to=6)
    assert [(block.key, block.kind, block.rows) for block in record.blocks] == [
        ("a", BlockKind.ROWS, 2),
        ("b", BlockKind.ROWS, 1),
        ("", BlockKind.OTHER, 2),
        ("", BlockKind.DEAD, 1),
    ]
    assert record.overflow == 2
    assert "/host=__other__/" in record.blocks[2].path
    assert record.blocks[3].path.startswith("_dead/orders/")


def test_keys_without_end_take_no_memory_for_each() -> None:
    cut = OpenCut(CutPolicy(max_keys=10))
    for start in range(1, 10_001, 1000):
        cut.add(range(start, start + 1000), [str(number) for number in range(start, start + 1000)], 0, clock=CLOCK)
    assert (len(cut.places), sum(map(len, cut._windows.values()))) == (11, 10)


def test_keys_and_windows_without_end_are_a_reason_to_cut_and_no_error() -> None:
    cut = OpenCut(CutPolicy(max_keys=20_000))
    for start in range(1, 80_001, 20_000):
        windows = [number * MINUTE for number in range(start, start + 20_000)]
        cut.add(range(start, start + 20_000), list(map(str, windows)), windows, clock=CLOCK)
    assert len(cut.places) <= 65_536
    assert cut.due(CLOCK[0], 0) is CutTrigger.BLOCKS


def test_one_key_for_all_is_the_same_as_that_key_for_each() -> None:
    one, each = OpenCut(CutPolicy()), OpenCut(CutPolicy())
    one.add([1, 2], "a", 0, counts=[2, 0], clock=CLOCK)
    each.add([1, 2], ["a", "a"], [0, 0], counts=[2, 0], clock=CLOCK)
    assert (one.members, one.places) == (each.members, each.places)
    with pytest.raises(ValueError, match="expected a key for each of 2 entries, got 1"):
        OpenCut(CutPolicy()).add([1, 2], ["a"], 0, clock=CLOCK)


def test_blocks_that_the_template_does_not_tell_apart_have_different_paths() -> None:
    cut = OpenCut(CutPolicy())
    cut.add([1, 2, 3], ["a", "b", "a"], [0, 0, MINUTE], clock=CLOCK)
    paths = [block.path for block in record_of(cut, to=3, plan=plan_of("all/{n}")).blocks]
    assert len(set(paths)) == 3
    assert all(path.endswith(".ndjson") for path in paths)


_keys = st.one_of(st.sampled_from(["", "a", "b", "__other__"]), st.sampled_from([BlockKind.DEAD]), st.text(max_size=3))
_entries = st.lists(st.tuples(_keys, st.integers(0, 3)), max_size=3)
_slices = st.lists(st.lists(st.tuples(st.integers(1, 3), _entries), max_size=8), min_size=1, max_size=5)


@settings(deadline=None)
@given(_slices, st.integers(1, 5))
def test_members_partition_the_cut_and_the_plan_is_the_same_each_time(
    slices: list[list[tuple[int, list[tuple[Key, int]]]]], max_keys: int
) -> None:
    """Each entry is in one block, with its own key and window, or in that of dead letters, or in `__other__`."""

    def cut_of(together: Sequence[Sequence[tuple[int, list[tuple[Key, int]]]]]) -> tuple[OpenCut, list[int]]:
        cut, after = OpenCut(CutPolicy(max_keys=max_keys)), 7
        held: list[int] = []
        for one in together:
            sequences = [after := after + step for step, _ in one]
            held += sequences
            entries = [entry for _, share in one for entry in share]
            keys, windows = [key for key, _ in entries], [window * MINUTE for _, window in entries]
            cut.add(sequences, keys, windows, counts=[len(share) for _, share in one], clock=CLOCK)
        return cut, held

    cut, held = cut_of(slices)
    if not held:
        assert not cut
        return
    record = record_of(cut, to=held[-1])
    flat = [message for one in slices for message in one]
    assert [sequence for sequence, _ in record.members.shares()] == held
    for (_, share), (_, blocks) in zip(flat, record.members.shares(), strict=True):
        assert len(share) == len(blocks)
        for (key, window), number in zip(share, blocks, strict=True):
            block = record.blocks[number]
            told = (block.kind if block.kind is not BlockKind.ROWS else block.key, block.window_ns)
            expected = (key, 0 if key is BlockKind.DEAD else window * MINUTE)
            assert told == expected or (len(cut.places) >= max_keys and told == (BlockKind.OTHER, expected[1]))
    assert decode(encode(record), "x") == record
    assert record_of(cut_of(slices)[0], to=held[-1]) == record
    assert record_of(cut_of([flat])[0], to=held[-1]) == record, "however it was sliced"


def test_a_record_follows_the_last_one() -> None:
    first, second = OpenCut(CutPolicy()), OpenCut(CutPolicy())
    first.add([3], "a", 0, clock=CLOCK)
    second.add([9], "a", 0, clock=CLOCK)
    one = record_of(first, to=4)
    two = record_of(second, one, to=9)
    assert ((one.number, one.after, one.to), (two.number, two.after, two.to)) == ((1, 0, 4), (2, 4, 9))
    assert one.follows(None)
    assert two.follows(one)
    assert not two.follows(None)
    assert not one.follows(two)
