"""Calls to MongoDB: shielded from cancellation, each with a deadline of its own, with errors of pymongo translated."""

from __future__ import annotations

from contextlib import asynccontextmanager
from traceback import clear_frames
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import pymongo
from anyio import CancelScope, sleep
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from gridfs.errors import GridFSError
from pymongo import ReadPreference, WriteConcern
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

from collector.errors import SinkUnavailable, WrongCollection
from collector.events import lifecycle
from collector.mongodb.errors import describe_failure
from collector.mongodb.lanes import LaneClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from pymongo import AsyncMongoClient
    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.asynchronous.database import AsyncDatabase

    from collector.events import Report
    from transfer.wire import CollectionSpec

_NAMESPACE_EXISTS = 48
_OF_THE_DECLARATION = frozenset({2, 9, 14, 72, 73})
"""BadValue, FailedToParse, TypeMismatch, InvalidOptions, InvalidNamespace: another `create` would fail alike."""
_TAKES_UUID = 17
"""The wire version of MongoDB 6.0."""
_SELECTION_MS = 5000
_CLOSE_TIMEOUT = 1.0
_LOOK, _LOOK_WHEN_WELL = 0.1, 0.5
"""Seconds between two looks at the topology while MongoDB takes no writes, and while it does."""
_NO_PRIMARY = "no primary takes writes"
WRITES = 64
"""Writes at a time through one client; the rest of its 100 connections is for other calls."""
_NOTHING_SENT = (ServerSelectionTimeoutError, NotPrimaryError, WaitQueueTimeoutError, ConfigurationError)
_FOR_THE_CALLER = (OperationFailure, GridFSError, InvalidOperation)
"""Errors in the answer of a server, of GridFS, and of wrong calls. All others are errors of the connection."""
RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="replace",
)
"""Reads documents that Python has no values for: others may have stored them, and they must not make a look-up fail."""
MAJORITY: Any = MappingProxyType(
    {
        "read_concern": ReadConcern("majority"),
        "write_concern": WriteConcern("majority"),
        "read_preference": ReadPreference.PRIMARY,
    }
)
"""Keywords of pymongo: reads are from the primary with majority read concern, writes wait for the majority."""


@asynccontextmanager
async def calling(timeout: float) -> AsyncIterator[None]:
    """Shield the calls in the block from cancellation, and give them `timeout` seconds.

    On Python 3.11 a cancellation that reaches pymongo during server selection breaks its lock or hangs.
    Raises SinkUnavailable when MongoDB cannot be reached or does not answer in time.
    """
    with CancelScope(shield=True):
        try:
            with pymongo.timeout(timeout):
                yield
        except PyMongoError as exc:
            raise _translated(exc)  # noqa: B904 - it names its cause itself


def _translated(exc: PyMongoError) -> Exception:
    """Return an error of pymongo if it is for the caller, else SinkUnavailable, which names it as the cause."""
    # pymongo's frames hold the whole command in a cycle, and in an outage the garbage collector seldom runs
    clear_frames(exc.__traceback__)
    if isinstance(exc, _FOR_THE_CALLER) and not isinstance(exc, ExecutionTimeout):
        return exc
    unavailable = SinkUnavailable(summary_of(exc), ambiguous=not isinstance(exc, _NOTHING_SENT))
    unavailable.__cause__ = exc
    return unavailable


async def send(
    database: AsyncDatabase[dict[str, Any]],
    command: dict[str, Any],
    timeout: float,
    session: AsyncClientSession | None = None,
) -> dict[str, Any]:
    """Send a command that writes, as `calling` does, and return the server's reply. It takes a lane if there is one.

    The reply may hold `writeErrors` and `writeConcernError`, which are not raised.
    """
    client = database.client
    if isinstance(client, LaneClient):
        of_session = {} if session is None else {"lsid": session.session_id}
        try:
            with CancelScope(shield=True):
                reply = await client.lanes.send(database.name, {**command, **of_session}, timeout)
        except PyMongoError as exc:
            raise _translated(exc)  # noqa: B904 - it names its cause itself
        if reply is not None:
            return reply
    async with calling(timeout):
        return await database.command(command, session=session)


async def watch_mongo(client: AsyncMongoClient[dict[str, Any]], login: Login, report: Report) -> None:
    """Report when MongoDB accepts the login and has a primary that takes writes, and when not, until cancelled.

    The client's topology is polled, because pymongo calls its listeners up to a second late.
    """
    before, again = _NO_PRIMARY, False
    while True:
        why = login.refused or _why_no_primary(client)
        if why != before:
            report(lifecycle.ConnectionChanged("mongodb", not why, why or "a primary takes writes", again=again))
            again = again or not why
        before = why
        await sleep(_LOOK if why else _LOOK_WHEN_WELL)


def _why_no_primary(client: AsyncMongoClient[dict[str, Any]]) -> str:
    seen = client.topology_description
    if seen.has_writable_server():
        return ""
    errors = [server.error for server in seen.server_descriptions().values() if server.error is not None]
    refusals = [error for error in errors if isinstance(error, OperationFailure)]
    if refusals:  # pymongo counts a failed login as a failure of the server
        return f"MongoDB does not let us in: {describe_failure(refusals[0])}"
    return f"{_NO_PRIMARY}: {summary_of(errors[0])}" if errors else _NO_PRIMARY


class Login(Protocol):
    """The state of our login."""

    @property
    def refused(self) -> str:
        """Why the server refuses the login; empty while it accepts it."""


def new_client(uri: str) -> LaneClient:
    """Make a client that is not connected yet.

    The driver does not retry: retries of ours are harmless by the identities of entries, and the driver's would hide an
    outage.
    """
    return LaneClient(
        uri,
        appname="collector",
        retryWrites=False,
        serverSelectionTimeoutMS=_SELECTION_MS,
        w="majority",
        tz_aware=True,
    )


@asynccontextmanager
async def open_mongo(uri: str) -> AsyncIterator[LaneClient]:
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
    """Return a database with majority reads from the primary, and writes that wait for the majority.

    Options of the URI change neither that nor how documents are read, because a guarantee is no setting. `command` uses
    only the read concern that stands in the command itself.
    """
    return client.get_database(name, codec_options=CodecOptions(tz_aware=True), **MAJORITY)


def demand_durable(reply: Mapping[str, Any], what: str) -> None:
    """Raise SinkUnavailable when the majority did not have the write in time: a change of primary may undo it."""
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

    With a UUID, MongoDB refuses the insert when the collection has another UUID: see `collector.sinks.place`.
    The reply may hold `writeErrors` and `writeConcernError`, which are not raised. Raises SinkUnavailable, bson's
    errors for a document that cannot be encoded, and OperationFailure for a command that was refused as a whole.
    """
    command = {
        "insert": collection,
        "documents": documents,
        "ordered": False,
        "writeConcern": {"w": "majority", "wtimeout": int(timeout * 1000)},
        **only_into(uuid),
    }
    return await send(database, command, timeout)


def only_into(uuid: bytes | None) -> dict[str, bytes]:
    """Return the field of an insert by which MongoDB refuses it when the collection has another UUID."""
    return {} if uuid is None else {"collectionUUID": uuid}


def compares_uuids(database: AsyncDatabase[dict[str, Any]]) -> bool:
    """Tell whether all known servers accept a UUID in an insert."""
    servers = database.client.topology_description.server_descriptions().values()
    return all(server.max_wire_version >= _TAKES_UUID for server in servers if server.is_server_type_known)


async def list_indexes(
    database: AsyncDatabase[dict[str, Any]], collection: str, timeout: float
) -> list[Mapping[str, Any]]:
    """Return the server's list of a collection's indexes. Raises SinkUnavailable and OperationFailure."""
    async with calling(timeout):
        found = await database.cursor_command({"listIndexes": collection, "cursor": {}})
        return [one async for one in found]


async def make_expiring(database: AsyncDatabase[dict[str, Any]], collection: str, seconds: int, timeout: float) -> None:
    """Make an index that deletes documents `seconds` after their `timestamp`. Raises SinkUnavailable, OperationFailure.

    The server gives the index up when it is not built within `timeout`.
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
    """Create the collection as the spec asks, unless one of that name exists; an existing one is never altered.

    When this returns, the majority has the collection: else a change of primary could undo it, and the next insert
    would make a plain one. Raises SinkUnavailable, and WrongCollection when MongoDB can never make it as declared.
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
                why = str((exc.details or {}).get("errmsg", ""))[:200]  # it quotes only the declaration
                raise WrongCollection(
                    f"collection {collection}: expected a declaration that MongoDB can make it by, "
                    f"got {describe_failure(exc)}: {why}; declare it otherwise: transfer set"
                ) from exc
            if exc.code != _NAMESPACE_EXISTS:
                raise SinkUnavailable(f"{collection} was not created: {describe_failure(exc)}") from exc
            reply = exc.details or {}
    demand_durable(reply, f"{collection} was not created")


def summary_of(exc: BaseException) -> str:
    """Return kind and beginning of a driver's error; the rest of its text describes the whole cluster."""
    beginning = str(exc).split(", Timeout:")[0].split(" (configured timeouts")[0].split("\n")[0]
    return f"{type(exc).__name__}: {beginning[:200]}"
