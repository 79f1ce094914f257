"""Reads whether the majority of a replica set is there, because every write waits for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pymongo
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError

from collector.check.facts import Members
from collector.sinks.timeseries.claims import CLAIMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo import MongoClient
    from pymongo.server_description import ServerDescription

_UNTIL_SEEN = 1.0
"""Seconds for pymongo to see the other members after the primary."""
_CONFIRMS = 2.0
_POLL = 0.02
_WITH_DATA = ("RSPrimary", "RSSecondary")
_ARBITER = "RSArbiter"


def read_members(client: MongoClient[dict[str, Any]], database: str, hello: Mapping[str, Any]) -> Members | None:
    """Count the members in the primary's `hello`, and send a read that waits for their majority.

    None where the members cannot be seen: through mongos, and where the URI names one server only.
    """
    named = {*hello.get("hosts", ()), *hello.get("passives", ())}
    if not named or client.topology_description.topology_type_name == "Single":
        return None
    voters = len(named) + len(hello.get("arbiters", ()))
    return Members(
        reachable=_reachable(client, named),
        bearing_data=len(named),
        needed=min(voters // 2 + 1, len(named)),
        confirm=_confirm(client, database),
    )


def members_without_primary(client: MongoClient[dict[str, Any]], exc: PyMongoError) -> Members | None:
    """Count the members of a set without a primary; None when `exc` has another cause, or no secondary is there."""
    found = list(client.topology_description.server_descriptions().values())
    seen = [one.server_type_name for one in found]
    if not isinstance(exc, ServerSelectionTimeoutError) or "RSSecondary" not in seen:
        return None
    bearing_data = len(found) - seen.count(_ARBITER)
    reachable = sum(name in _WITH_DATA for name in seen)
    return Members(reachable, bearing_data, min(len(found) // 2 + 1, bearing_data), confirm=False)


def _reachable(client: MongoClient[dict[str, Any]], named: set[str]) -> int:
    until = time.monotonic() + _UNTIL_SEEN
    while True:
        there = [one for one in client.topology_description.server_descriptions().values() if _has_data(one)]
        if len(there) >= len(named) or time.monotonic() > until:
            return len(there)
        time.sleep(_POLL)


def _has_data(one: ServerDescription) -> bool:
    return one.server_type_name in _WITH_DATA


def _confirm(client: MongoClient[dict[str, Any]], database: str) -> bool:
    """Tell whether the majority has the primary's writes, or has them soon."""
    concern = {"level": "majority", "afterClusterTime": _time_of(client)}
    read = {"find": CLAIMS, "limit": 1, "readConcern": {name: value for name, value in concern.items() if value}}
    try:
        with pymongo.timeout(_CONFIRMS):
            client[database].command(read)
    except OperationFailure as exc:
        return not exc.timeout  # without a timeout a privilege is missing, which is another finding
    except PyMongoError:
        return False
    return True


def _time_of(client: MongoClient[dict[str, Any]]) -> Any:
    """Return the primary's operation time; None while a server with logins that has just started names none."""
    until = time.monotonic() + _UNTIL_SEEN
    while (now := client.admin.command("ping").get("operationTime")) is None and time.monotonic() < until:
        time.sleep(_POLL)
    return now
