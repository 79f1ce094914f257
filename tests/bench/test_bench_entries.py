"""What the benchmark publishes is what it claims to: the same entry in every form, and the ceiling's document."""

from __future__ import annotations

import bson
import pytest

from bench.entries import BUNDLED, Form, Traffic, documents, entry_id
from bench.template import Template
from collector.decoding.codec import Codec
from collector.decoding.identity import Incarnation
from collector.model import Decoded, Delivery

SIZES = (100, 300, 4096)


def decoded(traffic: Traffic, number: int) -> Decoded:
    incarnation = Incarnation("bench:logs:drained", "2026-01-01T00:00:00Z")
    delivery = Delivery("s", "r", traffic.body(number), traffic.headers(number), "stream", 1, 1, 1)
    return Codec(incarnation).decode(delivery)


def stored(size: int, number: int) -> dict[str, object]:
    encoded = list(documents(size, number + 1))[number]
    return bson.decode(encoded)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", [Form.GO, Form.CLIENT, Form.JSON])
def test_the_collector_makes_the_documents_of_the_ceiling_of_single_messages(form: Form, size: int) -> None:
    (entry,) = decoded(Traffic(form, size), 1234).entries
    expected = stored(size, 1234)
    if form is not Form.CLIENT:  # the identity is derived then
        expected["_id"] = entry.document["_id"]
    assert bson.decode(bson.encode(entry.document)) == expected


@pytest.mark.parametrize("size", SIZES)
def test_a_bundle_holds_a_hundred_entries_with_numbers_of_their_own(size: int) -> None:
    found = decoded(Traffic(Form.BUNDLE, size), 12)
    assert not found.rejects
    numbers = [entry.document["number"] for entry in found.entries]
    assert numbers == [stored(size, number)["number"] for number in range(12 * BUNDLED, 13 * BUNDLED)]


@pytest.mark.parametrize("size", SIZES)
def test_an_entry_has_about_the_size_it_is_named_after(size: int) -> None:
    assert len(Traffic(Form.GO, size).body(7)) == pytest.approx(size, rel=0.1)


@pytest.mark.parametrize("form", Form)
def test_all_messages_of_a_form_have_the_same_length(form: Form) -> None:
    traffic = Traffic(form, 300)
    assert len({len(traffic.command(b"a.logs.b", number)) for number in (0, 1, 999, 1000, 299_999, 999_999)}) == 1


def test_every_entry_has_an_id_of_its_own() -> None:
    assert len({entry_id(number) for number in range(1000)}) == 1000


def test_a_template_refuses_a_hole_that_is_not_there_exactly_once() -> None:
    with pytest.raises(ValueError, match="once in the sample"):
        Template(b"abab", [b"ab"])
    with pytest.raises(ValueError, match="once in the sample"):
        Template(b"abcd", [b"cd", b"ab"])


def test_a_template_keeps_what_is_not_a_hole() -> None:
    assert Template(b"100% of <1>, %d", [b"<1>"]).fill(b"<2>") == b"100% of <2>, %d"
