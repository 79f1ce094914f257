"""Asks MongoDB for what `collector check` judges, through the very client that the service makes; changes nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from collector.check.clock import ahead
from collector.check.facts import Collection, Index, MongoDB
from collector.errors import SinkUnavailable
from collector.mongo import calling, first_sentence, open_mongo
from collector.mongo_errors import said

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pymongo.asynchronous.database import AsyncDatabase

    from transfer.names import Names

_Client = AsyncMongoClient[dict[str, Any]]
_TIMEOUT = 5.0
_SELECTION_MS = 2000


async def look_at_mongodb(uri: str, names: Names, keys: Iterable[str]) -> MongoDB:
    """Connect once and look at everything; what is wrong is a fact and not an error."""
    hosts, wanted = _in_uri(uri)
    known: dict[str, Any] = {"hosts": hosts, "wanted_set": wanted, "database": names.database, "replica_set": wanted}
    try:
        async with open_mongo(uri) as client:
            known |= await _server(client)
            known |= await _user(client, names.database)
            known |= await _collections(client[names.database], names, keys)
    except OperationFailure as exc:
        return MongoDB(**known, error=said(exc))
    except (SinkUnavailable, PyMongoError) as exc:
        found = wanted if wanted is None else await _set_of_whoever_answers(uri, wanted)
        why = str(exc) if isinstance(exc, SinkUnavailable) else first_sentence(exc)
        known["replica_set"] = found
        return MongoDB(**known, error=why.split(" (configured timeouts")[0])
    return MongoDB(**known)


def _in_uri(uri: str) -> tuple[str, str | None]:
    """Return hosts, and the replica set's name, as they may be shown. Names of SRV records are not looked up."""
    hosts = uri.partition("://")[2].rpartition("@")[2].partition("/")[0]
    if uri.startswith("mongodb+srv://"):
        return hosts, None
    return hosts, parse_uri(uri)["options"].get("replicaSet")


async def _server(client: _Client) -> dict[str, Any]:
    asked = time.time()
    async with calling(_TIMEOUT):
        hello = await client.admin.command("hello")
        answered = time.time()
        version = (await client.server_info())["versionArray"][:3]
    return {
        "version": tuple(version),
        "replica_set": hello.get("setName"),
        "sharded": hello.get("msg") == "isdbgrid",
        "writable": bool(hello["isWritablePrimary"]),
        "clock_ahead": ahead(hello["localTime"].timestamp(), asked, answered),
    }


async def _set_of_whoever_answers(uri: str, wanted: str) -> str | None:
    """Return the replica set that is there in place of the one in the URI, None for a standalone server.

    Where nobody answers this way either, it is taken for the one that was wanted.
    """
    try:
        client = _Client(uri, replicaSet=None, directConnection=True, serverSelectionTimeoutMS=_SELECTION_MS)
        async with client, calling(_TIMEOUT):
            hello = await client.admin.command("hello")
    except (SinkUnavailable, PyMongoError):  # more than one host, or it is down: the first error says enough
        return wanted
    name: str | None = hello.get("setName")
    return name


async def _user(client: _Client, database: str) -> dict[str, Any]:
    async with calling(_TIMEOUT):
        status = (await client.admin.command({"connectionStatus": 1, "showPrivileges": True}))["authInfo"]
    users = [user["user"] for user in status["authenticatedUsers"]]
    privileges = status.get("authenticatedUserPrivileges", ())
    return {"user": ", ".join(users), "granted": frozenset(_granted(privileges, database))}


def _granted(privileges: Iterable[Mapping[str, Any]], database: str) -> Iterable[str]:
    for privilege in privileges:
        resource = privilege["resource"]
        everywhere = resource.get("db") in {"", database} and resource.get("collection") == ""
        if everywhere or resource.get("anyResource"):
            yield from privilege["actions"]


async def _collections(database: AsyncDatabase[dict[str, Any]], names: Names, keys: Iterable[str]) -> dict[str, Any]:
    wanted = {name for key in keys for name in (names.collection(key), names.dead_letters(key))}
    found: dict[str, Collection] = {}
    indexes_error = ""
    try:
        async with calling(_TIMEOUT):
            listed = [one async for one in await database.list_collections() if one["name"] in wanted]
    except OperationFailure as exc:
        return {"collections_error": said(exc)}
    for one in listed:
        unique: tuple[Index, ...] = ()
        if one["type"] == "collection":
            try:
                unique = await _unique_indexes(database, one["name"])
            except OperationFailure as exc:
                indexes_error = said(exc)
        found[one["name"]] = _collection(one, unique)
    return {"collections": found, "indexes_error": indexes_error}


async def _unique_indexes(database: AsyncDatabase[dict[str, Any]], name: str) -> tuple[Index, ...]:
    async with calling(_TIMEOUT):
        listed = [index async for index in await database[name].list_indexes()]
    return tuple(
        Index(name=index["name"], fields=tuple(index["key"]), partial=_is_partial(index))
        for index in listed
        if index.get("unique")
    )


def _is_partial(index: Mapping[str, Any]) -> bool:
    return bool(index.get("sparse") or index.get("partialFilterExpression"))


def _collection(listed: Mapping[str, Any], unique: tuple[Index, ...]) -> Collection:
    options = listed["options"]
    timeseries = options.get("timeseries", {})
    return Collection(
        kind=listed["type"],
        time_field=timeseries.get("timeField", ""),
        meta_field=timeseries.get("metaField", ""),
        capped=bool(options.get("capped")),
        validated=bool(options.get("validator")),
        unique=unique,
    )
