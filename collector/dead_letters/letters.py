"""The dead letters of one logger for its operator: found by a filter, read, removed. See `redrive.py`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from gridfs.asynchronous import AsyncGridFSBucket
from gridfs.errors import CorruptGridFile, NoFile
from pymongo.errors import OperationFailure

from collector.dead_letters.summary import Filter, Letter, Summary
from collector.decoding.headers import headers as read_headers
from collector.errors import SinkUnavailable
from collector.mongodb.calls import MAJORITY, calling
from collector.mongodb.errors import describe_failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from bson import ObjectId
    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.asynchronous.database import AsyncDatabase


GROUP = 100
"""Letters that are read, published and removed together."""
_GROUP_BYTES = 8 * 1024 * 1024
_TIMEOUT = 60.0
"""Seconds for one call to MongoDB, which may have to search a million letters."""


class Letters(Protocol):
    """The dead letters of one logger in any store. Every method raises SinkUnavailable."""

    async def missing(self) -> str:
        """Return the places of letters and entries when both are missing, else an empty text."""

    async def count(self, wanted: Filter) -> int:
        """Return the number of letters that the filter selects."""

    def find(self, wanted: Filter) -> AsyncIterator[list[Summary]]:
        """Yield the selected letters in groups, in the order in which they failed. Later letters are not found."""

    async def read(self, ids: Sequence[ObjectId]) -> list[Letter]:
        """Return the letters with these ids as they are now."""

    async def remove(self, letters: Sequence[Summary]) -> int:
        """Remove letters durably; return how many. A letter that was replaced since it was read stays."""


class DeadLetterReader:
    """The dead letters of one logger in MongoDB. See `Letters`."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], collection: str, entries: str = "") -> None:
        """Read from the collection of letters; `entries` is the collection of the logger's entries."""
        self._database = database
        self._collection = database[collection]
        self._entries = entries
        self._files = AsyncGridFSBucket(database, bucket_name=collection)

    async def missing(self) -> str:
        """See `Letters`."""
        names = {"name": {"$in": [self._collection.name, self._entries]}}
        async with _asking():
            found = await self._database.list_collection_names(filter=names, authorizedCollections=True)
        return "" if found else f"{self._collection.name} nor {self._entries}"

    async def count(self, wanted: Filter) -> int:
        """See `Letters`."""
        async with _asking():
            number = await self._collection.count_documents(wanted.query())
        return number if wanted.limit is None else min(number, wanted.limit)

    async def find(self, wanted: Filter) -> AsyncIterator[list[Summary]]:
        """See `Letters`."""
        stages: list[dict[str, Any]] = [
            {"$match": wanted.query()},
            {"$project": _SUMMARY},
            {"$sort": {"failed_at": 1, "_id": 1}},
        ]
        if wanted.limit is not None:
            stages.append({"$limit": wanted.limit})
        async with _asking():
            cursor = await self._collection.aggregate(stages, allowDiskUse=True)
        while True:
            async with _asking():
                group = [summary_of(found) for found in await cursor.to_list(GROUP)]
            if not group:
                return
            for part in parts(group):
                yield part

    async def read(self, ids: Sequence[ObjectId]) -> list[Letter]:
        """See `Letters`."""
        async with _asking():
            found = await self._collection.find({"_id": {"$in": list(ids)}}).to_list()
            return [await self._letter(document) for document in found]

    async def remove(self, letters: Sequence[Summary]) -> int:
        """See `Letters`."""
        inline = [letter for letter in letters if letter.body_file is None]
        removed = 0
        if inline:
            deletes = [{"q": _exactly(letter), "limit": 1} for letter in inline]
            command = {"delete": self._collection.name, "deletes": deletes, "ordered": False}
            async with _asking():
                reply = await self._database.command({**command, "writeConcern": {"w": "majority"}})
            if "writeErrors" in reply or "writeConcernError" in reply:
                raise SinkUnavailable(f"MongoDB did not remove all dead letters of {self._collection.name}")
            removed = reply["n"]
        for letter in letters:
            if letter.body_file is not None:
                removed += await self._remove_with_file(letter, letter.body_file)
        return removed

    async def _remove_with_file(self, letter: Summary, file: ObjectId) -> int:
        """Remove letter and file, or neither, so that a letter never loses its body."""

        async def both(session: AsyncClientSession) -> int:
            removed = (await self._collection.delete_one(_exactly(letter), session=session)).deleted_count
            if removed:  # GridFS refuses to delete in a transaction
                await self._collection.chunks.delete_many({"files_id": file}, session=session)
                await self._collection.files.delete_one({"_id": file}, session=session)
            return removed

        async with _asking(), self._database.client.start_session() as session:
            return await session.with_transaction(both, **MAJORITY)

    async def _letter(self, document: dict[str, Any]) -> Letter:
        body: bytes | None = document["body"]
        if document["body_file"] is not None:
            body = await self._file(document["body_file"])
        size = None if body is None else len(body)
        return Letter(summary_of(document | {"size": size}), document["error"], fields_of(document["headers"]), body)

    async def _file(self, file: ObjectId) -> bytes | None:
        try:
            return await (await self._files.open_download_stream(file)).read()
        except (NoFile, CorruptGridFile):
            return None


_SUMMARY = {
    **dict.fromkeys(("failed_at", "published_at", "reason", "subject", "stream", "sequence"), 1),
    **dict.fromkeys(("entry", "deliveries", "attempt", "body_file"), 1),
    "size": {"$cond": [{"$eq": ["$body", None]}, None, {"$binarySize": "$body"}]},
}


def summary_of(document: Mapping[str, Any]) -> Summary:
    """Return the summary of a stored letter; its document has the field `size` too."""
    names = ("failed_at", "published_at", "reason", "subject", "stream", "sequence", "entry", "deliveries", "body_file")
    same = {name: document[name] for name in names}
    return Summary(id=document["_id"], attempt=document.get("attempt", 1), size=document["size"], **same)


def _exactly(letter: Summary) -> dict[str, Any]:
    """Return a query for the letter that matches only while it was not replaced."""
    attempt = None if letter.attempt == 1 else letter.attempt  # None matches a missing field
    return {"_id": letter.id, "failed_at": letter.failed_at, "attempt": attempt}


def fields_of(kept: bytes | Sequence[Sequence[str | bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """Return the original headers, in order, from the form in which a letter keeps them."""
    pairs = read_headers(kept) if isinstance(kept, bytes) else kept
    encoding = "latin-1" if isinstance(kept, bytes) else "utf-8"
    return tuple((_raw(name, encoding), _raw(value, encoding)) for name, value in pairs)


def _raw(text: str | bytes, encoding: str) -> bytes:
    return text if isinstance(text, bytes) else text.encode(encoding)


def parts(group: list[Summary]) -> list[list[Summary]]:
    """Cut a group so that no part takes much memory; a letter whose body is a file is a part of its own."""
    parts: list[list[Summary]] = [[]]
    room = _GROUP_BYTES
    for letter in group:
        size = _GROUP_BYTES if letter.size is None else letter.size
        if parts[-1] and size > room:
            parts.append([])
            room = _GROUP_BYTES
        parts[-1].append(letter)
        room -= size
    return parts


@asynccontextmanager
async def _asking() -> AsyncIterator[None]:
    async with calling(_TIMEOUT):
        try:
            yield
        except OperationFailure as exc:
            raise SinkUnavailable(describe_failure(exc)) from exc
