"""Where entries go, on real servers: made as declared, made again when it is gone, and never another one in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from collector.errors import SinkUnavailable
from collector.mongodb.calls import open_mongo
from collector.sinks.place import Place
from tests.support.ancestor import entry
from tests.support.place import COLLECTION, EXPIRING, KEY, LETTERS, RIGHT, SERIES, SERIES_WITH, Scene, make
from tests.support.waiting import count, state, until, until_empty
from transfer.wire import CollectionSpec

if TYPE_CHECKING:
    from collector.local import Mongod


async def test_a_declared_time_series_collection_that_is_dropped_is_made_again_as_declared(scene: Scene) -> None:
    await scene.declare(SERIES)
    for drops in range(3):
        await scene.publish()
        await scene.until_stored(5)
        options = scene.options()
        assert options["type"] == "timeseries"
        assert options["expireAfterSeconds"] == 3600
        assert {name: options["timeseries"][name] for name in RIGHT} == RIGHT
        if drops < 2:
            scene.database[COLLECTION].drop()
    assert scene.database[LETTERS].count_documents({}) == 0
    assert scene.replica.metric("collector_actor_restarts_total") == 0


async def test_while_entries_stream_in_a_dropped_time_series_collection_never_comes_back_plain(scene: Scene) -> None:
    await scene.declare(SERIES)
    catalog = set()
    for _ in range(20):
        await scene.publish(50)
        scene.database.drop_collection(COLLECTION)
        await scene.publish(50)
        await until(lambda: COLLECTION in scene.database.list_collection_names(), 15)
        catalog.add(scene.options()["type"])
    assert catalog == {"timeseries"}


async def test_a_declared_plain_collection_that_is_dropped_comes_back_with_its_expiry(scene: Scene) -> None:
    await scene.declare(EXPIRING)
    for drops in range(3):
        await scene.publish()
        await scene.until_stored(5)
        assert scene.expiries() == [3600]
        if drops < 2:
            scene.database[COLLECTION].drop()


async def test_documents_of_a_plain_collection_are_deleted_when_their_time_is_over(
    scene: Scene,
) -> None:
    scene.database.client.admin.command({"setParameter": 1, "ttlMonitorSleepSecs": 1})
    try:
        await scene.declare(CollectionSpec(expire_after_seconds=1))
        await scene.publish()
        await until(lambda: scene.replica.metric("collector_written_entries_total") == 5, 15)
        await scene.until_stored(0)
    finally:
        scene.database.client.admin.command({"setParameter": 1, "ttlMonitorSleepSecs": 60})


async def test_an_expiry_that_is_declared_later_is_added_to_a_collection_that_is_there(scene: Scene) -> None:
    await scene.declare(None)
    await scene.publish()
    await scene.until_stored(5)
    assert scene.expiries() == []
    await scene.declare(EXPIRING)
    await until(lambda: scene.expiries() == [3600], 15)
    assert scene.database[COLLECTION].count_documents({}) == 5
    scene.database[COLLECTION].drop_indexes()
    await until(lambda: scene.expiries() == [3600], 15)
    await scene.until_state("running")


@pytest.mark.parametrize(
    "index", [{"expireAfterSeconds": 60}, {}, {"expireAfterSeconds": 3600, "partialFilterExpression": {"a": 1}}]
)
async def test_an_index_that_is_in_the_way_of_the_expiry_is_left_and_said_and_entries_are_moved(
    scene: Scene, index: dict[str, Any]
) -> None:
    scene.database[COLLECTION].create_index("timestamp", **index)
    await scene.declare(EXPIRING)
    await scene.publish()
    await scene.until_state("running", "3600 s", "index on timestamp", "collMod")
    assert scene.database[COLLECTION].index_information()["timestamp_1"].get("expireAfterSeconds") == index.get(
        "expireAfterSeconds"
    )
    await until(lambda: scene.replica.metric("collector_written_entries_total") == 5, 15)
    scene.database[COLLECTION].drop_indexes()
    await until(lambda: scene.expiries() == [3600], 15)
    await until(lambda: scene.replica.status["loggers"][KEY]["why"] == "", 15)


STOPPING: dict[str, tuple[CollectionSpec | None, dict[str, Any], list[str]]] = {
    "a view": (None, {"viewOn": "another", "pipeline": []}, ["view", "drop"]),
    "a view, where time-series is declared": (SERIES, {"viewOn": "another", "pipeline": []}, ["view", "drop"]),
    "plain, where time-series is declared": (SERIES, {}, ["time-series", "plain", "renameCollection"]),
    "another time field": (SERIES, {"timeseries": {"timeField": "at"}}, ["time field timestamp", "at"]),
    "another time field, undeclared": (None, {"timeseries": {"timeField": "at"}}, ["time field timestamp", "at"]),
}


@pytest.mark.parametrize(("spec", "options", "words"), STOPPING.values(), ids=STOPPING.keys())
async def test_a_collection_that_cannot_be_used_parks_its_logger_alone_until_it_is_gone(
    scene: Scene, spec: CollectionSpec | None, options: dict[str, Any], words: list[str]
) -> None:
    make(scene.database, options)
    await scene.declare(spec)
    await scene.publish()
    await scene.until_state("misconfigured", COLLECTION, "expected", *words)
    await scene.go.declare("other")
    await scene.go.publish("other", [entry(1)])
    await until(lambda: count(scene.database, "other") == 1, 15)
    assert scene.database[LETTERS].count_documents({}) == 0
    assert state(scene.replica, KEY) == "misconfigured"
    scene.database[COLLECTION].drop()
    await scene.until_stored(5)
    await scene.until_state("running")


async def test_a_view_that_takes_the_place_of_a_collection_while_entries_come_makes_no_dead_letter(
    scene: Scene,
) -> None:
    await scene.declare(None)
    await scene.publish()
    await scene.until_stored(5)
    scene.database[COLLECTION].drop()
    make(scene.database, {"viewOn": "another", "pipeline": []})
    await scene.publish()
    await scene.until_state("misconfigured", "view")
    scene.database[COLLECTION].drop()
    await scene.until_stored(5)
    assert scene.database[LETTERS].count_documents({}) == 0


async def test_a_time_series_collection_that_takes_the_place_of_a_plain_one_gets_one_writer_and_nothing_twice(
    scene: Scene,
) -> None:
    await scene.declare(None)
    await scene.publish()
    await scene.until_stored(5)
    scene.database[COLLECTION].drop()
    make(scene.database, {"timeseries": SERIES_WITH})
    await scene.publish(200)
    await scene.until_stored(200)
    assert scene.replica.metric("collector_ownership_changes_total") >= 1


async def test_a_collection_that_is_renamed_is_left_to_whoever_renamed_it(scene: Scene) -> None:
    await scene.declare(EXPIRING)
    await scene.publish()
    await scene.until_stored(5)
    scene.database[COLLECTION].rename("archived")
    await scene.publish(7)
    await scene.until_stored(7)
    assert scene.database.archived.count_documents({}) == 5
    assert scene.expiries() == [3600]


@pytest.mark.parametrize(
    ("spec", "kind"), [(None, "collection"), (EXPIRING, "collection"), (SERIES, "timeseries")], ids=repr
)
async def test_a_database_that_is_dropped_while_entries_come_loses_and_refuses_nothing_that_comes_after(
    scene: Scene, spec: CollectionSpec | None, kind: str
) -> None:
    await scene.declare(spec)
    for _ in range(5):
        await scene.publish(20)
        scene.database.client.drop_database(scene.database.name)
    await until_empty(scene.go.jetstream, f"{scene.database.name}:logs:{KEY}", 30)
    before = count(scene.database, KEY)
    await scene.publish(20)
    await scene.until_stored(before + 20)
    assert scene.options()["type"] == kind
    assert scene.expiries() == ([3600] if spec is EXPIRING else [])
    assert scene.database[LETTERS].count_documents({}) == 0


class Dropping:
    """Kinds that find nothing, as if somebody dropped the collection at the very moment."""

    async def read(self, *collections: str) -> list[None]:
        return [None for _ in collections]


async def test_what_is_dropped_between_being_made_and_being_looked_at_is_not_taken_for_undeclared(
    mongod: Mongod, namespace: str
) -> None:
    async with open_mongo(mongod.url) as client:
        catalog: Any = Dropping()
        for spec in (SERIES, EXPIRING, CollectionSpec()):
            place = Place(client[namespace], catalog, spec, (COLLECTION, LETTERS), 5.0)
            with pytest.raises(SinkUnavailable, match="dropped while"):
                await place.prepare()
        undeclared = Place(client[namespace], catalog, None, (COLLECTION, LETTERS), 5.0)
        assert (await undeclared.prepare()).collection is None
