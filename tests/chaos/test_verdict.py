"""The verdict is able to fail: each harm is found, and nothing else is taken for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.content import data, fingerprint, is_faithful, metadata, moment
from tests.chaos.ledger import Ledger, Special, State
from tests.chaos.verdict import Harm, Sighting, judge

if TYPE_CHECKING:
    from tests.chaos.ledger import Source

SOURCE, KEY = "shop-1", "shop"


def published(count: int = 5, state: State = State.CONFIRMED) -> tuple[Ledger, Source]:
    ledger = Ledger()
    source = ledger.source(SOURCE, KEY)
    source.set(source.take(count), state)
    return ledger, source


def stored(*numbers: int, faithful: bool = True) -> list[Sighting]:
    return [Sighting(KEY, SOURCE, number, None, faithful=faithful, where=f"_id {number}") for number in numbers]


def letter(number: int, reason: str = "malformed", body: bytes = b"") -> Sighting:
    return Sighting(KEY, SOURCE, number, fingerprint(body), reason=reason)


def harms(ledger: Ledger, sightings: list[Sighting]) -> list[tuple[Harm, int]]:
    return [(one.harm, one.number) for one in judge(ledger, sightings).damages]


def test_each_confirmed_entry_found_once_is_good() -> None:
    ledger, _ = published()
    verdict = judge(ledger, stored(*range(5)))
    assert verdict.good
    assert (verdict.confirmed, verdict.stored, verdict.dead_lettered) == (5, 5, 0)


def test_where_nothing_was_published_nothing_is_proven() -> None:
    assert not judge(Ledger(), []).good


def test_a_confirmed_entry_that_is_nowhere_is_lost() -> None:
    ledger, _ = published()
    assert harms(ledger, stored(0, 1, 2, 4)) == [(Harm.LOST, 3)]


def test_an_entry_that_is_stored_twice_is_duplicated_and_both_places_are_named() -> None:
    ledger, _ = published()
    (damage,) = judge(ledger, stored(0, 1, 2, 3, 4, 2)).damages
    assert (damage.harm, damage.number) == (Harm.DUPLICATED, 2)
    assert "_id 2" in damage.what


def test_an_entry_that_is_stored_and_a_dead_letter_is_duplicated_and_one_of_them_is_wrong() -> None:
    ledger, _ = published()
    assert harms(ledger, [*stored(*range(5)), letter(1)]) == [(Harm.WRONG, 1), (Harm.DUPLICATED, 1)]


def test_other_content_is_wrong() -> None:
    ledger, _ = published()
    assert harms(ledger, [*stored(0, 1, 2, 3), *stored(4, faithful=False)]) == [(Harm.WRONG, 4)]


@pytest.mark.parametrize("name", ["", "nobody", SOURCE])
def test_what_nobody_published_is_wrong(name: str) -> None:
    ledger, _ = published()
    stray = Sighting(KEY, name, 5, None)
    assert harms(ledger, [*stored(*range(5)), stray]) == [(Harm.WRONG, 5)]


def test_an_entry_in_the_collection_of_another_logger_is_wrong() -> None:
    ledger, _ = published(1)
    assert harms(ledger, [Sighting("other", SOURCE, 0, None)]) == [(Harm.WRONG, 0)]


def test_an_entry_whose_publish_was_not_confirmed_may_be_there_once_but_not_twice() -> None:
    ledger, _ = published(3, State.MAYBE)
    assert harms(ledger, stored(0)) == []
    assert harms(ledger, stored(0, 1, 1)) == [(Harm.DUPLICATED, 1)]


def test_an_entry_whose_publisher_was_told_that_it_is_not_stored_is_wrong_when_it_is() -> None:
    ledger, _ = published(1, State.NOT_SENT)
    assert harms(ledger, []) == []
    assert harms(ledger, stored(0)) == [(Harm.WRONG, 0)]


def test_poison_has_to_be_a_dead_letter_once_with_its_reason_and_its_bytes() -> None:
    ledger, source = published(1)
    source.special[0] = Special(fingerprint(b"bad"), "malformed")
    assert harms(ledger, [letter(0, body=b"bad")]) == []
    assert harms(ledger, []) == [(Harm.LOST, 0)]
    assert harms(ledger, [letter(0, body=b"bad"), letter(0, body=b"bad")]) == [(Harm.DUPLICATED, 0)]
    assert harms(ledger, [letter(0, "other", b"bad")]) == [(Harm.WRONG, 0)]
    assert harms(ledger, [letter(0, body=b"worse")]) == [(Harm.WRONG, 0)]
    assert harms(ledger, stored(0)) == [(Harm.WRONG, 0)]


def test_harm_belongs_to_the_round_in_which_the_entry_was_published() -> None:
    ledger, source = published(2)
    ledger.begin_round(1)
    source.set(source.take(2), State.CONFIRMED)
    ledger.begin_round(2)
    late = ledger.source("late", KEY)
    late.set(late.take(), State.CONFIRMED)
    verdict = judge(ledger, stored(0, 2))
    assert [(one.source, one.number, one.round) for one in verdict.damages] == [
        (SOURCE, 1, 0),
        (SOURCE, 3, 1),
        ("late", 0, 2),
    ]
    assert verdict.count(Harm.LOST) == 3
    assert verdict.count(Harm.LOST, [1]) == 1


def test_content_is_told_by_every_part_of_a_document() -> None:
    document = {"_id": 1, **data(SOURCE, 7), "timestamp": moment(7), "metadata": metadata(SOURCE)}
    assert is_faithful(document)
    assert not is_faithful(document | {"more": 1})
    assert not is_faithful(document | {"took": 0.0})
    assert not is_faithful(document | {"timestamp": moment(8)})
    assert not is_faithful(document | {"metadata": None})
    assert not is_faithful({name: value for name, value in document.items() if name != "request"})
    assert is_faithful(document, fingerprint(data(SOURCE, 7)))
    assert not is_faithful(document, fingerprint(data(SOURCE, 8)))
