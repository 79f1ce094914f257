"""`collector archive verify` finds each damage of an archive, names its path once, and finds nothing in a right one."""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.archive.blocks import merged
from collector.archive.decoders import Entries
from collector.archive.finding import find_logs
from collector.archive.proof.findings import Finding, Kind, Tally
from collector.archive.proof.members import Compared, wanted_of
from collector.archive.proof.proving import Part, Prover
from collector.archive.rows import Reading
from collector.archive.stores.local import LocalStore
from collector.cli import main
from tests.archive.test_record import histories, members_of
from tests.support.archive_damages import COLUMNS, DAMAGES, FORMS, archive, path_of, some_messages
from tests.support.wire_bytes import INCARNATION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


async def findings(root: Path, part: Part | None = None) -> tuple[list[Finding], Tally]:
    found: list[Finding] = []
    store = LocalStore(root, patience=60)
    prover = Prover(store, found.append, lambda _: None)
    for log in await find_logs(store):
        await prover.prove(log, part or Part())
    await prover.prove_names()
    return found, prover.tally


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
async def test_a_right_archive_is_proven_in_each_format(tmp_path: Path, form: str, told: bool) -> None:
    making = {"columns": json.dumps(COLUMNS)} if "columns" in form else {}
    maker = archive(tmp_path, FORMS[form](), told=told, making=making)
    found, tally = await findings(tmp_path)
    assert found == []
    rows = sum(block.rows for record in maker.records for block in record.blocks)
    assert (tally.records, tally.rows) == (3, rows)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_each_damage_is_one_sentence_with_its_path(tmp_path: Path, damage: str) -> None:
    maker = archive(tmp_path)
    kind, path = DAMAGES[damage](maker)
    found, tally = await findings(tmp_path)
    assert (kind, path) in [(one.kind, one.path) for one in found]
    assert [one.path for one in found].count(path) == 1
    assert all(one.path in one.problem and "\n" not in one.problem for one in found)
    assert tally.findings == len(found)
    assert len(found) <= 4


@settings(max_examples=15, deadline=None)
@given(st.data())
async def test_no_flipped_bit_of_a_block_goes_unseen(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Its SHA-256 tells it, whatever the format; no reader fails in another way than by saying so."""
    root = tmp_path_factory.mktemp("archive")
    maker = archive(root, FORMS[data.draw(st.sampled_from(sorted(FORMS)))]())
    path = path_of(maker)
    content = bytearray((root / path).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    maker.put(path, bytes(content))
    found, _ = await findings(root)
    assert [one.path for one in found] == [path]


@pytest.mark.parametrize("form", FORMS)
async def test_a_block_that_was_cut_or_has_too_much_is_damaged_in_each_format(tmp_path: Path, form: str) -> None:
    """Also where the record has neither size nor SHA-256."""
    changes: list[Callable[[bytes], bytes]] = [
        lambda body: body[:-1],
        lambda body: body[: len(body) // 2 + 1],
        lambda body: body + b"x",
    ]
    for number, change in enumerate(changes):
        maker = archive(tmp_path / str(number), FORMS[form](), told=False)
        path = path_of(maker)
        maker.put(path, change((maker.root / path).read_bytes()))
        found, _ = await findings(maker.root)
        assert [(one.kind, one.path) for one in found] == [(Kind.BLOCK_DAMAGED, path)], number


async def test_a_part_and_several_captures_are_proven_alone(tmp_path: Path) -> None:
    maker = archive(tmp_path)
    other = archive(tmp_path, capture="audit")
    (tmp_path / path_of(maker, 1)).unlink()
    (tmp_path / path_of(other, 3)).unlink()
    found, _ = await findings(tmp_path)
    assert {one.path for one in found} == {path_of(maker, 1), path_of(other, 3)}
    store, told = LocalStore(tmp_path, patience=60), list[Finding]()
    (log,) = [one for one in await find_logs(store) if "orders" in one.folder]
    await Prover(store, told.append, lambda _: None).prove(log, Part(2, 3))
    assert told == []


@settings(deadline=None, max_examples=40)
@given(histories(), st.data())
async def test_any_rows_other_than_the_wanted_ones_are_told(history: Any, data: st.DataObject) -> None:
    members = members_of(history)
    wanted = wanted_of(members, max(members.blocks, default=-1) + 1)
    assert sorted(chain.from_iterable(one.places() for one in wanted)) == sorted(
        (sequence, position) for sequence, share in members.shares() for position in range(len(share))
    )
    full = [one for one in wanted if one.sequences]
    if full:
        one = data.draw(st.sampled_from(full))
        right = list(one.places())
        rows = data.draw(st.one_of(st.just(right), st.permutations(right), st.lists(st.sampled_from(right))))
        compared, size = Compared(one), data.draw(st.integers(1, 5))
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            compared.take(([sequence for sequence, _ in some], [position for _, position in some]))
        assert bool(compared.fault(other for other in wanted if other is not one)) == (list(rows) != right)


async def test_the_entries_of_a_message_are_by_position_whether_they_are_rows_or_dead_letters() -> None:
    """So the record of a capture says the same of each `_pos` as its blocks do."""
    received = some_messages(1, 7, with_dead=True)
    read = Reading(Entries(INCARNATION), INCARNATION).read(received)
    entries, counts = merged(received, read.rows, read.rejects)
    assert counts == [1, 1, 4, 1, 1, 4, 1, 1]
    assert [one.position or 0 for one in entries] == [0, 0, 0, 1, 2, 3, 0, 0, 0, 1, 2, 3, 0, 0]


# --- commands


def run(*arguments: str) -> tuple[int, list[str]]:
    result = CliRunner().invoke(main, ["archive", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output.splitlines()


def test_the_commands_speak_to_people_and_to_programs(tmp_path: Path) -> None:
    maker = archive(tmp_path)
    root = str(tmp_path)
    status, said = run("verify", root)
    assert (status, said[-1].partition(":")[0]) == (0, "proven")
    status, said = run("list", root)
    assert (status, len(said)) == (0, 1)
    status, said = run("list", root, "--capture", "orders", "--json")
    cuts = [json.loads(line) for line in said]
    assert [(cut["cut"], cut["from"], cut["to"]) for cut in cuts] == [(1, 1, 21), (2, 22, 36), (3, 37, 48)]
    assert [block["path"] for block in cuts[1]["blocks"]] == [block.path for block in maker.records[1].blocks]
    status, said = run("status", root, "--json")
    assert (status, json.loads(said[0])["cursor"]) == (0, 48)
    (tmp_path / path_of(maker, 3)).unlink()
    status, said = run("status", root, "--json")
    assert (status, json.loads(said[0])["cursor"], json.loads(said[0])["complete"]) == (1, 36, False)
    status, said = run("verify", root, "--json")
    assert (status, json.loads(said[0])["path"]) == (1, path_of(maker, 3))
    assert json.loads(said[-1])["verified"]["findings"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify", "/nowhere/at/all"], "expected the folder /nowhere/at/all"),
        (["list", "{root}"], "its captures are: none"),
        (["status", "{root}", "--capture", "orders"], "expected a capture 'orders'"),
    ],
)
def test_what_is_not_there_is_a_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    status, output = run(*(one.replace("{root}", str(tmp_path)) for one in arguments))
    assert status == 1
    assert said in output[-1]
