"""Members and records: what goes in comes out, damage is told with its place, and a record is small."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.archive.members import Members, Shares
from collector.archive.record import Block, CutTrigger, Record, decode, encode
from collector.errors import RecordDamaged

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = "_archive/orders-1/000000000007.cut"


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[list[int], list[list[int]]]]:
    """Draw slices: rising sequences, and the blocks of the entries of each message."""
    after, history = draw(st.sampled_from([0, 5, 2**40])), []
    entries = st.lists(st.integers(0, 300), min_size=0 if draw(st.booleans()) else 1, max_size=draw(st.integers(1, 3)))
    for _ in range(draw(st.integers(1, 5))):
        steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 70_000]), max_size=12))
        sequences = list(accumulate(steps, initial=after))[1:]
        history.append((sequences, draw(st.lists(entries, min_size=len(sequences), max_size=len(sequences)))))
        after = sequences[-1] if sequences else after
    return history


def members_of(history: Sequence[tuple[list[int], list[list[int]]]]) -> Members:
    members = Members()
    for sequences, shares in history:
        counts = [len(share) for share in shares]
        given_counts = None if set(counts) <= {1} else counts
        members.add(sequences, [block for share in shares for block in share], given_counts)
    return members


def record_of(held: Members, **fields: object) -> Record:
    rows = Counter(held.blocks)
    blocks = [
        Block(path=f"orders/{number}.ndjson", key=f"k{number}", window_ns=0, rows=rows[number])
        for number in range(max(held.blocks, default=-1) + 1)
    ]
    first = held.firsts[0] if held.firsts else 1
    last = held.firsts[-1] + held.lengths[-1] - 1 if held.firsts else 1
    record = Record(
        number=7,
        id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
        owner="replica-1",
        capture="orders",
        incarnation="2026-11-27T08:00:00.123456789Z",
        after=first - 1,
        to=last,
        to_time_ns=1_795_000_000_000_000_000,
        trigger=CutTrigger.AGE,
        making={"format": "ndjson"},
        blocks=tuple(blocks),
        members=held,
    )
    return msgspec.structs.replace(record, **fields)


@settings(deadline=None)
@given(histories())
def test_members_come_back_as_they_were_put_together(history: list[tuple[list[int], list[list[int]]]]) -> None:
    members = members_of(history)
    flat = [
        (sequence, share) for sequences, shares in history for sequence, share in zip(sequences, shares, strict=True)
    ]
    assert Members.decode(members.encode()) == members
    assert [(sequence, list(blocks)) for sequence, blocks in members.shares()] == flat
    assert members.messages == len(flat)
    shares = Shares(members)
    held = dict(flat)
    for sequence in {near for one in held for near in (one - 1, one, one + 1)} | {0, 1}:
        blocks = shares.of(sequence)
        assert (None if blocks is None else list(blocks)) == held.get(sequence)
    if flat:
        record = record_of(members)
        assert decode(encode(record), PATH) == record


@pytest.mark.parametrize("damage", ["nothing", "cut", "head", "version", "end", "flipped"])
def test_a_damaged_record_is_told_with_its_path(damage: str) -> None:
    encoded = encode(record_of(members_of([([1, 2, 3], [[0], [1], [0]])])))
    damaged = {
        "nothing": b"",
        "cut": encoded[:-1],
        "head": b"x" + encoded,
        "version": encoded.replace(b" 1\n", b" 2\n", 1),
        "end": encoded[:16],
        "flipped": encoded[:40] + bytes([encoded[40] ^ 1]) + encoded[41:],
    }[damage]
    with pytest.raises(RecordDamaged, match=PATH):
        decode(damaged, PATH)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_goes_unseen(place: int, change: int) -> None:
    encoded = bytearray(encode(record_of(members_of([([1, 2, 3], [[0], [1], [0]])]))))
    encoded[place % len(encoded)] ^= change
    with pytest.raises(RecordDamaged):
        decode(bytes(encoded), PATH)


_THREE = members_of([([4, 5, 6], [[0], [1], [0]])])


@pytest.mark.parametrize(
    "fields",
    [
        {"after": 4},
        {"to": 5},
        {"blocks": record_of(_THREE).blocks[:1]},
        {"blocks": (record_of(_THREE).blocks[0],) * 2},
        {"blocks": tuple(msgspec.structs.replace(block, rows=9) for block in record_of(_THREE).blocks)},
        {"members": Members()},
    ],
    ids=["after", "to", "blocks", "paths", "rows", "members"],
)
def test_a_record_that_contradicts_itself_is_neither_written_nor_read(
    fields: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = record_of(_THREE, **fields)
    with pytest.raises(ValueError, match="expected a record that is right"):
        encode(wrong)
    with monkeypatch.context() as patched:
        patched.setattr("collector.archive.record.fault_of", lambda _: "")
        encoded = encode(wrong)
    with pytest.raises(RecordDamaged, match="it has"):
        decode(encoded, PATH)


@pytest.mark.parametrize(("keys", "most"), [(1, 1_000), (26, 170_000), (1000, 400_000)])
def test_a_record_of_250_000_messages_is_small(keys: int, most: int) -> None:
    """It takes little more than the information in it: the logarithm of the number of keys for each message."""
    random = Random(1)  # noqa: S311 - the same keys each time
    members = Members()
    for start in range(1, 250_001, 5_000):
        members.add(range(start, start + 5_000), random.choices(range(keys), k=5_000))
    blocks = [
        f"orders/host=web-{number}/date=2026-11-27/hour=08/{1:020}-{2:020}-{7:08}.ndjson.zst" for number in range(keys)
    ]
    rows = Counter(members.blocks)
    record = record_of(
        members,
        blocks=tuple(
            Block(path=path, key=f"web-{number}", window_ns=0, rows=rows[number]) for number, path in enumerate(blocks)
        ),
    )
    encoded = encode(record)
    assert len(encoded) < most
    assert decode(encoded, PATH) == record
