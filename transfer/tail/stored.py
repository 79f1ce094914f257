"""The stored documents of one logger: its collection, the filter of wanted entries, and the newest of them.

All functions here block, because a command in a terminal waits for nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import MongoClient, ReadPreference
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from transfer.errors import Problem, Refused, TransferError, Unavailable, WrongSettings
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymongo.collection import Collection

    from transfer.tail.where import Where

Document = Mapping[str, Any]
POLL = 0.5
_SELECTION_MS = 5000
_UNAUTHORIZED = (13, 18)
_NO_CHANGE_STREAMS = 40573
_POSITION_LOST = frozenset({136, 260, 280, 286})
"""CappedPositionLost, InvalidResumeToken, ChangeStreamFatalError, ChangeStreamHistoryLost: what was stored meanwhile is
not to be had any more."""
_PASSING = frozenset(
    {6, 7, 24, 43, 46, 50, 63, 89, 91, 112, 133, 134, 150, 175, 189, 202, 222, 234, 237, 239, 246, 262, 384, 9001}
    | {10107, 11600, 11601, 11602, 13388, 13435, 13436}
)
"""Error codes of a server that is busy, steps down, stops or has moved data, and of cursors ended from outside."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries; `since` and `lines` are about those that are stored already."""

    where: Sequence[Where] = ()
    since: datetime | None = None
    lines: int | None = None
    """The newest so many; None is all."""

    def filter(self, prefix: str = "") -> dict[str, Any]:
        """Return MongoDB's filter for `where`."""
        asked = [{prefix + name: _equal(name, value)} for name, value in self.where]
        return {"$and": asked} if asked else {}


def _equal(name: str, value: object) -> dict[str, Any]:
    if name == "_id" and isinstance(value, str) and bson.ObjectId.is_valid(value):
        return {"$in": [value, bson.ObjectId(value)]}
    return {"$eq": value}


@contextmanager
def open_collection(uri: str, namespace: str, key: str) -> Iterator[Collection[dict[str, Any]]]:
    """Give the collection of a logger for the length of the block; errors of the driver are translated at its end.

    Raises `WrongSettings` for the URI, `Unavailable` and `Refused`.
    """
    try:
        client = MongoClient[dict[str, Any]](uri, appname="transfer tail", serverSelectionTimeoutMS=_SELECTION_MS)
    except (PyMongoError, ValueError) as error:
        expected = "a MongoDB URI such as mongodb://127.0.0.1:27017"
        raise WrongSettings([Problem("DATABASE", expected, type(error).__name__)]) from error
    names = Names(namespace)
    with client:
        # the primary: another member may lack what the change stream, opened after it was stored, does not tell
        database = client.get_database(names.database, _OPTIONS, ReadPreference.PRIMARY)
        try:
            yield database[names.collection(key)]
        except ConnectionFailure as error:
            raise Unavailable(f"expected MongoDB (DATABASE) to answer, got {first_sentence(error)}") from error
        except OperationFailure as error:
            raise _refused(error, f"{names.database}.{names.collection(key)}") from error


def _refused(error: OperationFailure, collection: str) -> TransferError:
    if error.code in _UNAUTHORIZED:
        needed = "find, listCollections and changeStream"
        return Refused(f"expected the user of DATABASE to have {needed} for {collection}, got {first_sentence(error)}")
    if error.code == _NO_CHANGE_STREAMS:
        return Refused(
            "expected a replica set, whose change stream --follow reads, got a standalone mongod: make it a replica "
            "set of one (start it with --replSet, then rs.initiate()), or leave --follow out"
        )
    if error.code in _POSITION_LOST:
        return Refused(
            "expected MongoDB to know what was stored while it did not answer, got an oplog that is too short: start "
            "again, with --since"
        )
    return Refused(f"expected MongoDB to answer, got {first_sentence(error)}")


def may_pass(error: PyMongoError) -> bool:
    """Return whether the same may be asked again, for the error says nothing about it."""
    return isinstance(error, ConnectionFailure) or (isinstance(error, OperationFailure) and error.code in _PASSING)


def first_sentence(error: Exception) -> str:
    """Return the beginning of a driver's error: its whole text is a description of the cluster."""
    said = str(error).split(", Timeout:")[0].split(", full error:")[0].split(" (configured timeouts")[0]
    return f"{type(error).__name__}: {said[:200]}"


def kind_of(collection: Collection[dict[str, Any]]) -> str | None:
    """Return `collection` or `timeseries`, None when there is none of that name."""
    found = collection.database.list_collections(filter={"name": collection.name})
    return next((str(one["type"]) for one in found), None)


def until_made(collection: Collection[dict[str, Any]]) -> str:
    """Return the kind of a collection as soon as it is there."""
    while (kind := kind_of(collection)) is None:
        time.sleep(POLL)
    return kind


def read_stored(collection: Collection[dict[str, Any]], kind: str, selection: Selection) -> Iterator[Document]:
    """Yield what is stored and selected, oldest first by `timestamp`.

    The newest of a plain collection are those stored last, which needs no index; of a time-series collection those
    with the latest timestamps.
    """
    asked = selection.filter()
    if selection.since is not None:
        asked["timestamp"] = {"$gte": selection.since}
    found = collection.find(asked)
    if selection.lines is None:
        yield from found.sort([("timestamp", 1), ("_id", 1)]).allow_disk_use(allow_disk_use=True)
    elif selection.lines:
        found.sort([("timestamp", -1), ("_id", -1)] if kind == "timeseries" else [("$natural", -1)])
        yield from sorted(found.limit(selection.lines), key=order)


def order(document: Document) -> tuple[int, bytes]:
    """Return what documents are sorted by."""
    return milliseconds(document.get("timestamp")), identity(document)


def identity(document: Document) -> bytes:
    """Return the `_id`, whatever it is, as something that a set takes."""
    return bson.encode({"": document["_id"]})


def milliseconds(moment: object) -> int:
    """Return a time as MongoDB has it; what is none is the oldest."""
    if isinstance(moment, datetime):
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    return int(moment) if isinstance(moment, bson.DatetimeMS) else 0
