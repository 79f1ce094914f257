"""Names: those of the ancestor, and nothing from an invalid key."""

from __future__ import annotations

import pytest

from transfer.errors import InvalidKey, InvalidNamespace
from transfer.names import Names, check_key, check_namespace

BAD = ["", "a b", "a.b", "a*", "a>", "a/b", "a\\b", "a:b", "ä", "a\n", "\u0660", "x" * 129, None, 5]


def test_the_names_are_those_of_the_ancestor() -> None:
    names = Names("beta")
    assert names.bucket == "beta_logs"
    assert names.database == "beta"
    assert names.all_subjects == "beta.logs.>"
    assert names.stream("system") == names.durable("system") == "beta:logs:system"
    assert names.subject("system") == "beta.logs.system"
    assert names.collection("system") == "system_logs"
    assert names.dead_letters("system") == "system_fail"


@pytest.mark.parametrize("key", BAD)
def test_a_bad_key_is_refused_and_makes_no_name(key: str) -> None:
    with pytest.raises(InvalidKey, match="expected a logger key of 1 to 128"):
        check_key(key)
    names = Names("beta")
    for name in (names.stream, names.durable, names.subject, names.collection, names.dead_letters):
        with pytest.raises(InvalidKey):
            name(key)


@pytest.mark.parametrize("namespace", [*BAD, "x" * 64])
def test_a_bad_namespace_is_refused(namespace: str) -> None:
    with pytest.raises(InvalidNamespace):
        Names(namespace)


def test_every_allowed_character_and_length_is_taken() -> None:
    assert check_key("aZ09_-" + "x" * 122)
    assert check_namespace("aZ09_-" + "x" * 57)
