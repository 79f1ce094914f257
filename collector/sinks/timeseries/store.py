"""A time-series collection as its owner uses it: numbered inserts, the mark, and looking up what may be stored."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import bson
from bson import Int64, ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.errors import ExecutionTimeout, NetworkTimeout, OperationFailure

from collector.decoding.identity import POSITION_BITS
from collector.errors import OwnershipLost, SinkUnavailable
from collector.mongodb.calls import RAW, calling, only_into, send
from collector.mongodb.errors import describe_failure
from collector.sinks.outcomes import UNENCODABLE
from collector.sinks.timeseries.claims import TOO_OLD

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterable, Iterator, Sequence, Set

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.model import Entry
    from collector.sinks.timeseries.claims import Claims, Fenced

_WIDEST = timedelta(hours=1)
"""Longest time from the first to the last timestamp of a query: the server unpacks every bucket in between."""
_EARLY = datetime(1971, 2, 1)  # noqa: DTZ001 - as times stand in documents: UTC, without a zone
"""Below this, mongod's bound for buckets (timestamp minus one year) would fall before 1970, and `$gte` find nothing."""
_DENSE = 4
"""An `_id` range is used if at least one in four sequences inside it is wanted; else the `_id`s are matched singly."""
_MOST = 10_000
_MOST_BYTES = 4 * 1024 * 1024
"""Entries of a query, and bytes of their `_id`s: a command has at most 16 MiB."""
_SMALL = 20
_PAGE = 1000
"""Documents that are read at a time."""
_T = TypeVar("_T")


class TimeSeriesStore:
    """The collection of one logger during one tenure."""

    def __init__(
        self,
        database: AsyncDatabase[dict[str, Any]],
        collection: str,
        claims: Claims,
        fenced: Fenced,
        timeout: float,
        *,
        uuid: bytes | None = None,
    ) -> None:
        self._database = database
        self._collection = collection
        self._claims = claims
        self._tenure = fenced.tenure
        self._sessions = fenced.sessions
        self._since = fenced.since
        self._election = fenced.election
        self._timeout = timeout
        self._width = _WIDEST
        self._uuid = uuid

    async def raise_mark(self, mark: int) -> None:
        """See `Store`."""
        await self._claims.raise_mark(self._tenure.claim, mark)

    async def insert(self, slot: int, number: int, entries: Sequence[Entry], *, again: bool) -> Mapping[str, Any]:
        """See `Store`."""
        election = self._election
        reply = await self._insert(slot, number, entries)
        if again:
            await self._demand_durable(election)
        return reply

    async def _demand_durable(self, before: Any) -> None:
        """Wait until the majority has the write of a repeated number; `before` is the election when it was first sent.

        mongod answers a repeated number at once (rule 11). A barrier on the same primary covers the write; another
        primary may never have had it.
        """
        self._election = await self._claims.barrier(self._tenure.claim)
        if self._election != before:
            raise SinkUnavailable("the primary changed while a write was asked for again", ambiguous=True)

    async def _insert(self, slot: int, number: int, entries: Sequence[Entry]) -> Mapping[str, Any]:
        command = {
            "insert": self._collection,
            "documents": [entry.document for entry in entries],
            "ordered": False,
            "writeConcern": {"w": "majority", "wtimeout": int(self._timeout * 1000)},
            "txnNumber": Int64(number),
            **only_into(self._uuid),
        }
        try:
            reply = await send(self._database, command, self._timeout, self._sessions[slot])
        except OperationFailure as exc:
            if exc.code == TOO_OLD:
                raise OwnershipLost(self._tenure.claim) from exc
            self._seen(exc.details or {})  # the insert may have begun: the next look-up has to see its entries
            raise
        if any(error["code"] == TOO_OLD for error in reply.get("writeErrors", ())):
            raise OwnershipLost(self._tenure.claim)
        self._seen(reply)
        return reply

    async def stored(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """See `Store`. Under a publisher's own `_id` only the same document is the same entry."""
        askable = [entry for entry in entries if _askable(entry)]
        found: list[Entry] = []
        for group in _groups((entry for entry in askable if not entry.own_id), self._width):
            identities = await self._hits(group, [entry.document["_id"] for entry in group], _identity, {"_id": 1})
            found += [entry for entry in group if entry.document["_id"] in identities]
        for group in _groups((entry for entry in askable if entry.own_id), self._width):
            prints = [_print(_as_stored(entry)) for entry in group]
            hits = await self._hits(group, prints, _print, None)
            found += [entry for entry, mark in zip(group, prints, strict=True) if mark in hits]
        self._width = min(_WIDEST, self._width * 2)
        return found

    def _seen(self, reply: Mapping[str, Any]) -> None:
        """Let all later look-ups see everything that the server had written at the time of this reply."""
        self._since = max(self._since, reply.get("operationTime", self._since))

    async def _hits(
        self,
        group: Sequence[Entry],
        wanted: Sequence[Hashable],
        mark: Callable[[RawBSONDocument], Hashable],
        projection: dict[str, int] | None,
    ) -> Set[Hashable]:
        """Return those of the wanted marks that a stored document has; at most one page of documents is held.

        After a query that took the server too long, the next queries cover shorter times.
        """
        asked, hits = frozenset(wanted), set[Any]()
        try:
            async with aclosing(self._pages(_question(self._collection, group, self._since, projection))) as pages:
                async for page in pages:
                    hits |= asked.intersection(map(mark, page))
                    if len(hits) == len(asked):
                        break
        except SinkUnavailable as exc:
            if isinstance(exc.__cause__, (ExecutionTimeout, NetworkTimeout)):
                self._width /= 4
            raise
        return hits

    async def _pages(self, command: dict[str, Any]) -> AsyncGenerator[list[RawBSONDocument], None]:
        """Yield the found documents by page; each call to MongoDB has a deadline of its own. Raises SinkUnavailable."""
        database = self._database.with_options(RAW)  # the codec of `cursor_command` covers the first batch only
        cursor = await self._asked(database.cursor_command(command, codec_options=RAW))
        try:
            while page := await self._asked(cursor.to_list(_PAGE)):
                yield page
        finally:
            await self._asked(cursor.close())

    async def _asked(self, call: Awaitable[_T]) -> _T:
        async with calling(self._timeout):
            try:
                return await call
            except OperationFailure as exc:
                if isinstance(exc, ExecutionTimeout):
                    raise
                raise SinkUnavailable(describe_failure(exc)) from exc


def _question(collection: str, group: Sequence[Entry], since: Any, projection: dict[str, int] | None) -> dict[str, Any]:
    """Return the query for documents with the timestamps and `_id`s of these entries; it may find more."""
    first, last = _timestamp(group[0]), _timestamp(group[-1])
    identities = _identity_filter([entry.document["_id"] for entry in group])
    return {
        "find": collection,
        "filter": {"timestamp": {"$lte": last, **({"$gte": first} if first >= _EARLY else {})}, **identities},
        **({} if projection is None else {"projection": projection}),
        "batchSize": _PAGE,
        "readConcern": {"level": "majority", "afterClusterTime": since},
    }


def _askable(entry: Entry) -> bool:
    """Tell whether an entry can be looked up. One that cannot be encoded is not stored, and its insert refuses it."""
    try:
        bson.encode(entry.document if entry.own_id else {"_id": entry.document["_id"]})
    except UNENCODABLE:
        return False
    return True


def _groups(entries: Iterable[Entry], width: timedelta) -> Iterator[list[Entry]]:
    """Yield the entries of each query, in the order of time: no more than `width` apart, and not too many."""
    group: list[Entry] = []
    size = 0
    for entry in sorted(entries, key=_timestamp):
        weight = _weight(entry.document["_id"])
        full = len(group) == _MOST or size + weight > _MOST_BYTES
        if group and (full or _timestamp(entry) - _timestamp(group[0]) > width):
            yield group
            group, size = [], 0
        group.append(entry)
        size += weight
    if group:
        yield group


def _weight(identity: Any) -> int:
    """Return about how many bytes an `_id` takes in a query."""
    return _SMALL if isinstance(identity, ObjectId) else len(bson.encode({"": identity}))


def _identity(document: RawBSONDocument) -> Hashable:
    identity: Hashable = document["_id"]
    return identity


def _timestamp(entry: Entry) -> datetime:
    timestamp: datetime = entry.document["timestamp"]
    return timestamp


def _identity_filter(identities: list[Any]) -> dict[str, Any]:
    """Return a range where the identities are neighbours, else a filter that is evaluated for each document.

    mongod evaluates `$in` for every bucket first, which takes seconds where entries of many sources make many buckets;
    `$nor` with `$nin` is evaluated for each document. A map whose first name begins with `$` would be read as an
    operator, so it stands in `$literal`.
    """
    if all(type(identity) is ObjectId for identity in identities):
        first, last = min(identities), max(identities)
        sequences = (_number(last) >> POSITION_BITS) - (_number(first) >> POSITION_BITS)
        if sequences <= _DENSE * len(identities):
            return {"_id": {"$gte": first, "$lte": last}}
    literal = [identity for identity in identities if _reads_as_operator(identity)]
    others = [identity for identity in identities if not _reads_as_operator(identity)]
    one_of_others = {"$nor": [{"_id": {"$nin": others}}]}
    if not literal:
        return one_of_others
    return {"$or": [one_of_others, {"$expr": {"$in": ["$_id", {"$literal": literal}]}}]}


def _reads_as_operator(identity: Any) -> bool:
    return isinstance(identity, dict) and next(iter(identity), "").startswith("$")


def _number(identity: ObjectId) -> int:
    return int.from_bytes(identity.binary)


def _as_stored(entry: Entry) -> RawBSONDocument:
    return RawBSONDocument(bson.encode(entry.document), RAW)


def _print(document: RawBSONDocument) -> Hashable:
    """Return a value that is equal for equal documents, whatever the order of their fields.

    A time-series collection keeps the order of fields neither at the top level nor in its metaField.
    """
    return frozenset((name, bson.encode({"": _sorted(value)})) for name, value in document.items())


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _sorted(child) for name, child in sorted(value.items())}
    return [_sorted(child) for child in value] if isinstance(value, list) else value
