"""Where entries go, on real servers: made as declared, made again when it is gone, and never another one in silence."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from collector.errors import SinkUnavailable
from collector.mongodb.calls import open_mongo
from collector.sinks.place import Place
from tests.support.ancestor import entry
from tests.support.waiting import count, state, until, until_empty
from transfer.wire import CollectionSpec, LoggerSpec, encode_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Mongod, Replica
    from tests.support.ancestor import Ancestor

KEY = "metered"
COLLECTION, LETTERS = f"{KEY}_logs", f"{KEY}_fail"
SOON = {"COLLECTOR_RECONCILE_PERIOD": "5s"}
SERIES = CollectionSpec(kind="timeseries", expire_after_seconds=3600, granularity="minutes")
EXPIRING = CollectionSpec(expire_after_seconds=3600)
RIGHT = {"timeField": "timestamp", "metaField": "metadata", "granularity": "minutes"}


class Scene:
    """A replica, a logger and its database."""

    def __init__(self, replica: Replica, go: Ancestor, database: Database[dict[str, Any]]) -> None:
        self.replica, self.go, self.database = replica, go, database
        self.published = 0

    async def declare(self, collection: CollectionSpec | None) -> None:
        await self.go.put(KEY, encode_spec(LoggerSpec(KEY, collection=collection)))

    async def publish(self, number: int = 5) -> None:
        now = int(time.time())  # what is older than the expiry goes within a minute, also in the middle of a test
        await self.go.publish(KEY, [entry(self.published + one, now) for one in range(number)])
        self.published += number

    async def until_stored(self, number: int) -> None:
        await until(lambda: count(self.database, KEY) == number, 15)

    async def until_state(self, wanted: str, *words: str) -> None:
        def is_there() -> bool:
            logger = self.replica.status["loggers"].get(KEY, {})
            return bool(logger.get("state") == wanted and all(word in logger["why"] for word in words))

        await until(is_there, 15)

    def options(self) -> dict[str, Any]:
        (listed,) = self.database.list_collections(filter={"name": COLLECTION})
        return {"type": listed["type"], **listed["options"]}

    def expiries(self) -> list[int]:
        indexes = self.database[COLLECTION].index_information().values()
        return [index["expireAfterSeconds"] for index in indexes if index["key"] == [("timestamp", 1)]]


@pytest.fixture
async def scene(start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]) -> Scene:
    replica = await to_thread.run_sync(lambda: start_replica(**SOON))  # it makes the bucket
    await go.make_stream(KEY)
    return Scene(replica, go, database)


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


def make(database: Database[dict[str, Any]], options: dict[str, Any]) -> None:
    database.command({"create": COLLECTION, **options})


SERIES_WITH = {"timeField": "timestamp", "metaField": "metadata"}
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


DIFFERING: dict[str, tuple[CollectionSpec, dict[str, Any], list[str]]] = {
    "a coarser granularity": (
        SERIES,
        {"timeseries": {**SERIES_WITH, "granularity": "hours"}, "expireAfterSeconds": 3600},
        ["granularity minutes", "hours"],
    ),
    "another expiry": (
        SERIES,
        {"timeseries": {**SERIES_WITH, "granularity": "minutes"}, "expireAfterSeconds": 60},
        ["3600 s", "after 60 s", "collMod"],
    ),
    "no expiry": (SERIES, {"timeseries": {**SERIES_WITH, "granularity": "minutes"}}, ["3600 s", "never", "collMod"]),
    "no meta field": (
        SERIES,
        {"timeseries": {"timeField": "timestamp", "granularity": "minutes"}, "expireAfterSeconds": 3600},
        ["meta field metadata", "none"],
    ),
    "time-series, where plain is declared": (CollectionSpec(), {"timeseries": SERIES_WITH}, ["plain", "time-series"]),
    "capped, where an expiry is declared": (EXPIRING, {"capped": True, "size": 1_000_000}, ["3600 s", "67"]),
}


@pytest.mark.parametrize(("spec", "options", "words"), DIFFERING.values(), ids=DIFFERING.keys())
async def test_what_is_other_than_declared_is_never_altered_and_said_while_entries_are_moved(
    scene: Scene, spec: CollectionSpec, options: dict[str, Any], words: list[str]
) -> None:
    make(scene.database, options)
    before = scene.options()
    await scene.declare(spec)
    await scene.publish()
    await until(lambda: scene.replica.metric("collector_written_entries_total") == 5, 15)
    await scene.until_state("running", COLLECTION, *words)
    assert scene.options() == before


async def test_an_option_that_is_changed_while_the_logger_runs_is_noticed(scene: Scene) -> None:
    await scene.declare(SERIES)
    await scene.publish()
    await scene.until_stored(5)
    assert scene.replica.status["loggers"][KEY]["why"] == ""
    scene.database.command({"collMod": COLLECTION, "expireAfterSeconds": 60})
    await scene.until_state("running", "3600 s", "60 s")
    scene.database.command({"collMod": COLLECTION, "expireAfterSeconds": 3600})
    await until(lambda: scene.replica.status["loggers"][KEY]["why"] == "", 15)
    await scene.publish()
    await scene.until_stored(10)


@pytest.mark.parametrize("options", [{"viewOn": "another", "pipeline": []}, {"timeseries": {"timeField": "failed_at"}}])
async def test_dead_letters_that_could_be_stored_twice_or_never_park_the_logger(
    scene: Scene, options: dict[str, Any]
) -> None:
    scene.database.command({"create": LETTERS, **options})
    await scene.declare(None)
    await scene.publish()
    await scene.until_state("misconfigured", LETTERS, "each document once")
    scene.database[LETTERS].drop()
    await scene.until_stored(5)


@pytest.mark.parametrize("code", [361, 166, 40415])
@pytest.mark.parametrize("spec", [None, SERIES], ids=["plain", "time-series"])
async def test_a_server_that_refuses_the_collection_that_is_there_is_not_asked_for_ever(
    scene: Scene, code: int, spec: CollectionSpec | None
) -> None:
    """As one that compares otherwise than we think, or takes no UUID in an insert: then entries go without."""
    await scene.declare(spec)
    await scene.publish()
    await scene.until_stored(5)
    admin = scene.database.client.admin
    wanted = {"failCommands": ["insert"], "namespace": f"{scene.database.name}.{COLLECTION}", "errorCode": code}
    admin.command({"configureFailPoint": "failCommand", "mode": {"times": 3}, "data": wanted})
    try:
        await scene.publish()
        await scene.until_stored(10)
    finally:
        admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    assert scene.database[LETTERS].count_documents({}) == 0
    assert scene.replica.metric("collector_actor_restarts_total") == 0


async def test_an_index_that_the_server_cannot_build_in_time_keeps_no_entry_waiting_and_is_said(
    own_mongod: Callable[[], Mongod], start_replica: Callable[..., Replica], go: Ancestor, namespace: str
) -> None:
    server = await to_thread.run_sync(own_mongod)
    with MongoClient[dict[str, Any]](server.url) as client:
        database = client[namespace]
        database[COLLECTION].insert_one({"older": True})
        client.admin.command({"configureFailPoint": "hangAfterStartingIndexBuild", "mode": "alwaysOn"})
        try:
            settings = {**SOON, "COLLECTOR_WRITE_TIMEOUT": "1s"}
            replica = await to_thread.run_sync(lambda: start_replica(mongo=server, **settings))
            await go.make_stream(KEY)
            scene = Scene(replica, go, database)
            await scene.declare(EXPIRING)
            await scene.publish()
            await scene.until_stored(6)
            await scene.until_state("running", "takes too long", "createIndex")
            await scene.publish()
            await scene.until_stored(11)
        finally:
            client.admin.command({"configureFailPoint": "hangAfterStartingIndexBuild", "mode": "off"})


async def test_claims_that_could_be_there_twice_park_time_series_loggers_alone(scene: Scene) -> None:
    scene.database.command({"create": "collector_claims", "timeseries": {"timeField": "seen"}})
    await scene.declare(SERIES)
    await scene.publish()
    await scene.until_state("misconfigured", "collector_claims", "drop")
    await scene.go.declare("other")
    await scene.go.publish("other", [entry(1)])
    await until(lambda: count(scene.database, "other") == 1, 15)
    scene.database.collector_claims.drop()
    await scene.until_stored(5)


async def test_what_becomes_of_the_collection_of_a_quiet_logger_is_noticed_without_an_entry(scene: Scene) -> None:
    await scene.declare(SERIES)
    await scene.publish()
    await scene.until_stored(5)
    scene.database[COLLECTION].drop()
    await until(lambda: COLLECTION in scene.database.list_collection_names(), 15)
    assert scene.options()["type"] == "timeseries"
    scene.database[COLLECTION].drop()
    while True:  # it is made again quickly
        try:
            make(scene.database, {})
            break
        except OperationFailure:
            scene.database[COLLECTION].drop()
    await scene.until_state("misconfigured", COLLECTION, "plain")
    scene.database[COLLECTION].drop()
    await until(lambda: state(scene.replica, KEY) in {"running", "standby"}, 15)
    assert scene.options()["type"] == "timeseries"


async def test_a_declaration_that_mongodb_cannot_make_a_collection_by_parks_the_logger_until_it_is_another(
    scene: Scene,
) -> None:
    """MongoDB takes no expiry that ends before 1970."""
    await scene.declare(CollectionSpec(kind="timeseries", expire_after_seconds=2_147_483_647))
    await scene.publish()
    await scene.until_state("misconfigured", COLLECTION, "InvalidOptions", "acceptable range", "transfer set")
    await scene.declare(SERIES)
    await scene.until_stored(5)


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
