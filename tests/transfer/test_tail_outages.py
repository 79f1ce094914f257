"""`transfer tail --follow` when MongoDB refuses or forgets: each code of an error is waited out or said."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.transfer.tailing import entry, following, make, numbers
from transfer.errors import Refused
from transfer.tail.follow import _Series, follow_plain, follow_series
from transfer.tail.stored import Selection, open_collection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo import MongoClient
    from pymongo.collection import Collection

    from collector.local import Mongod


LOST = [136, 260, 280, 286]
PASSING = [6, 7, 24, 43, 46, 50, 63, 89, 91, 133, 134, 150, 175, 189, 202, 222, 234, 237, 262, 9001]
PASSING += [10107, 11600, 11601, 11602, 13435, 13436]
OTHERS = [2, 13, 20, 26, 40573]


@contextmanager
def refusing(client: MongoClient[dict[str, Any]], command: str, code: int) -> Iterator[None]:
    """Have the server refuse one command of the tail, with this code."""
    data = {"failCommands": [command], "errorCode": code, "appName": "transfer tail", "errorLabels": []}
    client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=data)
    try:
        yield
    finally:
        client.admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.mark.parametrize("code", [*LOST, *PASSING, *OTHERS])
def test_each_code_that_ends_a_change_stream_is_waited_out_or_said(
    collection: Collection[dict[str, Any]], mongod: Mongod, namespace: str, code: int
) -> None:
    make(collection, "plain")
    collection.insert_one(entry(0))

    def follow() -> None:
        with open_collection(mongod.url, namespace, "app") as followed:
            found = follow_plain(followed, Selection(), lambda _: None)
            assert next(found)["n"] == 0
            collection.insert_one(entry(1))
            assert next(found)["n"] == 1
            with refusing(collection.database.client, "getMore", code):
                collection.insert_many([entry(2), entry(3)])
                assert [next(found)["n"] for _ in range(2)] == [2, 3]

    if code in PASSING:
        follow()
        return
    with pytest.raises(Refused) as caught:
        follow()
    assert ("an oplog that is too short: start again, with --since" in str(caught.value)) == (code in LOST)


@pytest.mark.parametrize("code", [*PASSING, 2, 13])
def test_each_code_that_ends_a_read_of_a_time_series_is_waited_out_or_said(
    collection: Collection[dict[str, Any]], mongod: Mongod, namespace: str, code: int
) -> None:
    make(collection, "timeseries")
    collection.insert_one(entry(0))

    def follow() -> None:
        with open_collection(mongod.url, namespace, "app") as followed:
            found = follow_series(followed, Selection(), timedelta(minutes=5), lambda _: None)
            assert next(found)["n"] == 0
            with refusing(collection.database.client, "find", code):
                collection.insert_one(entry(1))
                assert next(found)["n"] == 1

    if code in PASSING:
        follow()
        return
    with pytest.raises(Refused):
        follow()


def test_a_plain_collection_that_is_dropped_and_made_again_is_followed(
    collection: Collection[dict[str, Any]], environ: dict[str, str]
) -> None:
    collection.insert_one(entry(0))
    with following(environ) as process:
        assert numbers(process.stdout, 1) == [0]
        collection.drop()
        collection.insert_one(entry(1))
        assert numbers(process.stdout, 1) == [1]


def test_what_was_seen_is_forgotten_when_it_can_come_no_more(collection: Collection[dict[str, Any]]) -> None:
    make(collection, "timeseries")
    series = _Series(collection, Selection(), timedelta(seconds=30))
    old, recent = entry(10), entry(59) | {"timestamp": datetime.now(UTC)}
    collection.insert_many([old, recent])
    assert [one["n"] for one in series.new()] == [59]  # the other is stored more than 30 seconds after its timestamp
    assert len(series._seen) == 1
    assert series.new() == []
    series._late = -1  # as if time had passed
    series.new()
    assert series._seen == {}
