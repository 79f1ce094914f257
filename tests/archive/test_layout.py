"""Paths of blocks: none leaves the root, none comes twice, and every store can have it."""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.archive.layout import (
    JETCAPTURE,
    Layout,
    default_template,
    log_folder,
    number_in,
    quoted,
    record_path,
    ulid,
)
from collector.archive.record import BlockKind
from collector.errors import WrongTemplate

if TYPE_CHECKING:
    from collector.archive.layout import Key

WINDOW = 1_795_000_500_000_000_000  # 2026-11-18T11:15:00Z


def layout(template: str, **changed: str) -> Layout:
    given_fields = {"capture": "orders", "stream": "ORDERS", "incarnation": "2026-11-27T08:00:00Z", "ext": "ndjson.zst"}
    return Layout(template, **{**given_fields, **changed})


def path_of(made: Layout, key: Key, number: int = 12, window_ns: int = WINDOW) -> str:
    ids = map("{:026}".format, count())
    return made.path(key, window_ns, first=1001, last=2000, number=number, new_id=lambda: next(ids))


def test_the_default_is_a_tree_of_hive() -> None:
    path = path_of(layout(default_template("host")), "web 1/ü")
    assert re.fullmatch(
        r"orders/host=web%201%2F%C3%BC/date=2026-11-18/hour=11/"
        r"00000000000000001001-00000000000000002000-00000012-[a-z2-7]{8}\.ndjson\.zst",
        path,
    )
    assert path_of(layout(default_template()), "").startswith("orders/date=2026-11-18/hour=11/0000")


def test_jet_captures_layout_and_an_empty_suffix_without_a_dot() -> None:
    assert path_of(layout(JETCAPTURE), "a") == "a/2026/11/18/11/15/backup-00000000000000000000000000.ndjson.zst"
    assert path_of(layout(JETCAPTURE, ext=""), "a") == "a/2026/11/18/11/15/backup-00000000000000000000000000"


@pytest.mark.parametrize(
    ("key", "folder"),
    [
        ("", "__HIVE_DEFAULT_PARTITION__"),
        (BlockKind.OTHER, "__other__"),
        ("__other__", "%5F_other__"),
        ("_archive", "%5Farchive"),
        ("..", "%2E."),
        (".", "%2E"),
        ("a=b", "a%3Db"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_a_key_is_one_step_that_is_never_hidden_or_reserved(key: Key, folder: str) -> None:
    assert path_of(layout("{key}/{n}"), key).split("/")[0] == folder


@given(st.text(max_size=400))
def test_any_key_stays_one_step_and_comes_back_when_it_is_short(key: str) -> None:
    step = quoted(key)
    assert len(step) <= 120
    assert re.fullmatch(r"[A-Za-z0-9%~_.-]*", step)
    assert step[:1] not in {"_", "."}
    if "~" not in step:
        assert unquote(step) == key


@given(st.lists(st.one_of(st.text(max_size=3), st.text(min_size=300, max_size=302)), unique=True, max_size=20))
def test_different_keys_have_different_steps(keys: list[str]) -> None:
    assert len({quoted(key) for key in keys}) == len(keys)


def test_another_capture_and_another_incarnation_have_other_paths_under_the_same_template() -> None:
    """All of them count from 1, and a block that is there is taken for one's own."""
    made = [
        layout("{n}"),
        layout("{n}", capture="others"),
        layout("{n}", incarnation="2026-11-28T08:00:00Z"),
        layout("{n}", capture="orders-2026", incarnation="1127"),
    ]
    assert len({path_of(one, "a") for one in made}) == len(made)
    assert len({path_of(one, BlockKind.DEAD) for one in made}) == len(made)
    assert log_folder("a", "2026-11-27T08:00:00.5Z") == "_archive/a-20261127T0800005Z"
    assert len({path_of(made[0], "a", number) for number in (1, 2, 100_000_000)}) == 3


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{capture}/{date}", r"neither {n} nor {ulid}"),
        ("{capture}/{name}/{n}", r"{name}, which is none of"),
        ("/{n}", "an empty step"),
        ("a//{n}", "an empty step"),
        ("../{n}", r"or a \.\."),
        ("a/./{n}", r"a \. or"),
        ("_archive/{n}", "_archive at the root"),
        ("_dead/{n}", "_dead at the root"),
        ("a\\{n}", "in which a character is none of"),
        ("a b/{n}", "in which a character is none of"),
        ("{n", "expected '}' before end"),
        ("{n!r}", "a format behind"),
        ("{n:3}", "a format behind"),
        ("{key}-{key}/{n}", "a step of up to"),
        ("/".join(["{key}"] * 8) + "/{n}", "a path of up to"),
    ],
)
def test_a_template_that_could_harm_is_refused_with_a_way_out(template: str, why: str) -> None:
    with pytest.raises(WrongTemplate, match=why) as raised:
        layout(template)
    assert "expected a template of paths such as" in str(raised.value)


@pytest.mark.parametrize("window_ns", [-1, -(10**20), 10**25, 0])
def test_a_window_of_any_time_has_a_path(window_ns: int) -> None:
    assert re.search(r"date=\d{4}-\d\d-\d\d/hour=\d\d/", path_of(layout(default_template()), "", 1, window_ns))


def test_a_ulid_sorts_by_time_and_has_all_of_its_bits() -> None:
    assert ulid(1_469_918_176_385, bytes(10)) == "01ARYZ6S410000000000000000"
    assert ulid(2**48 - 1, b"\xff" * 10) == "7" + "Z" * 25
    assert ulid(1, b"\xff" * 10) < ulid(2, bytes(10))


def test_the_number_of_a_record_is_in_its_path() -> None:
    assert record_path("_archive/a-1", 12) == "_archive/a-1/000000000012.cut"
    assert number_in("_archive/a-1/000000000012.cut") == 12
    assert number_in("_archive/a-1/000000000012.cut.tmp") is None
