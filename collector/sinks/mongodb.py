"""Writing entries into one MongoDB collection: one unordered insert command a batch, one outcome for each entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bson
from bson.codec_options import CodecOptions
from bson.errors import InvalidDocument
from bson.raw_bson import RawBSONDocument
from pymongo.errors import DocumentTooLarge, OperationFailure

from collector.errors import SinkUnavailable
from collector.model import Entry, Reason, Refusal
from collector.mongo import calling, insert
from collector.sinks import Written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymongo.asynchronous.database import AsyncDatabase

_DUPLICATE_KEY = 11000
_VALIDATION = 121
_TOO_LARGE = frozenset({10334, 17419, 17420})
_COMMAND_LIMIT = 10_000
"""Entries in one command; the server's own limit is 100,000."""
_UNENCODABLE = (OverflowError, InvalidDocument, UnicodeEncodeError, RecursionError, DocumentTooLarge)
"""What pymongo raises for a document, before anything is sent."""
# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_LATER = frozenset(
    {6, 7, 24, 46, 50, 63, 64, 79, 89, 91, 100, 112, 133, 134, 150, 189, 202, 211, 215, 216, 234, 246, 249, 262, 290}
    | {317, 342, 343, 355, 365, 371, 384, 402, 433, 449}
    | {9001, 10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031}
)
"""Write errors of one document that say nothing about the document."""
_DOCUMENT_AT_FAULT = frozenset({2, 9, 14, 15, 22, 52, 54, 55, 56, 57, 10334, 17419, 17420, 17280})
"""Errors of a whole command that a document in it can cause: BadValue, FailedToParse, TypeMismatch, Overflow (nested
too deep), InvalidBSON, field names, size."""
_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


class MongoSink:
    """Writes entries of one logger into its collection with majority write concern."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], collection: str, write_timeout: float) -> None:
        self._database = database
        self._collection = collection
        self._write_timeout = write_timeout

    async def write(self, entries: Sequence[Entry]) -> Written:
        """See `Sink`. A unique index other than that of `_id` makes a second, different entry a refusal."""
        total = Written()
        for start in range(0, len(entries), _COMMAND_LIMIT):
            total.add(await self._write(entries[start : start + _COMMAND_LIMIT]))
        return total

    async def _write(self, entries: Sequence[Entry]) -> Written:
        try:
            reply = await insert(
                self._database, self._collection, [entry.document for entry in entries], self._write_timeout
            )
        except _UNENCODABLE as exc:
            return await self._without_unencodable(entries, exc)
        except OperationFailure as exc:
            if exc.code not in _DOCUMENT_AT_FAULT:
                raise SinkUnavailable(_said(exc)) from exc
            if len(entries) == 1:
                return Written(refused=[Refusal(entries[0], _reason(exc.code, entries[0]), _said(exc))])
            return await self._halves(entries)
        if "writeErrors" not in reply and "writeConcernError" not in reply:
            return Written(stored=len(entries))
        return await self._outcomes(entries, reply)

    async def _halves(self, entries: Sequence[Entry]) -> Written:
        """Write the halves on their own, until the guilty entry stands alone."""
        middle = len(entries) // 2
        total = await self._write(entries[:middle])
        total.add(await self._write(entries[middle:]))
        return total

    async def _without_unencodable(self, entries: Sequence[Entry], cause: Exception) -> Written:
        """Nothing was sent, because of one entry or because all together are too large for a command."""
        guilty = {index: refusal for index, entry in enumerate(entries) if (refusal := self._judge(entry)) is not None}
        if not guilty and len(entries) == 1:  # it can be encoded alone, and not with the command around it
            guilty[0] = _unencodable(entries[0], cause)
        if not guilty:
            return await self._halves(entries)
        total = Written(refused=list(guilty.values()))
        good = [entry for index, entry in enumerate(entries) if index not in guilty]
        if good:
            total.add(await self._write(good))
        return total

    def _judge(self, entry: Entry) -> Refusal | None:
        try:
            size = len(bson.encode(entry.document))
        except _UNENCODABLE as exc:
            return _unencodable(entry, exc)
        if size > _MAX_DOCUMENT:
            return Refusal(entry, Reason.DOCUMENT_TOO_LARGE, _TOO_LARGE_SENTENCE)
        return None

    async def _outcomes(self, entries: Sequence[Entry], reply: Mapping[str, Any]) -> Written:
        written = Written()
        failed: set[int] = set()
        doubtful: dict[int, Mapping[str, Any]] = {}
        for error in reply.get("writeErrors", ()):
            index, code = error["index"], error["code"]
            failed.add(index)
            if code == _DUPLICATE_KEY and _of_identity(error):
                if entries[index].own_id:
                    doubtful[index] = error
                else:
                    written.duplicates += 1
            elif code in _LATER:
                written.again.append(entries[index])
                written.error = f"MongoDB answered write error {code}"
            else:
                written.refused.append(Refusal(entries[index], _reason(code, entries[index]), _refused(error)))
        written.stored = len(entries) - len(failed)
        if doubtful:
            written.add(await self._compare([entries[index] for index in doubtful]))
        if "writeConcernError" in reply:
            return self._not_durable(entries, written, reply["writeConcernError"])
        return written

    def _not_durable(self, entries: Sequence[Entry], written: Written, error: Mapping[str, Any]) -> Written:
        """Without a majority nothing counts as stored: all but the refused are written again."""
        refused = {id(refusal.entry) for refusal in written.refused}
        again = [entry for entry in entries if id(entry) not in refused]
        said = f"the write concern was not met: {error.get('codeName', error.get('code'))}"
        return Written(refused=written.refused, again=again, error=said)

    async def _compare(self, entries: list[Entry]) -> Written:
        """Look at what is stored under publishers' own `_id`s: the same document is a duplicate."""
        written, known = Written(), await self._stored(entries)
        for entry in entries:
            identity_first = {"_id": entry.document["_id"], **entry.document}
            if bson.encode(identity_first) in known:
                written.duplicates += 1
            else:
                written.refused.append(Refusal(entry, Reason.DUPLICATE_KEY, _OTHER_DOCUMENT))
        return written

    async def _stored(self, entries: list[Entry]) -> set[bytes]:
        """Read the documents that are stored under the `_id`s of these entries, as bytes."""
        collection = self._database.with_options(_RAW).get_collection(self._collection)
        query = {"_id": {"$in": [entry.document["_id"] for entry in entries]}}
        async with calling(self._write_timeout):
            try:
                return {bytes(found.raw) async for found in collection.find(query)}
            except OperationFailure as exc:
                raise SinkUnavailable(_said(exc)) from exc


_MAX_DOCUMENT = 16 * 1024 * 1024
_TOO_LARGE_SENTENCE = "expected a document of at most 16 MiB as BSON, got a larger one"
_OTHER_DOCUMENT = "expected the publisher's own `_id` to be new, but another document is stored under it"
_EXPECTED: dict[type[Exception], str] = {
    OverflowError: "expected integers of at most 64 bits with a sign",
    InvalidDocument: "expected text keys without NUL and values of BSON types",
    UnicodeEncodeError: "expected text that UTF-8 can hold",
    RecursionError: "expected fewer levels of nesting",
}
_LONGEST_PATH = 200
"""Letters of the name of a field in a sentence about it; publishers make names of any length."""


def _unencodable(entry: Entry, exc: Exception) -> Refusal:
    if isinstance(exc, DocumentTooLarge):
        return Refusal(entry, Reason.DOCUMENT_TOO_LARGE, _TOO_LARGE_SENTENCE)
    expected = next(text for kind, text in _EXPECTED.items() if isinstance(exc, kind))
    where = _guilty(entry.document)[:_LONGEST_PATH].encode(errors="backslashreplace").decode()
    return Refusal(entry, Reason.DOCUMENT_INVALID, f"{expected}, at {where}")


def _guilty(value: Any, path: str = "") -> str:
    """Name the field that cannot be encoded, as far down as only one is to blame."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        try:
            bson.encode({"": child} if not isinstance(key, str) else {key: child})
        except RecursionError:
            return path or "the document"
        except _UNENCODABLE:
            return _guilty(child, f"{path}.{key}" if path else str(key))
    return path or "the document"


def _of_identity(error: Mapping[str, Any]) -> bool:
    return list(error.get("keyPattern", ())) == ["_id"]


def _reason(code: int | None, entry: Entry) -> Reason:
    if code == _DUPLICATE_KEY:
        return Reason.DUPLICATE_KEY
    # For a document slightly too large the server's code is BadValue.
    too_large = code in _TOO_LARGE or len(bson.encode(entry.document)) > _MAX_DOCUMENT
    return Reason.DOCUMENT_TOO_LARGE if too_large else Reason.DOCUMENT_INVALID


def _refused(error: Mapping[str, Any]) -> str:
    if error["code"] == _DUPLICATE_KEY:
        index = ", ".join(error.get("keyPattern", ())) or "unknown"
        return f"expected new values in the unique index on {index}, but another document has them"
    if error["code"] == _VALIDATION:
        return "expected a document that passes the collection's validator, and it does not"
    return f"MongoDB refused the document with code {error['code']}: {error.get('errmsg', '')}"


def _said(exc: OperationFailure) -> str:
    """Name what the server answered, without its text: that may quote the whole command, documents included."""
    name = (exc.details or {}).get("codeName", "no name")
    return f"MongoDB answered {name} (code {exc.code})"
