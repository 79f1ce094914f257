"""Collections that are not as declared or needed: never altered, and said; some of them park their logger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tests.support.ancestor import entry
from tests.support.place import COLLECTION, EXPIRING, KEY, LETTERS, SERIES, SERIES_WITH, SOON, Scene, make
from tests.support.waiting import count, state, until
from transfer.wire import CollectionSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.local import Mongod, Replica
    from tests.support.ancestor import Ancestor


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
