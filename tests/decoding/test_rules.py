"""Rules between decoding and document: each entry is changed, dropped on purpose or poison on its own."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.decoding.codec import Codec
from collector.model import Decoded, Delivery, Dropped
from tests.support.fakes import ATTACHED, delivery, entry, reject
from tests.support.rules import ByFate
from transfer.wire import BUNDLE

FATES = st.sampled_from(["", "change", "drop", "poison"])


def fields(number: int, fate: str) -> dict[str, Any]:
    return {"n": number, "fate": fate}


def as_map(number: int, fate: str) -> bytes:
    return msgspec.msgpack.encode({"data": fields(number, fate)})


def as_json(number: int, fate: str) -> bytes:
    return msgspec.json.encode({"data": fields(number, fate)})


def as_array(number: int, fate: str) -> bytes:
    return msgspec.msgpack.encode([None, fields(number, fate), None])


FORMS = [as_map, as_json, as_array]


def decoded(codec: Codec, *deliveries: Delivery) -> list[Decoded]:
    found, rest = list[Decoded](), list(deliveries)
    while rest:
        inflated = codec.inflated_from(rest)
        found += [one for one in codec.decode_inflated(inflated, weigh=True) if one is not None]
        rest = rest[len(inflated.deliveries) :]
    return found


def numbers(several: list[Decoded], fate: str) -> list[int]:
    """Return the entries that had a fate."""
    match fate:
        case "drop":
            return [one.delivery.sequence for part in several for one in part.dropped]
        case "poison":
            return [one.delivery.sequence for part in several for one in part.rejects]
    found = [one.document for part in several for one in part.entries]
    return [one["n"] for one in found if one["fate"] == fate and one.get("changed", False) == (fate == "change")]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@given(fates=st.lists(FATES, min_size=1, max_size=40))
def test_each_entry_has_the_fate_that_a_rule_gives_it_and_is_seen_once(form: Any, fates: list[str]) -> None:
    rule = ByFate()
    bodies = [form(number, fate) for number, fate in enumerate(fates, 1)]
    several = [delivery(number, body) for number, body in enumerate(bodies, 1)]
    found = decoded(Codec(ATTACHED.incarnation, [rule]), *several)
    assert [one for part in found for one in part.deliveries] == several
    for fate in ("", "change", "drop", "poison"):
        assert numbers(found, fate) == [number for number, its in enumerate(fates, 1) if its == fate]
    assert rule.seen == list(range(1, len(fates) + 1))
    assert [one.body for part in found for one in part.rejects] == [
        body for body, fate in zip(bodies, fates, strict=True) if fate == "poison"
    ]
    assert sum(part.total for part in found) == len(fates)


@given(fates=st.lists(FATES, min_size=1, max_size=40))
def test_in_a_bundle_each_entry_has_its_own_fate(fates: list[str]) -> None:
    body = msgspec.msgpack.encode([msgspec.Raw(as_map(number, fate)) for number, fate in enumerate(fates)])
    one = msgspec.structs.replace(
        delivery(1, body), raw_headers=b"NATS/1.0\r\nContent-Type: " + BUNDLE.encode() + b"\r\n\r\n"
    )
    [found] = decoded(Codec(ATTACHED.incarnation, [ByFate()]), one)
    assert [entry.position for entry in found.entries] == [
        position for position, fate in enumerate(fates) if fate in {"", "change"}
    ]
    assert [reject.position for reject in found.rejects] == [
        position for position, fate in enumerate(fates) if fate == "poison"
    ]
    assert len(found.dropped) == fates.count("drop")


def test_rules_are_applied_in_order_and_behind_a_drop_no_more() -> None:
    first, second = ByFate("first"), ByFate("second")
    codec = Codec(ATTACHED.incarnation, [first, second])
    several = decoded(codec, delivery(1, as_map(1, "change")), delivery(2, as_map(2, "drop")))
    assert [one.document["metadata"] for part in several for one in part.entries] == [{"by": "second"}]
    assert [one.rule for part in several for one in part.dropped] == ["first"]
    assert (first.seen, second.seen) == ([1, 2], [1])


PARTS = st.lists(st.sampled_from(["entry", "reject", "drop"]), min_size=1, max_size=12)


@given(fates=PARTS, count=st.integers(1, 12), size=st.integers(0, 1000), weight=st.integers(0, 1000))
def test_deliveries_that_are_taken_apart_keep_the_fates_of_their_entries(
    fates: list[str], count: int, size: int, weight: int
) -> None:
    """Two hand-overs under one reply subject are two deliveries nevertheless: nats-server was killed between them."""
    whole = Decoded([delivery(number // 2) for number in range(len(fates))], [], [], size, weight)
    for one, fate in zip(whole.deliveries, fates, strict=True):
        if fate == "entry":
            whole.entries.append(entry(one))
        elif fate == "reject":
            whole.rejects.append(reject(one))
        else:
            whole.dropped.append(Dropped(one, "rule"))
    first, rest = whole.cut(count)
    for parts in ([first] if rest is None else [first, rest], whole.singly()):
        assert [one for part in parts for one in part.deliveries] == whole.deliveries
        assert (sum(part.size for part in parts), sum(part.weight for part in parts)) == (size, weight)
        assert [one for part in parts for one in part.entries] == whole.entries
        assert [one for part in parts for one in part.rejects] == whole.rejects
        assert [one for part in parts for one in part.dropped] == whole.dropped
        for part in parts:
            fated = {id(one.delivery) for one in part.entries}
            fated |= {id(one.delivery) for one in part.rejects} | {id(one.delivery) for one in part.dropped}
            assert fated == {id(one) for one in part.deliveries}
