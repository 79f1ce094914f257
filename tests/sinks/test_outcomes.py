"""What MongoDB's answer to an insert means for each entry: every one is in exactly one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from bson.errors import InvalidDocument
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import DocumentTooLarge, OperationFailure

from collector.errors import SinkUnavailable
from collector.model import Entry, Reason
from collector.mongodb.errors import describe_failure
from collector.sinks.mongodb import MongoWriting
from collector.sinks.outcomes import (
    Outcomes,
    document_at_fault,
    halves,
    outcomes,
    refusal_of_command,
    without_unencodable,
)
from tests.support.fakes import delivery, entry

if TYPE_CHECKING:
    from collections.abc import Sequence

ID_TAKEN = {"code": 11000, "keyPattern": {"_id": 1}}
ORDER_TAKEN = {"code": 11000, "keyPattern": {"order": 1, "shop": 1}}
NO_MAJORITY = {"writeConcernError": {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "secret words"}}


def entries(number: int, *, own_id: bool = False) -> list[Entry]:
    return [msgspec.structs.replace(entry(delivery(sequence)), own_id=own_id) for sequence in range(1, number + 1)]


def reply(errors: dict[int, dict[str, Any]], **more: Any) -> dict[str, Any]:
    failed = [{"index": index, "errmsg": "no", **error} for index, error in errors.items()]
    return {"ok": 1.0, **({"writeErrors": failed} if failed else {}), **more}


def in_all(found: Outcomes) -> int:
    return found.stored + len(found.duplicates) + len(found.doubtful) + len(found.refused) + len(found.later)


# the reply to a command that ran


def test_a_reply_without_errors_means_that_all_are_stored() -> None:
    assert outcomes(entries(3), reply({})) == Outcomes(stored=3)


def test_a_duplicate_of_a_derived_identity_is_written() -> None:
    several = entries(3)
    assert outcomes(several, reply({1: ID_TAKEN})) == Outcomes(stored=2, duplicates=[several[1]])


def test_a_duplicate_of_a_publishers_own_identity_is_in_doubt() -> None:
    several = entries(3, own_id=True)
    assert outcomes(several, reply({1: ID_TAKEN})) == Outcomes(stored=2, doubtful=[several[1]])


@pytest.mark.parametrize("own_id", [True, False])
def test_a_duplicate_in_another_unique_index_is_refused_and_says_where(own_id: bool) -> None:
    several = entries(2, own_id=own_id)
    (refusal,) = outcomes(several, reply({0: ORDER_TAKEN})).refused
    assert (refusal.entry, refusal.reason) == (several[0], Reason.DUPLICATE_KEY)
    assert "order, shop" in refusal.error


def test_a_duplicate_that_does_not_say_in_which_index_is_never_taken_for_written() -> None:
    found = outcomes(entries(1), reply({0: {"code": 11000}}))
    assert (found.duplicates, [refusal.reason for refusal in found.refused]) == ([], [Reason.DUPLICATE_KEY])


OF_A_DOCUMENT_ALONE = [2, 9, 14, 15, 16, 22, 52, 53, 54, 55, 56, 57, 61, 111, 116, 121, 171, 201, 357, 378, 388]
OF_AN_INDEX = [13026, 13027, 13067, 13068, 16675, 16732, 16733, 16746, 16755, 16756, 16766, 16775, 16776, 16804]
OF_AN_INDEX += [17261, 17262, 17280, 183493, 183934, 5743702, 5894900, 5930501]
TOO_LARGE = [10003, 10334, 17419, 17420]
ACCUSING = {*OF_A_DOCUMENT_ALONE, *OF_AN_INDEX, *TOO_LARGE}
"""The closed list, written down a second time: whoever adds to it says so twice."""


def test_of_all_codes_that_there_can_be_only_those_of_the_closed_list_accuse_a_document() -> None:
    """Error codes of MongoDB end below 500 and begin anew at 9001; single assertions have up to eight digits."""
    (one,) = entries(1)
    accusing = set()
    for code in {*range(1, 60_000), *ACCUSING} - {11000}:
        found = outcomes([one], reply({0: {"code": code}}))
        assert in_all(found) == len(found.refused) + len(found.later) == 1
        if found.refused:
            accusing.add(code)
        else:
            assert f"code {code}" in found.error
    assert accusing == ACCUSING


@given(st.integers(1, 2**31 - 1))
def test_a_code_that_nobody_knows_leaves_the_entry_for_later(code: int) -> None:
    several = entries(2)
    found = outcomes(several, reply({1: {"code": code}}))
    known = code in ACCUSING or code == 11000
    assert (found.stored, len(found.refused), len(found.later)) == (1, int(known), int(not known))
    assert document_at_fault(OperationFailure("no", code)) == (code in ACCUSING - {2, 9, 14})


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (166, "a view stands"),
        (8000, "a quota"),
        (371, "setUserWriteBlockMode"),
        (14031, "OutOfDiskSpace"),
        (1, "Inter"),
    ],
)
def test_trouble_of_the_server_is_said_with_its_name(code: int, sentence: str) -> None:
    assert sentence in outcomes(entries(1), reply({0: {"code": code}})).error
    assert sentence in describe_failure(OperationFailure("no", code, {"codeName": f"Location{code}"}))


@pytest.mark.parametrize(("code", "reason"), [(2, "invalid"), (121, "invalid"), (10334, "too_large")])
def test_the_reason_of_a_refusal_follows_from_its_code(code: int, reason: str) -> None:
    (refusal,) = outcomes(entries(1), reply({0: {"code": code}})).refused
    assert refusal.reason == f"document_{reason}"


def test_a_server_that_quotes_a_large_document_does_not_make_a_large_letter() -> None:
    (refusal,) = outcomes(entries(1), reply({0: {"code": 16755, "errmsg": "x" * 1_000_000}})).refused
    assert len(refusal.error) < 2000


def test_the_validators_words_which_may_quote_the_document_are_not_repeated() -> None:
    (refusal,) = outcomes(entries(1), reply({0: {"code": 121, "errmsg": "secret"}})).refused
    assert "secret" not in refusal.error
    assert "validator" in refusal.error


def test_without_a_majority_nothing_is_stored_and_only_refusals_stand() -> None:
    several = entries(4)
    found = outcomes(several, reply({1: {"code": 2}, 2: ID_TAKEN}, **NO_MAJORITY))
    assert (found.stored, found.duplicates, found.doubtful) == (0, [], [])
    assert [refusal.entry for refusal in found.refused] == [several[1]]
    assert found.later == [several[0], several[2], several[3]]
    assert "WriteConcernFailed" in found.error
    assert "secret" not in found.error


def test_what_another_document_has_is_no_refusal_while_a_change_of_primary_may_undo_that_document() -> None:
    several = entries(2)
    found = outcomes(several, reply({0: ORDER_TAKEN}, **NO_MAJORITY))
    assert (found.refused, found.later) == ([], several)


def test_equal_entries_are_told_apart_by_their_place() -> None:
    (one,) = entries(1)
    twin = msgspec.structs.replace(one)
    found = outcomes([one, twin], reply({1: {"code": 2}}, **NO_MAJORITY))
    assert [refusal.entry is twin for refusal in found.refused] == [True]
    assert [left is one for left in found.later] == [True]


@given(
    kinds=st.lists(st.sampled_from(["fine", "id taken", "order taken", "passing", "invalid"]), max_size=30),
    own_id=st.booleans(),
    majority=st.booleans(),
)
def test_every_entry_is_in_exactly_one_place(kinds: list[str], own_id: bool, majority: bool) -> None:
    error: dict[str, dict[str, Any]] = {
        "id taken": ID_TAKEN,
        "order taken": ORDER_TAKEN,
        "passing": {"code": 91},
        "invalid": {"code": 2},
    }
    failed = {index: error[kind] for index, kind in enumerate(kinds) if kind != "fine"}
    several = entries(len(kinds), own_id=own_id)
    found = outcomes(several, reply(failed, **({} if majority else NO_MAJORITY)))
    assert in_all(found) == len(several)
    places = [*found.doubtful, *found.later, *(refusal.entry for refusal in found.refused)]
    assert len({id(one) for one in places}) == len(places)
    assert len(found.refused) == kinds.count("invalid") + (kinds.count("order taken") if majority else 0)
    assert found.stored == (kinds.count("fine") if majority else 0)


# a command that failed as a whole


@pytest.mark.parametrize("code", [15, 22, 121, 10334, 17280])
def test_a_document_can_be_why_a_whole_command_failed(code: int) -> None:
    assert document_at_fault(OperationFailure("no", code))


@pytest.mark.parametrize("code", [2, 9, 13, 14, 18, 50, 59, 91, 189, 8000, 10107, 11600, None])
def test_what_is_not_the_documents_fault_is_never_held_against_them(code: int | None) -> None:
    assert not document_at_fault(OperationFailure("no", code))


def test_what_the_server_answered_is_named_without_its_text() -> None:
    exc = OperationFailure("{insert: 'logs', documents: [{password: 1}]}", 2, {"codeName": "BadValue", "code": 2})
    assert describe_failure(exc) == "MongoDB answered BadValue (code 2)"
    (one,) = entries(1)
    assert refusal_of_command(one, exc).error == describe_failure(exc)
    assert describe_failure(OperationFailure("no", 5)) == "MongoDB answered code 5"


@given(st.integers(2, 100))
def test_halves_hold_every_entry_once_and_are_both_smaller(number: int) -> None:
    several = entries(number)
    first, second = halves(several)
    assert [*first, *second] == several
    assert 0 < len(first) < number
    assert 0 < len(second) < number


# a command that could not be encoded

BAD: dict[str, Any] = {"v": 2**64}


@given(st.lists(st.booleans(), min_size=1, max_size=20).filter(any))
def test_only_the_guilty_are_refused_and_the_others_are_written_together(guilty: list[bool]) -> None:
    several = [entry(delivery(number), None, **(BAD if bad else {})) for number, bad in enumerate(guilty, 1)]
    refused, left = without_unencodable(several, OverflowError())
    assert [refusal.entry for refusal in refused] == [one for one, bad in zip(several, guilty, strict=True) if bad]
    good = [one for one, bad in zip(several, guilty, strict=True) if not bad]
    assert left == ([good] if good else [])


def test_when_nobody_is_guilty_all_together_were_too_large_and_are_halved() -> None:
    several = entries(5)
    refused, left = without_unencodable(several, DocumentTooLarge("command too large"))
    assert (refused, left) == ([], [several[:2], several[2:]])


@pytest.mark.parametrize(
    ("cause", "reason"),
    [(DocumentTooLarge("no"), Reason.DOCUMENT_TOO_LARGE), (RecursionError("no"), Reason.DOCUMENT_INVALID)],
)
def test_one_that_can_be_encoded_alone_and_not_in_a_command_is_refused_and_never_tried_for_ever(
    cause: Exception, reason: Reason
) -> None:
    (one,) = entries(1)
    refused, left = without_unencodable([one], cause)
    assert [(refusal.entry, refusal.reason) for refusal in refused] == [(one, reason)]
    assert left == []


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"a": [0, {"b": 2**64}]}, "expected integers of at most 64 bits with a sign, at a.1.b"),
        ({"a": {"x\0y": 1}}, "expected text keys without NUL and values of BSON types, at a.x\0y"),
        ({"a": "\ud800"}, "expected text that UTF-8 can hold, at a"),
        ({"\ud800": 1}, "expected text that UTF-8 can hold, at \\ud800"),
    ],
    ids=["integer", "key", "text", "text in a key"],
)
def test_the_sentence_about_a_guilty_document_names_the_field(document: dict[str, Any], sentence: str) -> None:
    one = entry(delivery(1), None, **document)
    ((refusal,), left) = without_unencodable([one], InvalidDocument("the whole document"))
    assert (refusal.error, left) == (sentence, [])


def test_the_name_of_a_field_is_cut_where_it_is_long() -> None:
    one = entry(delivery(1), None, **{"k" * 1_000_000: 2**64})
    ((refusal,), _) = without_unencodable([one], OverflowError())
    assert len(refusal.error) < 300


# over attempts


class ScriptedSink:
    """A sink whose commands answer, one after another, what is in the script; exceptions are raised."""

    def __init__(self, *script: dict[str, Any] | Exception) -> None:
        self._script = list(script)

    async def insert(self, _entries: Sequence[Entry]) -> dict[str, Any]:
        reply = self._script.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


async def test_why_entries_are_written_later_is_known_also_when_another_command_failed_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("collector.sinks.mongodb.COMMAND_LIMIT", 1)
    sink: Any = ScriptedSink(
        {"n": 0, "writeErrors": [{"index": 0, "code": 91}]}, SinkUnavailable("connection lost"), {"n": 1}, {"n": 1}
    )
    writing = MongoWriting(sink, [entry(delivery(1)), entry(delivery(2))])
    with pytest.raises(SinkUnavailable, match="connection lost"):
        await writing.attempt()
    with pytest.raises(SinkUnavailable, match="code 91"):
        await writing.attempt()
    await writing.attempt()
    assert writing.written.stored == 2
