"""Writing into a plain collection: one unordered insert a batch, and a unique `_id` that makes trying again safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bson
from pymongo.errors import OperationFailure

from collector.errors import CollectionChanged, SinkUnavailable
from collector.model import Entry, Reason, Refusal
from collector.mongodb.calls import RAW, calling, insert
from collector.mongodb.errors import describe_failure
from collector.sinks import Written
from collector.sinks.outcomes import (
    UNENCODABLE,
    Outcomes,
    document_at_fault,
    halves,
    is_elsewhere,
    outcomes,
    refusal_of_command,
    without_unencodable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pymongo.asynchronous.database import AsyncDatabase

COMMAND_LIMIT = 10_000
"""Entries in one command; the server's own limit is 100,000."""
_OTHER_DOCUMENT = "expected the publisher's own `_id` to be new, but another document is stored under it"


class MongoSink:
    """Writes entries of one logger into its collection with majority write concern."""

    __slots__ = ("_database", "_found", "_write_timeout", "collection")

    def __init__(
        self,
        database: AsyncDatabase[dict[str, Any]],
        collection: str,
        write_timeout: float,
        found: Callable[[], Awaitable[bytes | None]] | None = None,
    ) -> None:
        self.collection = collection
        self._database = database
        self._write_timeout = write_timeout
        self._found = found

    def begin(self, entries: Sequence[Entry]) -> MongoWriting:
        """See `Sink`. A unique index other than that of `_id` makes a second, different entry a refusal."""
        return MongoWriting(self, entries)

    async def insert(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """Send one command; see `collector.mongodb.calls.insert`. Raises the errors of `found` too."""
        documents = [entry.document for entry in entries]
        uuid = None if self._found is None else await self._found()
        return await insert(self._database, self.collection, documents, self._write_timeout, uuid)

    async def stored(self, entries: Sequence[Entry], since: Any) -> set[bytes]:
        """Read the documents that are stored under the `_id`s of these entries, as bytes. Raises SinkUnavailable.

        `since` is the operation time of a reply: the read sees everything that was stored by then, also on a new
        primary, which could be behind it.
        """
        command = {
            "find": self.collection,
            "filter": {"_id": {"$in": [entry.document["_id"] for entry in entries]}},
            "readConcern": {"level": "majority", **({} if since is None else {"afterClusterTime": since})},
        }
        async with calling(self._write_timeout):
            try:
                database = self._database.with_options(RAW)  # `codec_options` below covers the first batch only
                found = await database.cursor_command(command, codec_options=RAW)
                return {bytes(document.raw) async for document in found}
            except OperationFailure as exc:
                raise SinkUnavailable(describe_failure(exc)) from exc


class MongoWriting:
    """The writing of one batch into a plain collection, by a work list that shrinks with each attempt.

    Besides the errors of `Writing` it raises CollectionChanged when the collection is another one than was inspected.
    """

    def __init__(self, sink: MongoSink, entries: Sequence[Entry]) -> None:
        self.written = Written()
        self._sink = sink
        self._groups = commands(entries)
        self._doubtful: list[Entry] = []
        self._later: list[Entry] = []
        self._why_later = ""
        self._sent: set[int] = set()
        """Entries, by `id()`, that an earlier command of this writing has stored or may have stored."""
        self._since: Any = None

    async def attempt(self) -> None:
        """See `Writing`. An entry that is there after a command with an unknown result counts as stored by it."""
        while self._groups:
            await self._write(self._groups[0])
        if self._doubtful:
            self._compare(await self._sink.stored(self._doubtful, self._since))
        if self._later:
            self._groups, self._later = commands(self._later), []
            raise SinkUnavailable(self._why_later)

    async def _write(self, group: Sequence[Entry]) -> None:
        """Write the first group and replace it by the groups that are left of it."""
        try:
            reply = await self._sink.insert(group)
        except SinkUnavailable as exc:
            if exc.ambiguous:
                self._sent.update(map(id, group))
            raise
        except UNENCODABLE as exc:
            refused, left = without_unencodable(group, exc)
            self.written.refused += refused
            self._groups[:1] = left
            return
        except OperationFailure as exc:
            if is_elsewhere(exc):
                raise CollectionChanged(self._sink.collection) from exc
            if not document_at_fault(exc):
                raise SinkUnavailable(describe_failure(exc)) from exc
            if len(group) == 1:
                self.written.refused.append(refusal_of_command(group[0], exc))
            self._groups[:1] = halves(group) if len(group) > 1 else []
            return
        found = outcomes(group, reply)
        if found.elsewhere:
            raise CollectionChanged(self._sink.collection)
        del self._groups[0]
        self._since = reply.get("operationTime")
        if "writeConcernError" in reply:
            failed = {error["index"] for error in reply.get("writeErrors", ())}
            self._sent.update(id(entry) for index, entry in enumerate(group) if index not in failed)
        self._count(found)

    def _count(self, found: Outcomes) -> None:
        self.written.stored += found.stored
        self._count_there(found.duplicates)
        self.written.refused += found.refused
        self._doubtful += found.doubtful
        self._later += found.later
        self._why_later = found.error or self._why_later

    def _count_there(self, entries: Sequence[Entry]) -> None:
        """Count entries that are there already: by an earlier command of this writing, or by an earlier delivery."""
        ours = sum(id(entry) in self._sent for entry in entries) if self._sent else 0
        self.written.stored += ours
        self.written.duplicates += len(entries) - ours

    def _compare(self, known: set[bytes]) -> None:
        """Count an entry as there when its very document is stored under its `_id`; refuse it when another one is."""
        for entry in self._doubtful:
            if bson.encode({"_id": entry.document["_id"], **entry.document}) in known:
                self._count_there([entry])
            else:
                self.written.refused.append(Refusal(entry, Reason.DUPLICATE_KEY, _OTHER_DOCUMENT))
        self._doubtful = []


def commands(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    """Cut entries into groups that one command may hold."""
    return [entries[start : start + COMMAND_LIMIT] for start in range(0, len(entries), COMMAND_LIMIT)]
