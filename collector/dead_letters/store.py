"""Keeps rejects in `${key}_fail`: the original bytes and headers with the reason, each once.

`redrive.py` describes how letters are published again, and why that is safe with this store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from gridfs.asynchronous import AsyncGridFSBucket
from gridfs.errors import GridFSError
from pymongo.errors import OperationFailure

from collector.dead_letters.letter import FEW_HEADERS, MOST_INLINE, letter_of
from collector.decoding.headers import attempt
from collector.errors import SinkUnavailable
from collector.mongodb.calls import calling, insert
from collector.mongodb.codes import failures
from collector.mongodb.errors import describe_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bson import ObjectId
    from pymongo.asynchronous.database import AsyncDatabase

    from collector.model import Rejected

_PAIRED = 10
_MOST = 500
"""Letters in one command: other loggers wait while they are made and encoded, some 20 ms."""


class DeadLetterStore:
    """The dead letters of one logger."""

    __slots__ = ("_clock", "_collection", "_database", "_write_timeout")

    def __init__(
        self,
        database: AsyncDatabase[dict[str, Any]],
        collection: str,
        write_timeout: float,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._collection = collection
        self._write_timeout = write_timeout
        self._clock = clock

    async def store(self, rejects: Sequence[Rejected]) -> None:
        """Store a letter for each reject, durably, under the entry's identity; storing it again changes nothing.

        The letter of an entry that a redrive has published again replaces the earlier letter. Raises SinkUnavailable
        when a letter may not be stored; then call again with the same rejects.
        """
        for group in _groups(rejects):
            await self._insert([await self._letter(reject) for reject in group])

    async def _insert(self, letters: list[dict[str, Any]]) -> None:
        try:
            reply = await insert(self._database, self._collection, letters, self._write_timeout)
        except OperationFailure as exc:
            raise SinkUnavailable(f"a dead letter was not stored: {describe_failure(exc)}") from exc
        if failed := failures(reply):
            raise SinkUnavailable(f"dead letters were not stored in {self._collection}: {', '.join(failed)}")
        there = [letters[error["index"]] for error in reply.get("writeErrors", ())]
        again = [letter for letter in there if "attempt" in letter]
        if again:
            await self._renew(again)

    async def _renew(self, letters: list[dict[str, Any]]) -> None:
        """Replace the stored letters, each if it is of an earlier attempt.

        Raises SinkUnavailable when a letter is not there any more, because a redrive has just removed it.
        """
        updates = [{"q": {"_id": letter["_id"]}, "u": [_if_older(letter)]} for letter in letters]
        concern = {"w": "majority", "wtimeout": int(self._write_timeout * 1000)}
        async with calling(self._write_timeout):
            try:
                reply = await self._database.command(
                    {"update": self._collection, "updates": updates, "ordered": False, "writeConcern": concern}
                )
            except OperationFailure as exc:
                raise SinkUnavailable(f"a dead letter was not stored: {describe_failure(exc)}") from exc
        if reply["n"] < len(letters) or "writeConcernError" in reply:
            raise SinkUnavailable(f"dead letters of {self._collection} were not replaced")
        for letter in letters:
            if letter["body_file"] is not None:
                await self._remove_older_files(letter)

    async def _remove_older_files(self, letter: dict[str, Any]) -> None:
        bucket = AsyncGridFSBucket(self._database, bucket_name=self._collection)
        older = {"filename": str(letter["_id"]), "metadata.attempt": {"$lt": letter["attempt"]}}
        async with calling(self._write_timeout):
            try:
                async for file in bucket.find(older):
                    await bucket.delete(file._id)  # noqa: SLF001 - GridFS calls it so
            except OperationFailure as exc:
                raise SinkUnavailable(f"the file of a dead letter: {describe_failure(exc)}") from exc
            except GridFSError as exc:
                raise SinkUnavailable(f"{type(exc).__name__} for the file of a dead letter") from exc

    async def _letter(self, reject: Rejected) -> dict[str, Any]:
        letter = letter_of(reject, self._clock())
        if not _is_inline(reject):
            letter |= {"body": None, "body_file": await self._keep_file(reject)}
        return letter

    async def _keep_file(self, reject: Rejected) -> ObjectId:
        """Store the whole body in GridFS, and return its file; a file that is there already is used.

        Each try has a file of its own, so that two replicas that store the same body cannot spoil each other's. Each
        attempt has one too, because a redrive removes the file of the letter that it has published again.
        """
        bucket = AsyncGridFSBucket(self._database, bucket_name=self._collection)
        name, attempted = str(reject.identity), attempt(reject.delivery.raw_headers)
        async with calling(self._write_timeout):
            try:
                async for file in bucket.find({"filename": name, "metadata.attempt": attempted}, limit=1):
                    return cast("ObjectId", file._id)  # noqa: SLF001 - GridFS calls it so
                return await bucket.upload_from_stream(name, reject.body, metadata={"attempt": attempted})
            except OperationFailure as exc:
                raise SinkUnavailable(f"the file of a dead letter: {describe_failure(exc)}") from exc
            except GridFSError as exc:
                raise SinkUnavailable(f"{type(exc).__name__} for the file of a dead letter") from exc


def _if_older(letter: dict[str, Any]) -> dict[str, Any]:
    """Return a stage that replaces a letter of an earlier attempt and leaves any other as it is."""
    older = {"$lt": [{"$ifNull": ["$attempt", 1]}, letter["attempt"]]}
    return {"$replaceWith": {"$cond": [older, {"$literal": letter}, "$$ROOT"]}}


def _is_inline(reject: Rejected) -> bool:
    return len(reject.body) + len(reject.delivery.raw_headers) <= MOST_INLINE


def _groups(rejects: Sequence[Rejected]) -> Iterator[list[Rejected]]:
    """Cut rejects into groups that fit into one command."""
    group: list[Rejected] = []
    size = 0
    for reject in rejects:
        reject_size = _size(reject)
        if len(group) == _MOST or (group and size + reject_size > MOST_INLINE):
            yield group
            group, size = [], 0
        group.append(reject)
        size += reject_size
    if group:
        yield group


def _size(reject: Rejected) -> int:
    """Return the approximate bytes of a letter."""
    body = len(reject.body) if _is_inline(reject) else 0
    raw = len(reject.delivery.raw_headers)
    return body + len(reject.error) + (raw if raw > FEW_HEADERS else raw * _PAIRED)
