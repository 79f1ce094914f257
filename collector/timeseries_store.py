"""A time-series collection as its owner uses it: numbered inserts, the mark, and looking up what may be stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import bson
from bson import Int64, ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from collector.claims import TOO_OLD
from collector.errors import OwnershipLost, SinkUnavailable
from collector.mongo import calling
from collector.mongo_errors import said
from collector.sinks.outcomes import UNENCODABLE

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.claims import Claims, Fenced
    from collector.model import Entry

_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
_APART = timedelta(hours=1)
"""Between two timestamps that are looked up in two queries: a wide range makes the server unpack every bucket in it."""
_EARLY = datetime(1971, 2, 1)  # noqa: DTZ001 - as times stand in documents: UTC, without a zone
"""Before it, `$gte` may find nothing: mongod asks for buckets from up to a year earlier on, and that is before 1970."""
_POSITION_BITS = 16
_DENSE = 4
"""Of so many sequences at least one is asked for, or the range of `_id`s is too wide to be read as one."""
_ONE_BATCH = 1_000_000


class TimeSeriesStore:
    """See `Store`: one tenure of one logger's collection."""

    def __init__(
        self,
        database: AsyncDatabase[dict[str, Any]],
        collection: str,
        claims: Claims,
        fenced: Fenced,
        timeout: float,
    ) -> None:
        self._database = database
        self._collection = collection
        self._claims = claims
        self._tenure = fenced.tenure
        self._sessions = fenced.sessions
        self._since = fenced.since
        self._timeout = timeout

    async def raise_mark(self, mark: int) -> None:
        """See `Store`."""
        await self._claims.raise_mark(self._tenure.claim, mark)

    async def insert(self, slot: int, number: int, entries: Sequence[Entry]) -> Mapping[str, Any]:
        """See `Store`."""
        command = {
            "insert": self._collection,
            "documents": [entry.document for entry in entries],
            "ordered": False,
            "writeConcern": {"w": "majority", "wtimeout": int(self._timeout * 1000)},
            "txnNumber": Int64(number),
        }
        async with calling(self._timeout):
            try:
                reply = await self._database.command(command, session=self._sessions[slot])
            except OperationFailure as exc:
                if exc.code == TOO_OLD:
                    raise OwnershipLost(self._tenure.claim) from exc
                self._seen(exc.details or {})  # it may have begun: whoever looks up after it has to see that
                raise
        if any(error["code"] == TOO_OLD for error in reply.get("writeErrors", ())):
            raise OwnershipLost(self._tenure.claim)
        self._seen(reply)
        return reply

    async def stored(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """See `Store`. Under a publisher's own `_id` only the same document is the same entry."""
        askable = [entry for entry in entries if _askable(entry)]
        found: list[Entry] = []
        for group in _groups(entry for entry in askable if not entry.own_id):
            identities = {document["_id"] for document in await self._find(group, {"_id": 1})}
            found += [entry for entry in group if entry.document["_id"] in identities]
        for group in _groups(entry for entry in askable if entry.own_id):
            prints = {_print(document) for document in await self._find(group, None)}
            found += [entry for entry in group if _print(_as_stored(entry)) in prints]
        return found

    def _seen(self, reply: Mapping[str, Any]) -> None:
        """Have look-ups from now on see what the server had done when it said this."""
        self._since = max(self._since, reply.get("operationTime", self._since))

    async def _find(self, group: Sequence[Entry], projection: dict[str, int] | None) -> list[RawBSONDocument]:
        """Read what is stored with timestamps and `_id`s like these; a superset of what is asked for may come."""
        first, last = _timestamp(group[0]), _timestamp(group[-1])
        identities = _identity_filter([entry.document["_id"] for entry in group])
        command = {
            "find": self._collection,
            "filter": {"timestamp": {"$lte": last, **({"$gte": first} if first >= _EARLY else {})}, **identities},
            "batchSize": _ONE_BATCH,
            "readConcern": {"level": "majority", "afterClusterTime": self._since},
        }
        if projection is not None:
            command["projection"] = projection
        async with calling(self._timeout):
            try:
                cursor = await self._database.with_options(_RAW).cursor_command(command)
                return [document async for document in cursor]
            except OperationFailure as exc:
                raise SinkUnavailable(said(exc)) from exc


def _askable(entry: Entry) -> bool:
    """Tell whether an entry can be looked up: what cannot be encoded is not stored, and refused when it is inserted."""
    try:
        bson.encode(entry.document if entry.own_id else {"_id": entry.document["_id"]})
    except UNENCODABLE:
        return False
    return True


def _groups(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Yield entries of about the same time, in the order of time."""
    group: list[Entry] = []
    for entry in sorted(entries, key=_timestamp):
        if group and _timestamp(entry) - _timestamp(group[-1]) > _APART:
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _timestamp(entry: Entry) -> datetime:
    timestamp: datetime = entry.document["timestamp"]
    return timestamp


def _identity_filter(identities: list[Any]) -> dict[str, Any]:
    """Ask for a range where the identities are neighbours, else for each of them, as the documents are read.

    mongod would compare every one of an `$in` with every bucket first: seconds, where entries of many sources make
    many buckets. A map for an `_id` may be something else in a filter: then the timestamps have to do.
    """
    if any(isinstance(identity, (dict, list)) for identity in identities):
        return {}
    if all(type(identity) is ObjectId for identity in identities):
        first, last = min(identities), max(identities)
        sequences = (_number(last) >> _POSITION_BITS) - (_number(first) >> _POSITION_BITS)
        if sequences <= _DENSE * len(identities):
            return {"_id": {"$gte": first, "$lte": last}}
    return {"$nor": [{"_id": {"$nin": identities}}]}


def _number(identity: ObjectId) -> int:
    return int.from_bytes(identity.binary)


def _as_stored(entry: Entry) -> RawBSONDocument:
    return RawBSONDocument(bson.encode(entry.document), _RAW)


def _print(document: RawBSONDocument) -> Hashable:
    """Return what equal documents have in common.

    A time-series collection does not keep the order of fields, and that of the fields in its metaField neither.
    """
    return frozenset((name, bson.encode({"": _sorted(value)})) for name, value in document.items())


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _sorted(child) for name, child in sorted(value.items())}
    return [_sorted(child) for child in value] if isinstance(value, list) else value
