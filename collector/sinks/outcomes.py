"""The outcome of each entry, by MongoDB's reply to an insert command. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import bson
from bson.errors import InvalidDocument
from pymongo.errors import DocumentTooLarge

from collector.model import Entry, Reason, Refusal
from collector.mongodb.codes import (
    DUPLICATE_KEY,
    OF_A_DOCUMENT,
    OF_A_DOCUMENT_IN_A_COMMAND,
    OTHER_COLLECTION,
    TOO_LARGE,
    UNKNOWN_FIELD,
    is_there,
    named,
)
from collector.mongodb.errors import describe_failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymongo.errors import OperationFailure

UNENCODABLE = (OverflowError, InvalidDocument, UnicodeEncodeError, RecursionError, DocumentTooLarge)
"""Errors that pymongo raises for a document before anything is sent."""
MAX_DOCUMENT = 16 * 1024 * 1024
_VALIDATION = 121
_MOST_SAID = 1000
"""Characters that are kept of the server's text about a document."""


@dataclass(slots=True)
class Outcomes:
    """The outcomes of one command: every entry is in exactly one of the first five fields."""

    stored: int = 0
    duplicates: list[Entry] = field(default_factory=list)
    """Their derived `_id` is stored already, so they are written."""
    doubtful: list[Entry] = field(default_factory=list)
    """Their publisher's own `_id` is stored already, which need not be the same entry."""
    refused: list[Refusal] = field(default_factory=list)
    later: list[Entry] = field(default_factory=list)
    """They are not stored durably now, because of the server's state and not of the entries; `error` says why."""
    error: str = ""
    elsewhere: bool = False
    """Whether the collection is another one than was inspected."""


def outcomes(entries: Sequence[Entry], reply: Mapping[str, Any]) -> Outcomes:
    """Read the reply to an unordered insert; without a majority no entry counts as stored.

    An entry is refused only for an error code that is known to speak of a document.
    """
    if "writeErrors" not in reply and "writeConcernError" not in reply:
        return Outcomes(stored=len(entries))
    found = Outcomes()
    failed = {error["index"]: error for error in reply.get("writeErrors", ())}
    for index, error in failed.items():
        _note(found, entries[index], error)
    found.stored = len(entries) - len(failed)
    if "writeConcernError" in reply:
        error = reply["writeConcernError"]
        refused = [refusal for refusal in found.refused if refusal.reason is not Reason.DUPLICATE_KEY]
        gone = {id(refusal.entry) for refusal in refused}
        later = [entry for entry in entries if id(entry) not in gone]
        unmet = f"the write concern was not met: {error.get('codeName', error.get('code'))}"
        return Outcomes(refused=refused, later=later, error=unmet, elsewhere=found.elsewhere)
    return found


def _note(found: Outcomes, entry: Entry, error: Mapping[str, Any]) -> None:
    code = error["code"]
    if is_there(error):
        if entry.own_id:
            found.doubtful.append(entry)
        else:
            found.duplicates.append(entry)
    elif code == DUPLICATE_KEY or code in OF_A_DOCUMENT:
        found.refused.append(Refusal(entry, _reason(code, entry), _refused(error)))
    else:
        found.later.append(entry)
        found.error = f"MongoDB answered {named(code)}"
        found.elsewhere = found.elsewhere or code in OTHER_COLLECTION


def document_at_fault(exc: OperationFailure) -> bool:
    """Tell whether a whole command may have failed because of one document in it."""
    return exc.code in OF_A_DOCUMENT_IN_A_COMMAND


def is_elsewhere(exc: OperationFailure) -> bool:
    """Tell whether a whole command failed because the collection is another one than was inspected."""
    return exc.code in OTHER_COLLECTION or exc.code == UNKNOWN_FIELD


def refusal_of_command(entry: Entry, exc: OperationFailure) -> Refusal:
    """Return the refusal of an entry that was alone in a command which failed as a whole."""
    return Refusal(entry, _reason(exc.code, entry), describe_failure(exc))


def halves(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    """Return two halves to write separately, until the entry that MongoDB refuses is alone in a command."""
    middle = len(entries) // 2
    return [entries[:middle], entries[middle:]]


def without_unencodable(entries: Sequence[Entry], cause: Exception) -> tuple[list[Refusal], list[Sequence[Entry]]]:
    """Return the entries to refuse, and the groups to write instead of a command that could not be encoded.

    Either single entries cannot be encoded, or all of them together are too large for one command.
    """
    guilty = {index: refusal for index, entry in enumerate(entries) if (refusal := _judge(entry)) is not None}
    if not guilty and len(entries) == 1:  # it fits on its own, but not inside an insert command
        guilty[0] = _unencodable(entries[0], cause)
    if not guilty:
        return [], halves(entries)
    good = [entry for index, entry in enumerate(entries) if index not in guilty]
    return list(guilty.values()), [good] if good else []


def _judge(entry: Entry) -> Refusal | None:
    try:
        size = len(bson.encode(entry.document))
    except UNENCODABLE as exc:
        return _unencodable(entry, exc)
    if size > MAX_DOCUMENT:
        return Refusal(entry, Reason.DOCUMENT_TOO_LARGE, _TOO_LARGE_SENTENCE)
    return None


_TOO_LARGE_SENTENCE = "expected a document of at most 16 MiB as BSON, got a larger one"
_EXPECTED: dict[type[Exception], str] = {
    OverflowError: "expected integers of at most 64 bits with a sign",
    InvalidDocument: "expected text keys without NUL and values of BSON types",
    UnicodeEncodeError: "expected text that UTF-8 can hold",
    RecursionError: "expected fewer levels of nesting",
}
_LONGEST_PATH = 200
"""Characters of a field's path in an error; publishers may send names of any length."""


def _unencodable(entry: Entry, exc: Exception) -> Refusal:
    if isinstance(exc, DocumentTooLarge):
        return Refusal(entry, Reason.DOCUMENT_TOO_LARGE, _TOO_LARGE_SENTENCE)
    expected = next(text for kind, text in _EXPECTED.items() if isinstance(exc, kind))
    where = _guilty(entry.document)[:_LONGEST_PATH].encode(errors="backslashreplace").decode()
    return Refusal(entry, Reason.DOCUMENT_INVALID, f"{expected}, at {where}")


def _guilty(value: Any, path: str = "") -> str:
    """Return the path of the field that cannot be encoded."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        try:
            bson.encode({"": child} if not isinstance(key, str) else {key: child})
        except RecursionError:
            return path or "the document"
        except UNENCODABLE:
            return _guilty(child, f"{path}.{key}" if path else str(key))
    return path or "the document"


def _reason(code: int | None, entry: Entry) -> Reason:
    if code == DUPLICATE_KEY:
        return Reason.DUPLICATE_KEY
    # The server's code for a document that is slightly too large is BadValue.
    too_large = code in TOO_LARGE or len(bson.encode(entry.document)) > MAX_DOCUMENT
    return Reason.DOCUMENT_TOO_LARGE if too_large else Reason.DOCUMENT_INVALID


def _refused(error: Mapping[str, Any]) -> str:
    code = error["code"]
    if code == DUPLICATE_KEY:
        index = ", ".join(error.get("keyPattern", ())) or "unknown"
        return f"expected new values in the unique index on {index}, but another document has them"
    if code == _VALIDATION:
        return "expected a document that passes the collection's validator, and it does not"
    return f"MongoDB refused the document, {named(code)}: {str(error.get('errmsg', ''))[:_MOST_SAID]}"
