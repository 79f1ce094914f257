"""Keeping what can never be stored: the original bytes and headers, and why, once, in `${key}_fail`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from gridfs.asynchronous import AsyncGridFSBucket
from gridfs.errors import GridFSError
from pymongo.errors import OperationFailure

from collector.codec import headers
from collector.errors import SinkUnavailable
from collector.mongo import calling, insert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bson import ObjectId
    from pymongo.asynchronous.database import AsyncDatabase

    from collector.model import Reject

_DUPLICATE_KEY = 11000
_INLINE = 8 * 1024 * 1024
"""Bytes of body and headers that a letter holds itself; else the body goes to GridFS. A document ends at 16 MiB."""
_FEW_HEADERS = 64 * 1024
"""Bytes of headers that are kept as pairs, each of which costs up to ten times its size; more are kept as one block."""
_PAIRED = 10


class DeadLetters:
    """The dead letters of one logger."""

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

    async def store(self, rejects: Sequence[Reject]) -> None:
        """Store a letter for each, durably, under the entry's identity: a second time changes nothing.

        Raises SinkUnavailable when any of them may not be stored; then call again with the same.
        """
        for group in _groups(rejects):
            await self._insert([await self._letter(reject) for reject in group])

    async def _insert(self, letters: list[dict[str, Any]]) -> None:
        try:
            reply = await insert(self._database, self._collection, letters, self._write_timeout)
        except OperationFailure as exc:
            raise SinkUnavailable(f"MongoDB answered code {exc.code} for a dead letter") from exc
        codes = {error["code"] for error in reply.get("writeErrors", ())} - {_DUPLICATE_KEY}
        if codes:
            raise SinkUnavailable(f"MongoDB refused dead letters of {self._collection} with codes {sorted(codes)}")
        if "writeConcernError" in reply:
            raise SinkUnavailable(f"the write concern was not met for dead letters of {self._collection}")

    async def _letter(self, reject: Reject) -> dict[str, Any]:
        delivery = reject.delivery
        inline = _is_inline(reject)
        return {
            "_id": reject.identity,
            "body": reject.body if inline else None,
            "body_file": None if inline else await self._keep_file(reject),
            "headers": _readable(delivery.raw_headers),
            "reason": reject.reason.value,
            "error": reject.error.encode(errors="backslashreplace").decode(),
            "subject": delivery.subject,
            "stream": delivery.stream,
            "sequence": delivery.sequence,
            "entry": reject.position,
            "deliveries": delivery.num_delivered,
            "published_at": datetime.fromtimestamp(delivery.published_ns / 1e9, UTC),
            "failed_at": datetime.fromtimestamp(self._clock(), UTC),
        }

    async def _keep_file(self, reject: Reject) -> ObjectId:
        """Store the body in GridFS, whole, and return its file; one that is there already is taken.

        Each try has a file of its own: of two replicas that store the same, none can spoil the other's.
        """
        bucket = AsyncGridFSBucket(self._database, bucket_name=self._collection)
        name = str(reject.identity)
        async with calling(self._write_timeout):
            try:
                async for file in bucket.find({"filename": name}, limit=1):
                    return cast("ObjectId", file._id)  # noqa: SLF001 - GridFS calls it so
                return await bucket.upload_from_stream(name, reject.body)
            except (OperationFailure, GridFSError) as exc:
                raise SinkUnavailable(f"{type(exc).__name__} for the file of a dead letter") from exc


def _is_inline(reject: Reject) -> bool:
    return len(reject.body) + len(reject.delivery.raw_headers) <= _INLINE


def _readable(raw_headers: bytes) -> list[list[str | bytes]] | bytes:
    """Return the headers as pairs, in order, or as they came when they are very many."""
    if len(raw_headers) > _FEW_HEADERS:
        return raw_headers[:_INLINE]  # no server that keeps to the limits of NATS lets more through
    return [[_plain(name), _plain(value)] for name, value in headers(raw_headers)]


def _plain(value: str) -> str | bytes:
    """Return a header as the text that it is in UTF-8, else as the bytes that it was."""
    raw = value.encode("latin-1")  # see codec.headers: a character stands for a byte
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _groups(rejects: Sequence[Reject]) -> Iterator[list[Reject]]:
    """Cut into groups that fit into one command."""
    group: list[Reject] = []
    size = 0
    for reject in rejects:
        reject_size = _size(reject)
        if group and size + reject_size > _INLINE:
            yield group
            group, size = [], 0
        group.append(reject)
        size += reject_size
    if group:
        yield group


def _size(reject: Reject) -> int:
    """Return about how many bytes a letter takes."""
    body = len(reject.body) if _is_inline(reject) else 0
    raw = len(reject.delivery.raw_headers)
    return body + len(reject.error) + (raw if raw > _FEW_HEADERS else raw * _PAIRED)
