"""The judge of the archive is able to fail: each harm to blocks or log is found, and nothing else is taken for one."""

from __future__ import annotations

import io
from random import Random
from typing import TYPE_CHECKING

import pytest

from collector.archive.compression import Compression, Packing
from collector.archive.decoders import AsItCame, Entries, PlainJson
from collector.archive.formats.csv import Csv
from collector.archive.formats.dead import write_letters
from collector.archive.formats.ndjson import Ndjson
from collector.archive.formats.parquet import Parquet
from collector.archive.formats.raw import Raw
from collector.archive.members import Members
from collector.archive.record import Block, CutTrigger, Record, encode
from collector.archive.rows import Reading
from collector.errors import StoreUnavailable
from tests.chaos.archive.content import body, poison
from tests.chaos.archive.found import found_in, sighting
from tests.chaos.archive.log import faults_of
from tests.chaos.archive.looks import Looks
from tests.chaos.content import fingerprint
from tests.chaos.verdict import Harm
from tests.support.archiving import block, messages, rows_of
from tests.support.wire_bytes import INCARNATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.archive.formats import Format
    from collector.archive.rows import Decoder

SOURCE, PATH = "orders-1", "orders/eu/00000001.ndjson"
FORMS: dict[str, tuple[Format, Decoder]] = {
    "ndjson": (Ndjson(Packing(Compression.ZSTD)), Entries(INCARNATION)),
    "csv": (Csv(Packing(Compression.GZIP)), PlainJson(INCARNATION)),
    "parquet": (Parquet(Compression.ZSTD), PlainJson(INCARNATION)),
    "raw": (Raw(Packing(Compression.NONE)), AsItCame()),
}


def block_of(form: Format, decoder: Decoder, numbers: Sequence[int]) -> bytes:
    """Return a block of messages, which have the sequences 1, 2, 3, ..."""
    return block(form, rows_of(decoder, messages(body(SOURCE, number) for number in numbers)))


def lines(*numbers: int) -> bytes:
    return block_of(Ndjson(Packing(Compression.NONE)), Entries(INCARNATION), numbers)


def record(number: int, after: int, to: int, path: str = PATH, rows: int = 0) -> bytes:
    held = Members()
    sequences = list(range(after + 1, to + 1))
    held.add(sequences, [0] * len(sequences))
    return encode(
        Record(
            number=number,
            id=str(number),
            owner="me",
            capture="orders",
            incarnation="1",
            after=after,
            to=to,
            to_time_ns=1,
            trigger=CutTrigger.AGE,
            making={},
            blocks=(Block(path=path, key="eu", window_ns=0, rows=rows or len(sequences)),),
            members=held,
        )
    )


class Memory:
    """A store whose objects a test changes."""

    where = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.away = False

    async def create(self, path: str, data: bytes) -> bool:
        raise NotImplementedError

    async def read(self, path: str) -> bytes:
        return self.objects[path]

    async def after(self, prefix: str, path: str) -> list[str]:  # noqa: ARG002
        if self.away:
            raise StoreUnavailable("it is away")
        return sorted(self.objects)


@pytest.mark.parametrize("name", FORMS)
def test_each_message_of_a_block_is_found_in_every_format(name: str) -> None:
    form, decoder = FORMS[name]
    found = found_in(f"orders/1.{form.suffix}", block_of(form, decoder, [7, 8, 96]))
    assert [(row.sequence, row.source, row.number, row.faithful) for row in found] == [
        (1, SOURCE, 7, True),
        (2, SOURCE, 8, True),
        (3, SOURCE, 96, True),
    ]


@pytest.mark.parametrize("name", FORMS)
def test_a_part_of_a_block_is_no_block(name: str) -> None:
    form, decoder = FORMS[name]
    whole = block_of(form, decoder, range(50))
    with pytest.raises(ValueError, match="expected a whole block, got"):
        found_in(f"orders/1.{form.suffix}", whole[: len(whole) * 2 // 3])


def test_a_dead_letter_is_told_with_its_reason_and_its_bytes() -> None:
    out = io.BytesIO()
    rejects = Reading(Entries(INCARNATION), INCARNATION).read(messages([poison(SOURCE, 5)])).rejects
    write_letters(out, rejects)  # type: ignore[arg-type]
    (found,) = found_in("_dead/orders/1.ndjson", out.getvalue())
    seen = sighting(found, "_dead/orders/1.ndjson", {})
    assert (seen.key, seen.source, seen.number, seen.reason) == ("orders", SOURCE, 5, "malformed")
    assert seen.fingerprint == fingerprint(poison(SOURCE, 5))


def test_a_message_under_another_sequence_than_its_publisher_was_told_is_wrong() -> None:
    (found,) = found_in(PATH, lines(3))
    assert sighting(found, PATH, {SOURCE: {3: 1}}).faithful
    assert not sighting(found, PATH, {SOURCE: {3: 2}}).faithful


async def test_a_block_that_changes_or_goes_away_or_is_cut_or_repeats_another_one_is_found() -> None:
    store = Memory()
    looks = Looks(store, Random(1), lambda: 4)  # noqa: S311 - a test
    store.objects = {PATH: lines(1, 2), "_archive/orders-1/000000000001.cut": b"record"}
    assert await looks.look_at_all()
    assert (looks.damages, looks.has(SOURCE, 2), looks.has(SOURCE, 3)) == ([], True, False)

    store.away = True
    assert not await looks.look()
    store.away = False
    store.objects[PATH] += lines(3)
    await looks.look_at_all()
    store.objects = {"orders/2.ndjson": lines(2, 5), "orders/3.ndjson": lines(9)[:-20]}
    await looks.look_at_all()
    assert {one.harm for one in looks.damages} == {Harm.WRONG}
    assert {one.round for one in looks.damages} == {4}
    assert sorted((one.source, one.what.partition(":")[0]) for one in looks.damages) == [
        ("_archive/orders-1/000000000001.cut", "it was there and is gone"),
        ("orders/2.ndjson", f"{SOURCE} 2 is visible here and in {PATH}"),
        ("orders/3.ndjson", f"expected a whole block, got {len(lines(9)) - 20} bytes"),
        (PATH, "it was there and is gone"),
        (PATH, "its bytes have changed"),
    ]


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        (record(2, 2, 3, "orders/2.ndjson"), ""),
        (record(2, 1, 3, "orders/2.ndjson", 2), "record 2 of (1, 3] is behind record 1 of (0, 2]"),
        (record(3, 2, 3, "orders/2.ndjson"), "record 3 of (2, 3] is behind record 1 of (0, 2]"),
        (record(2, 2, 3, "orders/4.ndjson"), "a record names it, and it is not there"),
        (record(2, 2, 3), "two records"),
        (record(2, 2, 4, "orders/2.ndjson"), "it has 1 rows, and its record says 2"),
        (record(2, 2, 3, "orders/2.ndjson")[:-1], "the checksum of its"),
    ],
)
def test_a_log_that_contradicts_itself_or_the_blocks_is_found(second: bytes, fault: str) -> None:
    folder = "_archive/orders-1"
    files = {f"{folder}/000000000001.cut": record(1, 0, 2), f"{folder}/000000000002.cut": second}
    rows = found_in(PATH, lines(1, 2, 3))
    faults = [what for _, what in faults_of(files, {PATH: rows[:2], "orders/2.ndjson": rows[2:]})]
    assert bool(faults) == bool(fault)
    assert any(fault in one for one in faults) or not fault


def test_a_block_that_no_record_names_is_found() -> None:
    rows = found_in(PATH, lines(1, 2))
    files = {"_archive/orders-1/000000000001.cut": record(1, 0, 2), "_archive/probe/create-only": b""}
    assert list(faults_of(files, {PATH: rows, "orders/x": rows})) == [("orders/x", "no record names it")]
