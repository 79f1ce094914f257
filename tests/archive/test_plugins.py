"""Decoders, keys, formats and stores of an installed distribution are found by name, and each fault is a sentence."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from collector.archive.capturing.work import key_of
from collector.archive.plugins import Group, is_installed, load
from collector.archive.rows import Reading
from collector.archive.stores.opening import is_own, open_store
from collector.errors import StoreRefused
from tests.support.archiving import ABOUT, message
from tests.support.wire_bytes import INCARNATION
from transfer.errors import WrongSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODULE = "acme_archiving"
SOURCE = """
from collector.archive.rows import Row

NUMBER = 5

def words(message):
    return [Row(message, word, {"word": word}) for word in message.body.decode().split()]

class Initial:
    def __call__(self, row):
        return row.key[:1]

class Lines:
    suffix = "txt"

    def open(self, out):
        return Writer(out)

class Writer:
    def __init__(self, out):
        self.out = out

    def write(self, rows):
        self.out.write(b"".join(row.key.encode() + b"\\n" for row in rows))

    def finish(self, about):
        self.out.write(about.capture.encode())

    def drop(self):
        pass

class Shelf:
    def __init__(self, address, environ):
        self.where, self.objects, self.login = address, {}, environ["ACME_LOGIN"]

    async def create(self, path, data):
        return self.objects.setdefault(path, data) is data

class Inner:
    words = staticmethod(words)
"""
POINTS = f"""
[transfer.archive.decoders]
words = {MODULE}:words
lost = {MODULE}:nothing
five = {MODULE}:NUMBER
gone = {MODULE}_gone:words
[transfer.archive.keys]
initial = {MODULE}:Initial
[transfer.archive.formats]
lines = {MODULE}:Lines
words = {MODULE}:words
[transfer.archive.stores]
acme = {MODULE}:Shelf
"""


def install(folder: Path, name: str, points: str) -> None:
    """Put a distribution into a folder, as an installer does."""
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(points)


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install(tmp_path / "site", "acme", POINTS)
    (tmp_path / "site" / f"{MODULE}.py").write_text(SOURCE)
    (tmp_path / "site" / f"{MODULE}_bad.py").write_text("raise RuntimeError('not today')")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    yield
    sys.modules.pop(MODULE, None)


@pytest.mark.parametrize("name", ["words", f"{MODULE}:words", f"{MODULE}:Inner.words"])
def test_a_decoder_makes_rows(name: str) -> None:
    read = Reading(load(name, Group.DECODERS), INCARNATION).read([message(b"red green")])
    assert [(row.key, bytes(row.data)) for row in read.rows] == [
        ("red", b'{"word":"red"}'),
        ("green", b'{"word":"green"}'),
    ]


@pytest.mark.parametrize(("name", "folder"), [("initial", "initial"), (f"{MODULE}:Initial", "Initial")])
def test_a_key_takes_the_place_of_those_of_the_decoder(name: str, folder: str) -> None:
    key, key_name = key_of(name)
    read = Reading(load("words", Group.DECODERS), INCARNATION, key).read([message(b"red green")])
    assert ([row.key for row in read.rows], key_name) == (["r", "g"], folder)


def test_a_path_is_a_key_where_no_entry_point_has_its_name() -> None:
    key, key_name = key_of("data.word")
    read = Reading(load("words", Group.DECODERS), INCARNATION, key).read([message(b"red")])
    assert ([row.key for row in read.rows], key_name) == (["red"], "word")


@pytest.mark.parametrize("name", ["lines", f"{MODULE}:Lines"])
def test_a_format_makes_blocks(name: str) -> None:
    form, out = load(name, Group.FORMATS), io.BytesIO()
    writer = form.open(out)
    writer.write(Reading(load("words", Group.DECODERS), INCARNATION).read([message(b"red green")]).rows)
    writer.finish(ABOUT)
    assert (form.suffix, out.getvalue()) == ("txt", b"red\ngreen\norders")


async def test_a_store_is_named_by_the_scheme_of_its_address() -> None:
    assert is_own("acme://shelf/5")
    store = open_store("acme://shelf/5", {"ACME_LOGIN": "secret"})
    assert store.where == "acme://shelf/5"
    assert await store.create("a", b"1")
    assert not await store.create("a", b"2")


@pytest.mark.parametrize("address", ["/folder", "file:///folder", "s3://bucket/logs", "acme", "other://shelf"])
def test_every_other_address_is_read_as_before(address: str) -> None:
    assert not is_own(address)
    if address == "other://shelf":
        with pytest.raises(WrongSettings, match="the scheme 'other'"):
            open_store(address, {})


def test_a_store_that_does_not_open_is_refused_in_one_sentence() -> None:
    with pytest.raises(StoreRefused, match="to: expected the store acme to open, but KeyError: 'ACME_LOGIN'"):
        open_store("acme://shelf", {}, name="to")


@pytest.mark.parametrize(
    ("name", "group", "said"),
    [
        ("nobody", Group.DECODERS, "expected module:attribute, or one of five, gone, lost, words of"),
        ("word", Group.KEYS, "or one of initial of transfer.archive.keys, got 'word'"),
        ("a:", Group.DECODERS, "expected module:attribute, got 'a:'"),
        (":b", Group.DECODERS, "expected module:attribute, got ':b'"),
        (f"{MODULE}:", Group.KEYS, "expected module:attribute"),
        ("lost", Group.DECODERS, f"expected {MODULE}:nothing to be there, but AttributeError"),
        ("gone", Group.DECODERS, "but ModuleNotFoundError: No module named"),
        (f"{MODULE}:Inner.nothing", Group.DECODERS, "but AttributeError"),
        (f"{MODULE}_bad:words", Group.DECODERS, "but RuntimeError: not today"),
        (f"{MODULE}:Shelf", Group.KEYS, "but TypeError"),
        ("five", Group.DECODERS, "to be one of transfer.archive.decoders, but it cannot be called"),
        ("words", Group.FORMATS, "but it has no suffix and no open"),
        ("..:words", Group.DECODERS, "but TypeError"),
    ],
)
def test_a_name_that_leads_nowhere_is_an_error_that_says_why(name: str, group: Group, said: str) -> None:
    with pytest.raises(ValueError, match="expected") as raised:
        load(name, group)
    assert said in str(raised.value)


def test_a_name_of_two_distributions_is_taken_when_it_is_the_same_thing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "copy", "acme", POINTS)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "copy")])
    assert callable(load("words", Group.DECODERS))
    install(tmp_path / "other", "other", f"[transfer.archive.decoders]\nwords = {MODULE}:Inner.words\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "other")])
    with pytest.raises(ValueError, match=f"got {MODULE}:Inner.words and {MODULE}:words: take one of these names"):
        load("words", Group.DECODERS)


def test_nothing_is_installed_by_a_name_of_another_group() -> None:
    assert is_installed("words", Group.DECODERS)
    assert not is_installed("words", Group.KEYS)
