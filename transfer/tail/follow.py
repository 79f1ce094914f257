"""Follows the documents of one logger as they are stored, none of them twice, without end.

A plain collection has a change stream. A time-series collection has none, and is read again and again.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import bson
from pymongo.errors import PyMongoError

from transfer.tail.stored import POLL, first_sentence, identity, may_pass, milliseconds, order, read_stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pymongo.change_stream import CollectionChangeStream
    from pymongo.collection import Collection

    from transfer.tail.stored import Document, Selection

    Say = Callable[[str], None]


def follow_plain(collection: Collection[dict[str, Any]], selection: Selection, say: Say) -> Iterator[Document]:
    """Yield what is stored, then every document that is stored from then on, in the order in which they are.

    An outage of MongoDB is waited for, and what was stored meanwhile comes after it.
    """
    changes = _Changes(collection, selection, say)  # before the collection is read: what comes in between is in both
    read = set()
    for document in read_stored(collection, "collection", selection):
        read.add(identity(document))
        yield document
    yield from (document for document in changes.documents() if identity(document) not in read)


class _Changes:
    """Documents that are inserted after this object was made."""

    def __init__(self, collection: Collection[dict[str, Any]], selection: Selection, say: Say) -> None:
        wanted = {"operationType": "insert", **selection.filter("fullDocument.")}
        self._pipeline = [{"$match": {"$or": [{"operationType": "invalidate"}, wanted]}}]
        self._collection = collection
        self._say = say
        self._position: Mapping[str, Any] | None = None
        self._stream: CollectionChangeStream[dict[str, Any]] | None = self._open()

    def _open(self) -> CollectionChangeStream[dict[str, Any]]:
        return self._collection.watch(self._pipeline, start_after=self._position)

    def documents(self) -> Iterator[Document]:
        """Yield one after another, waiting for them."""
        while True:
            try:
                yield from self._until_it_ends()
            except PyMongoError as error:
                if self._position is None or not may_pass(error):
                    raise
                self._say(f"MongoDB does not answer, waiting for it: {first_sentence(error)}")
                time.sleep(POLL)

    def _until_it_ends(self) -> Iterator[Document]:
        """Read one stream; it ends when the collection is dropped, and another tells of the next one of that name."""
        stream, self._stream = self._stream or self._open(), None
        with stream:
            while stream.alive:
                change = stream.try_next()
                self._position = stream.resume_token
                if change is not None and change["operationType"] == "insert":
                    yield change["fullDocument"]


def follow_series(
    collection: Collection[dict[str, Any]], selection: Selection, late: timedelta, say: Say
) -> Iterator[Document]:
    """Yield what is stored, then every document that is stored from then on, at most `late` after its timestamp.

    In the order in which they are found, those found together by timestamp. An outage of MongoDB is waited for, and
    what was stored meanwhile comes after it.
    """
    series = _Series(collection, selection, late)
    series.mark_stored()
    for document in read_stored(collection, "timeseries", selection):
        series.mark(document)
        yield document
    while True:
        start = time.monotonic()
        try:
            yield from series.new()
        except PyMongoError as error:
            if not may_pass(error):
                raise
            say(f"MongoDB does not answer, waiting for it: {first_sentence(error)}")
        time.sleep(max(POLL, time.monotonic() - start))  # at most half of the time is the server's


class _Series:
    """Which documents with recent timestamps have been seen: two entries may be stored against their order in time."""

    def __init__(self, collection: Collection[dict[str, Any]], selection: Selection, late: timedelta) -> None:
        self._collection = collection
        self._selection = selection
        self._late = late // timedelta(milliseconds=1)
        self._low = _now() - self._late
        self._seen: dict[bytes, int] = {}

    def mark(self, document: Document) -> None:
        """Have seen it."""
        self._seen[identity(document)] = milliseconds(document["timestamp"])

    def mark_stored(self) -> None:
        """Have seen what is stored now."""
        for document in self._times():
            self.mark(document)

    def new(self) -> list[Document]:
        """Return what was not seen before. A reading that fails half way counts as not done."""
        start = _now()
        times = [milliseconds(one["timestamp"]) for one in self._times() if identity(one) not in self._seen]
        new = {identity(one): one for one in self._between(min(times), max(times))} if times else {}
        unseen = [document for its_identity, document in new.items() if its_identity not in self._seen]
        for document in unseen:
            self.mark(document)
        self._low = max(self._low, start - self._late)
        self._seen = {one: moment for one, moment in self._seen.items() if moment >= self._low}
        return sorted(unseen, key=order)

    def _times(self) -> Iterator[Document]:
        asked = self._selection.filter() | {"timestamp": {"$gte": bson.DatetimeMS(self._low)}}
        return iter(self._collection.find(asked, {"_id": 1, "timestamp": 1}))

    def _between(self, first: int, last: int) -> Iterator[Document]:
        moments = {"$gte": bson.DatetimeMS(first), "$lte": bson.DatetimeMS(last)}
        return iter(self._collection.find(self._selection.filter() | {"timestamp": moments}))


def _now() -> int:
    return milliseconds(datetime.now(UTC))
