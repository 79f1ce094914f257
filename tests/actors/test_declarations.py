"""Which loggers go on without a key, as a table of bucket histories and as random ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.actors.declarations import Declaration, Declarations
from collector.jetstream.bucket import Life

TEN = "abcdefghij"


class Bucket:
    """A bucket, and a replica that knows what was put into it."""

    def __init__(self, declared: str) -> None:
        self.declarations = Declarations()
        self.known: set[str] = set()
        self.held: dict[str, int] = {}
        self.life, self.revision = "1", 0
        self.backup: tuple[dict[str, int], str, int] = {}, "1", 0
        self.put(declared)
        self.list()

    def unheard(self, keys: str) -> None:
        for key in keys:
            self.revision += 1
            self.held[key] = self.revision

    def put(self, keys: str) -> None:
        for key in keys:
            self.unheard(key)
            self._put(key)

    def delete(self, keys: str) -> None:
        for key in keys:
            self.revision += 1
            self.held.pop(key, None)
            self.declarations.delete(key)
            self.known.discard(key)

    def vanish(self, keys: str) -> None:
        for key in keys:
            self.held.pop(key, None)

    def anew(self, life: str) -> None:
        self.held, self.life, self.revision = {}, life, 0

    def save(self) -> None:
        self.backup = dict(self.held), self.life, self.revision

    def restore(self) -> None:
        held, self.life, self.revision = self.backup
        self.held = dict(held)
        self.list()

    def list(self) -> None:
        self.declarations.begin()
        for key in self.held:
            self._put(key)
        self.known -= self.declarations.complete(Life(self.life, self.revision), self.known)

    def broken(self, keys: str) -> None:
        self.declarations.begin()
        for key in keys:
            self._put(key)
        self.declarations.broken_off()

    def _put(self, key: str) -> None:
        self.known.add(key)
        self.declarations.put(key, Declaration(self.held[key]))


def play(bucket: Bucket, history: str) -> None:
    """Play steps such as `vanish:ab`, `list`."""
    for step in history.split():
        what, *keys = step.split(":")
        getattr(bucket, what)(*keys)


@pytest.mark.parametrize(
    ("declared", "history", "running", "kept"),
    [
        (TEN, "list list", TEN, ""),
        # a purge, and lists while the loggers are being declared again
        (TEN, f"vanish:{TEN} list", TEN, TEN),
        (TEN, f"vanish:{TEN} put:a list", TEN, "bcdefghij"),
        (TEN, f"vanish:{TEN} put:abcdefghi list", TEN, "j"),
        (TEN, f"vanish:{TEN} unheard:abcdefghi list", TEN, "j"),
        (TEN, f"vanish:{TEN} put:ab list put:cd list list put:ef list", TEN, "ghij"),
        (TEN, f"vanish:{TEN} put:ab broken:a list", TEN, "cdefghij"),
        (TEN, f"vanish:{TEN} list put:{TEN} list", TEN, ""),
        (TEN, f"vanish:{TEN} put:xyz list", TEN + "xyz", TEN),
        ("ab", "vanish:ab put:a list", "ab", "b"),
        ("a", "vanish:a list", "a", "a"),
        (TEN, f"put:a vanish:{TEN} list", TEN, TEN),
        # most are gone, without a purge of all: `nats stream purge --keep`, a limit of the bucket, an old backup
        (TEN, "vanish:abcdef list", TEN, "abcdef"),
        (TEN, "vanish:abcdef list list put:ab list", TEN, "cdef"),
        # a few are gone: deleted and compacted while nobody listened
        (TEN, "vanish:a list", "bcdefghij", ""),
        (TEN, "vanish:abcd list", "efghij", ""),
        (TEN, "put:jihg vanish:abcd list", TEN, "abcd"),
        (TEN, f"vanish:{TEN} list put:{TEN} list vanish:a list", "bcdefghij", ""),
        # another bucket
        (TEN, "anew:2 list", TEN, TEN),
        (TEN, f"anew:2 put:{TEN} vanish:j list list", TEN, "j"),
        (TEN, f"anew:2 put:{TEN} list vanish:j list", "abcdefghi", ""),
        # an older state of the same bucket
        ("abcdefg", "save put:hij list restore", TEN, "hij"),
        ("abcdefg", "save put:hij restore list", TEN, "hij"),
        ("abcdefg", "save unheard:hij list restore put:h list", TEN, "ij"),
        ("abcdefg", "save put:a list restore list vanish:a list", "bcdefg", ""),
        # a delete is a wish, whatever else happens
        (TEN, f"delete:{TEN}", "", ""),
        (TEN, "delete:abcdefghi list", "j", ""),
        (TEN, f"vanish:{TEN} delete:ab list", "cdefghij", "cdefghij"),
        (TEN, f"vanish:{TEN} list delete:ab list", "cdefghij", "cdefghij"),
        (TEN, "anew:2 list delete:a list", "bcdefghij", "bcdefghij"),
        (TEN, "delete:abcdefgh vanish:i list", "j", ""),
    ],
)
def test_a_logger_stops_for_a_wish_and_goes_on_after_an_accident(
    declared: str, history: str, running: str, kept: str
) -> None:
    bucket = Bucket(declared)
    play(bucket, history)
    assert "".join(sorted(bucket.known)) == running
    assert "".join(sorted(bucket.declarations.kept)) == kept


KEYS = st.text("abcde", min_size=1, max_size=5)
STEPS = st.one_of(
    st.builds("put:{}".format, KEYS),
    st.builds("unheard:{}".format, KEYS),
    st.builds("delete:{}".format, KEYS),
    st.sampled_from(["list", "vanish:abcde", "anew:2", "anew:3", "save", "restore"]),
)


@given(st.lists(STEPS, max_size=30))
def test_after_any_purges_restores_and_new_buckets_only_a_delete_has_stopped_a_logger(steps: list[str]) -> None:
    bucket = Bucket("abc")
    wanted = set("abc")
    for step in steps:
        play(bucket, step)
        what, _, keys = step.partition(":")
        if what == "put":
            wanted |= set(keys)
        elif what == "delete":
            wanted -= set(keys)
        assert wanted <= bucket.known
    bucket.list()
    assert bucket.known - bucket.declarations.kept == set(bucket.held)


def test_what_declares_no_logger_is_counted_also_over_a_list_that_is_broken_off() -> None:
    declarations = Declarations()
    for key in TEN:
        declarations.put(key, Declaration(1, "no spec"))
    declarations.begin()
    declarations.put("a", Declaration(2))
    declarations.delete("b")
    declarations.broken_off()
    assert declarations.unreadable == 8
