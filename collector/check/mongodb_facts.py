"""Reads the facts of MongoDB for `collector check`, and changes nothing.

All functions here block. An AsyncMongoClient that is closed so soon may leave a socket open: its tasks that watch the
servers are cut while they connect.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pymongo
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from collector.check.clock import ahead
from collector.check.facts import MongoDB
from collector.check.mongodb_members import members_without_primary, read_members
from collector.mongodb.calls import summary_of
from collector.mongodb.errors import describe_failure
from collector.mongodb.listed import BUCKETS, collections_in, indexes_in
from collector.sinks.timeseries.claims import CLAIMS, REPLICAS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pymongo.database import Database

    from transfer.names import Names

_Client = MongoClient[dict[str, Any]]
_TIMEOUT = 5.0


def read_mongodb(uri: str, names: Names, keys: Iterable[str]) -> MongoDB:
    """Connect and read all facts; a failure is a fact and not an error."""
    hosts, wanted = _in_uri(uri)
    known: dict[str, Any] = {"hosts": hosts, "wanted_set": wanted, "database": names.database, "replica_set": wanted}
    try:
        if wanted is not None and "," not in hosts:
            known["replica_set"] = _set_at_one_host(uri)
            if known["replica_set"] != wanted:
                return MongoDB(**known, error="another replica set")
        with _opened(uri) as client:
            try:
                known |= _server(client, names.database)
            except PyMongoError as exc:
                known["members"] = members_without_primary(client, exc)
                raise
            known |= _user(client, names.database)
            known |= _collections(client[names.database], names, keys)
    except OperationFailure as exc:
        return MongoDB(**known, error=describe_failure(exc))
    except PyMongoError as exc:
        return MongoDB(**known, error=summary_of(exc))
    return MongoDB(**known)


@contextmanager
def _opened(uri: str, **options: Any) -> Iterator[_Client]:
    """Open a client, and give all its calls together a few seconds."""
    with _Client(uri, appname="collector check", tz_aware=True, **options) as client, pymongo.timeout(_TIMEOUT):
        yield client


def _in_uri(uri: str) -> tuple[str, str | None]:
    """Return hosts and replica set of a URI, without its secrets. SRV records are not looked up."""
    hosts = uri.partition("://")[2].rpartition("@")[2].partition("/")[0]
    if uri.startswith("mongodb+srv://"):
        return hosts, None
    return hosts, parse_uri(uri)["options"].get("replicaSet")


def _set_at_one_host(uri: str) -> str | None:
    """Return the name of the server's own replica set; None for a standalone server.

    With another name in the URI, pymongo would only report that it found no server.
    """
    with _opened(uri, replicaSet=None, directConnection=True) as client:
        name: str | None = client.admin.command("hello").get("setName")
    return name


def _server(client: _Client, database: str) -> dict[str, Any]:
    client.admin.command("ping")  # connects, so that the clocks are compared over one round trip
    asked = time.time()
    hello = client.admin.command("hello")
    answered = time.time()
    version = client.server_info()["versionArray"][:3]
    return {
        "version": tuple(version),
        "replica_set": hello.get("setName"),
        "sharded": hello.get("msg") == "isdbgrid",
        "writable": bool(hello["isWritablePrimary"]),
        "clock_ahead": ahead(hello["localTime"].timestamp(), asked, answered),
        "members": read_members(client, database, hello) if hello["isWritablePrimary"] else None,
    }


def _user(client: _Client, database: str) -> dict[str, Any]:
    status = client.admin.command({"connectionStatus": 1, "showPrivileges": True})["authInfo"]
    users = [user["user"] for user in status["authenticatedUsers"]]
    privileges = status.get("authenticatedUserPrivileges", ())
    return {"user": ", ".join(users), "granted": frozenset(_granted(privileges, database))}


def _granted(privileges: Iterable[Mapping[str, Any]], database: str) -> Iterable[str]:
    for privilege in privileges:
        resource = privilege["resource"]
        everywhere = resource.get("db") in {"", database} and resource.get("collection") == ""
        if everywhere or resource.get("anyResource"):
            yield from privilege["actions"]


def _collections(database: Database[dict[str, Any]], names: Names, keys: Iterable[str]) -> dict[str, Any]:
    wanted = {CLAIMS, REPLICAS} | {name for key in keys for name in (names.collection(key), names.dead_letters(key))}
    wanted |= {BUCKETS + name for name in wanted}
    indexes_error = ""
    try:
        found = collections_in([one for one in database.list_collections() if one["name"] in wanted])
    except OperationFailure as exc:
        return {"collections_error": describe_failure(exc)}
    for name, one in found.items():
        if one.kind == "collection":
            try:
                found[name] = replace(one, indexes=indexes_in(database[name].list_indexes()))
            except OperationFailure as exc:
                indexes_error = describe_failure(exc)
    return {"collections": found, "indexes_error": indexes_error}
