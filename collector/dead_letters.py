"""Keeping what can never be stored: the original bytes and headers, and why, once, in `${key}_fail`."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gridfs.asynchronous import AsyncGridFSBucket
from gridfs.errors import NoFile
from pymongo.errors import OperationFailure

from collector.codec import headers
from collector.errors import SinkUnavailable
from collector.mongo import calling, insert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pymongo.asynchronous.database import AsyncDatabase

    from collector.model import Reject

_DUPLICATE_KEY = 11000
_INLINE = 8 * 1024 * 1024
"""Bytes of a body that a letter holds itself; a larger one goes to GridFS. A document ends at 16 MiB."""


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
        inline = len(reject.body) <= _INLINE
        if not inline:
            await self._keep_file(reject)
        return {
            "_id": reject.identity,
            "body": reject.body if inline else None,
            "body_file": None if inline else reject.identity,
            "headers": [[name, _plain(value)] for name, value in headers(delivery.raw_headers)],
            "reason": reject.reason.value,
            "error": reject.error,
            "subject": delivery.subject,
            "stream": delivery.stream,
            "sequence": delivery.sequence,
            "entry": reject.position,
            "deliveries": delivery.num_delivered,
            "published_at": datetime.fromtimestamp(delivery.published_ns / 1e9, UTC),
            "failed_at": datetime.fromtimestamp(self._clock(), UTC),
        }

    async def _keep_file(self, reject: Reject) -> None:
        """Store the body in GridFS, whole: what an interrupted try left is replaced."""
        bucket = AsyncGridFSBucket(self._database, bucket_name=self._collection)
        async with calling(self._write_timeout):
            with suppress(NoFile):
                await bucket.delete(reject.identity)
            await bucket.upload_from_stream_with_id(reject.identity, str(reject.delivery.sequence), reject.body)


def _plain(value: str) -> str | bytes:
    """Return a header as the text that it is in UTF-8, else as the bytes that it was."""
    raw = value.encode("latin-1")  # see codec.headers: a character stands for a byte
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _groups(rejects: Sequence[Reject]) -> Iterator[list[Reject]]:
    """Cut into groups whose inline bodies fit into one command together."""
    group: list[Reject] = []
    size = 0
    for reject in rejects:
        if group and size + len(reject.body) > _INLINE:
            yield group
            group, size = [], 0
        group.append(reject)
        size += min(len(reject.body), _INLINE)
    if group:
        yield group
