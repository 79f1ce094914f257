"""What is needed of a collection: each way to be other has its sentence, with the command that mends it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.mongodb.listed import Collection, Index, collections_in, indexes_in
from collector.mongodb.needs import differences, differences_of_our_own, lacks_expiry
from transfer.difference import Remedy
from transfer.wire import CollectionSpec

SERIES = CollectionSpec(kind="timeseries", expire_after_seconds=60, granularity="minutes")
EXPIRING = CollectionSpec(expire_after_seconds=60)
MADE = Collection(kind="timeseries", time_field="timestamp", meta_field="metadata", granularity="minutes", expires=60)
ON_TIME = Index(name="timestamp_1", fields=("timestamp",), expires=60)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (None, None),
        (SERIES, None),
        (None, Collection()),
        (CollectionSpec(), Collection(indexes=())),
        (SERIES, MADE),
        (CollectionSpec(kind="timeseries"), MADE),
        (EXPIRING, Collection(indexes=(ON_TIME,))),
        (EXPIRING, Collection()),
        (EXPIRING, Collection(indexes=(ON_TIME, Index(name="other", fields=("level", "timestamp"))))),
        (None, Collection(indexes=(Index(name="theirs", fields=("timestamp",), expires=5),))),
    ],
)
def test_what_is_as_it_is_needed_is_not_spoken_of(spec: CollectionSpec | None, found: Collection | None) -> None:
    assert differences("a_logs", spec, found) == []


@pytest.mark.parametrize(
    "indexes",
    [
        (),
        (Index(name="i", fields=("timestamp",)),),
        (Index(name="i", fields=("timestamp",), expires=61),),
        (Index(name="i", fields=("timestamp",), expires=60, partial=True),),
        (ON_TIME, Index(name="sooner", fields=("timestamp",), expires=1)),
        (Index(name="i", fields=("timestamp", "level"), expires=60),),
    ],
)
def test_of_all_indexes_only_one_on_timestamp_alone_deletes_as_declared(indexes: tuple[Index, ...]) -> None:
    (one,) = differences("a_logs", EXPIRING, Collection(indexes=indexes))
    assert one.remedy is Remedy.RISK
    assert "expireAfterSeconds: 60" in str(one)


@given(
    spec=st.sampled_from([None, CollectionSpec(), EXPIRING, SERIES, CollectionSpec(kind="timeseries")]),
    kind=st.sampled_from(["collection", "timeseries", "view"]),
    time_field=st.sampled_from(["timestamp", "at", "{x}"]),
    meta_field=st.sampled_from(["metadata", "", "m"]),
    granularity=st.sampled_from(["", "seconds", "minutes", "hours"]),
    expires=st.sampled_from([None, 60, 61]),
    capped=st.booleans(),
    validated=st.booleans(),
    indexes=st.sampled_from([None, (), (ON_TIME,), (Index(name="{u}", fields=("{u}",), unique=True),)]),
)
def test_whatever_is_found_each_difference_is_one_line_that_names_the_collection_and_what_to_do(
    spec: CollectionSpec | None,
    kind: str,
    time_field: str,
    meta_field: str,
    granularity: str,
    expires: int | None,
    capped: bool,
    validated: bool,
    indexes: tuple[Index, ...] | None,
) -> None:
    found = Collection(
        kind=kind, time_field=time_field, meta_field=meta_field, granularity=granularity, expires=expires,
        capped=capped, validated=validated, indexes=indexes,
    )  # fmt: skip
    for name in ("a_logs", "a-b_logs"):
        different = differences(name, spec, found) + differences_of_our_own(name, found)
        for one in different:
            said = str(one)
            assert said.startswith(f"collection {name}: expected ")
            assert one.command
            assert "\n" not in said
            assert "{db}" not in said
            assert "{{" not in said
            assert f"db.{name}" not in said or name.isidentifier()
        stopping = [one for one in differences(name, spec, found) if one.remedy is Remedy.MEND]
        cannot_be_used = (
            kind == "view"
            or (kind == "timeseries" and time_field != "timestamp")
            or (kind == "collection" and spec is not None and spec.kind == "timeseries")
        )
        assert bool(stopping) == cannot_be_used
        if kind != "collection":
            assert not lacks_expiry(spec, found)


def test_a_time_series_collection_has_the_uuid_of_its_buckets_and_a_view_none() -> None:
    listed = [
        {"name": "s", "type": "timeseries", "options": {"timeseries": {"timeField": "t"}}, "info": {"readOnly": False}},
        {"name": "system.buckets.s", "type": "collection", "options": {}, "info": {"uuid": b"buckets"}},
        {"name": "p", "type": "collection", "options": {}, "info": {"uuid": b"plain"}},
        {"name": "v", "type": "view", "options": {"viewOn": "p"}, "info": {"readOnly": True}},
        {"name": "new", "type": "timeseries", "options": {"timeseries": {}}, "info": {"uuid": b"without buckets"}},
    ]
    found = collections_in(listed)
    assert {name: one.uuid for name, one in found.items()} == {
        "s": b"buckets", "p": b"plain", "v": None, "new": b"without buckets",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "validated"),
    [({}, True), ({"validationAction": "warn"}, False), ({"validationLevel": "off"}, False)],
)
def test_a_validator_that_refuses_nothing_is_none(more: dict[str, str], validated: bool) -> None:
    options = {"validator": {"level": {"$exists": True}}, **more}
    found = collections_in([{"name": "p", "type": "collection", "options": options, "info": {"uuid": b"p"}}])
    assert found["p"].validated == validated


def test_the_index_of_the_identity_is_none_that_is_looked_at() -> None:
    listed: list[dict[str, Any]] = [
        {"name": "_id_", "key": {"_id": 1}},
        {"name": "u", "key": {"a": 1, "b": 1}, "unique": True, "sparse": True},
        {"name": "t", "key": {"timestamp": -1}, "expireAfterSeconds": 5},
    ]
    assert indexes_in(listed) == (
        Index(name="u", fields=("a", "b"), unique=True, partial=True),
        Index(name="t", fields=("timestamp",), expires=5),
    )
