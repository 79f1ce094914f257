"""Calls to MongoDB: never cut by a cancellation, each with a deadline of its own, foreign errors translated."""

from __future__ import annotations

from contextlib import asynccontextmanager
from traceback import clear_frames
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import pymongo
from anyio import CancelScope, sleep
from bson.codec_options import CodecOptions
from gridfs.errors import GridFSError
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.errors import (
    ConfigurationError,
    ExecutionTimeout,
    InvalidOperation,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)
from pymongo.read_concern import ReadConcern

from collector import events
from collector.errors import SinkUnavailable, WrongCollection
from collector.mongodb.errors import describe_failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.events import Report
    from transfer.wire import CollectionSpec

_NAMESPACE_EXISTS = 48
_OF_THE_DECLARATION = frozenset({2, 9, 14, 72, 73})
"""BadValue, FailedToParse, TypeMismatch, InvalidOptions, InvalidNamespace: answered to `create`, they stay so."""
_TAKES_UUID = 17
"""The wire version of MongoDB 6.0."""
_SELECTION_MS = 5000
_CLOSE_TIMEOUT = 1.0
_LOOK = 0.1
_NO_PRIMARY = "no primary takes writes"
WRITES = 64
"""Through one client at a time; the rest of its 100 connections is for other calls."""
_NOTHING_SENT = (ServerSelectionTimeoutError, NotPrimaryError, WaitQueueTimeoutError, ConfigurationError)
_FOR_THE_CALLER = (OperationFailure, GridFSError, InvalidOperation)
"""What a server answers, what GridFS finds, and what we do wrong. All else is of the way to the server."""
MAJORITY: Any = MappingProxyType(
    {
        "read_concern": ReadConcern("majority"),
        "write_concern": WriteConcern("majority"),
        "read_preference": ReadPreference.PRIMARY,
    }
)
"""Keywords of pymongo: every read that decides is the primary's and the majority's, every write the majority's."""


@asynccontextmanager
async def calling(timeout: float) -> AsyncIterator[None]:
    """Shield what is called within, and give it `timeout` seconds.

    On Python 3.11 a cancellation that reaches pymongo while it selects a server breaks its lock or hangs.
    Raises SinkUnavailable when MongoDB cannot be reached or does not answer in time.
    """
    with CancelScope(shield=True):
        try:
            with pymongo.timeout(timeout):
                yield
        except PyMongoError as exc:
            # pymongo's frames hold the whole command in a cycle, and in an outage hardly anything has it collected
            clear_frames(exc.__traceback__)
            if isinstance(exc, _FOR_THE_CALLER) and not isinstance(exc, ExecutionTimeout):
                raise
            raise SinkUnavailable(summary_of(exc), ambiguous=not isinstance(exc, _NOTHING_SENT)) from exc


async def watch_mongo(client: AsyncMongoClient[dict[str, Any]], login: Login, report: Report) -> None:
    """Report when MongoDB lets us in and has a primary that takes writes, and when not any more, until cancelled.

    The client's own topology is looked at: its listeners are called up to a second late.
    """
    before, again = _NO_PRIMARY, False
    while True:
        why = login.refused or _why_no_primary(client)
        if why != before:
            report(events.ConnectionChanged("mongodb", not why, why or "a primary takes writes", again=again))
            again = again or not why
        before = why
        await sleep(_LOOK)


def _why_no_primary(client: AsyncMongoClient[dict[str, Any]]) -> str:
    seen = client.topology_description
    if seen.has_writable_server():
        return ""
    errors = [server.error for server in seen.server_descriptions().values() if server.error is not None]
    refusals = [error for error in errors if isinstance(error, OperationFailure)]
    if refusals:  # a login that fails counts as a failure of its server
        return f"MongoDB does not let us in: {describe_failure(refusals[0])}"
    return f"{_NO_PRIMARY}: {summary_of(errors[0])}" if errors else _NO_PRIMARY


class Login(Protocol):
    """What is known of our login."""

    @property
    def refused(self) -> str:
        """Why the server does not take it; empty while it does."""


def new_client(uri: str) -> AsyncMongoClient[dict[str, Any]]:
    """Make a client, which is not connected.

    No retries by the driver: the identities of entries make our own harmless, and theirs would hide an outage.
    """
    return AsyncMongoClient(
        uri,
        appname="collector",
        retryWrites=False,
        serverSelectionTimeoutMS=_SELECTION_MS,
        w="majority",
        tz_aware=True,
    )


@asynccontextmanager
async def open_mongo(uri: str) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """Open a client; it connects when it can, and leaving the block closes it."""
    client = new_client(uri)
    try:
        with CancelScope(shield=True):
            await client.aconnect()
        yield client
    finally:
        with CancelScope(shield=True), pymongo.timeout(_CLOSE_TIMEOUT):
            await client.close()


def database_of(client: AsyncMongoClient[dict[str, Any]], name: str) -> AsyncDatabase[dict[str, Any]]:
    """Return a database whose reads are the primary's and the majority's, and whose writes wait for the majority.

    No option of the URI changes that, nor how documents are read: a guarantee is no setting. `command` reads with no
    read concern but the one that stands in the command itself.
    """
    return client.get_database(name, codec_options=CodecOptions(tz_aware=True), **MAJORITY)


def demand_durable(reply: Mapping[str, Any], what: str) -> None:
    """Raise SinkUnavailable when the majority did not have a write in time: a change of primary may undo it."""
    error = reply.get("writeConcernError")
    if error is not None:
        code = error.get("codeName", error.get("code"))
        raise SinkUnavailable(f"{what}: the write concern was not met: {code}", ambiguous=True)


async def insert(
    database: AsyncDatabase[dict[str, Any]],
    collection: str,
    documents: Sequence[dict[str, Any]],
    timeout: float,
    uuid: bytes | None = None,
) -> dict[str, Any]:
    """Send one unordered insert with majority write concern and return the server's reply.

    With a UUID it stores nothing in a collection of another one, and makes none: see `collector.sinks.place`.
    The reply may hold `writeErrors` and `writeConcernError`; nothing is raised for them. Raises SinkUnavailable, what
    bson raises for a document that cannot be encoded, and OperationFailure for a command that was refused as a whole.
    """
    async with calling(timeout):
        return await database.command(
            {
                "insert": collection,
                "documents": documents,
                "ordered": False,
                "writeConcern": {"w": "majority", "wtimeout": int(timeout * 1000)},
                **only_into(uuid),
            }
        )


def only_into(uuid: bytes | None) -> dict[str, bytes]:
    """Return what an insert says besides, to be refused where the collection is not the one with this UUID."""
    return {} if uuid is None else {"collectionUUID": uuid}


def compares_uuids(database: AsyncDatabase[dict[str, Any]]) -> bool:
    """Tell whether every server that is known takes the UUID in an insert."""
    servers = database.client.topology_description.server_descriptions().values()
    return all(server.max_wire_version >= _TAKES_UUID for server in servers if server.is_server_type_known)


async def list_indexes(
    database: AsyncDatabase[dict[str, Any]], collection: str, timeout: float
) -> list[Mapping[str, Any]]:
    """Return the indexes of a collection, as the server says them. Raises SinkUnavailable and OperationFailure."""
    async with calling(timeout):
        found = await database.cursor_command({"listIndexes": collection, "cursor": {}})
        return [one async for one in found]


async def make_expiring(database: AsyncDatabase[dict[str, Any]], collection: str, seconds: int, timeout: float) -> None:
    """Have documents deleted that long after their `timestamp`, by an index. Raises SinkUnavailable, OperationFailure.

    The server gives up building it when the time is over.
    """
    index = {"key": {"timestamp": 1}, "name": "timestamp_1", "expireAfterSeconds": seconds}
    concern = {"w": "majority", "wtimeout": int(timeout * 1000)}
    command = {"createIndexes": collection, "indexes": [index], "writeConcern": concern}
    async with calling(timeout):
        reply: Mapping[str, Any] = await database.command(command)
    demand_durable(reply, f"the index of {collection} was not made")


async def make_collection(
    database: AsyncDatabase[dict[str, Any]], collection: str, spec: CollectionSpec, timeout: float
) -> None:
    """Create the collection as the spec asks, when there is none of that name; one that exists is never altered.

    When this returns the majority has it: where a change of primary undoes one, the next insert makes a plain one.
    Raises SinkUnavailable when MongoDB cannot do it now, or refuses, and WrongCollection where it never can.
    """
    concern = {"w": "majority", "wtimeout": int(timeout * 1000)}
    command: dict[str, Any] = {"create": collection, "writeConcern": concern}
    if spec.kind == "timeseries":
        options = {"timeField": "timestamp", "metaField": "metadata", "granularity": spec.granularity}
        command["timeseries"] = {name: value for name, value in options.items() if value is not None}
        if spec.expire_after_seconds is not None:
            command["expireAfterSeconds"] = spec.expire_after_seconds
    async with calling(timeout):
        try:
            reply: Mapping[str, Any] = await database.command(command)
        except OperationFailure as exc:
            if exc.code in _OF_THE_DECLARATION:
                why = str((exc.details or {}).get("errmsg", ""))[:200]  # it quotes nothing but the declaration
                raise WrongCollection(
                    f"collection {collection}: expected a declaration that MongoDB can make it by, "
                    f"got {describe_failure(exc)}: {why}; declare it otherwise: transfer set"
                ) from exc
            if exc.code != _NAMESPACE_EXISTS:
                raise SinkUnavailable(f"{collection} was not created: {describe_failure(exc)}") from exc
            reply = exc.details or {}
    demand_durable(reply, f"{collection} was not created")


def summary_of(exc: BaseException) -> str:
    """Return the beginning of a driver's error: its whole text is a description of the cluster."""
    said = str(exc).split(", Timeout:")[0].split(" (configured timeouts")[0].split("\n")[0]
    return f"{type(exc).__name__}: {said[:200]}"
