"""Error codes of MongoDB: a closed list of those that blame a document.

Every other code blames the collection, the user or the server: a view, a quota, a missing privilege, a full disk. Then
the write is tried again for as long as it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DUPLICATE_KEY = 11000
"""Blames a document, unless the entry's own `_id` is stored already: see `is_there`."""
OTHER_COLLECTION = frozenset({166, 361})
"""CommandNotSupportedOnView, CollectionUUIDMismatch: the collection is another one than was inspected."""
UNKNOWN_FIELD = 40415
"""IDLUnknownField: the server does not accept a UUID in an insert."""
TOO_LARGE = frozenset({10334, 17419, 17420})

# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_NAMED = {
    2: "BadValue",
    9: "FailedToParse",
    14: "TypeMismatch",
    15: "Overflow",
    16: "InvalidLength",
    22: "InvalidBSON",
    52: "DollarPrefixedFieldName",
    53: "InvalidIdField",
    54: "NotSingleValueField",
    55: "InvalidDBRef",
    56: "EmptyFieldName",
    57: "DottedFieldName",
    61: "ShardKeyNotFound",
    111: "NotExactValueField",
    116: "DocTooLargeForCapped",
    121: "DocumentValidationFailure",
    171: "CannotIndexParallelArrays",
    201: "CannotBuildIndexKeys",
    357: "InvalidBSONType",
    378: "NonConformantBSON",
    388: "TransactionTooLargeForCache",
    10003: "CannotGrowDocumentInCappedNamespace",
    10334: "BSONObjectTooLarge",
    17280: "KeyTooLong",
}
# Assertions have numbers and no names. Those about indexes are the list of errors that mongod itself ignores while it
# builds an index (index_access_method.cpp, getKeys), and newer ones of the same kind.
_ASSERTED = {
    **dict.fromkeys((13026, 13027, 13067, 13068, 16804), "a value that a 2d index cannot hold"),
    **dict.fromkeys((16755, 16756, 183493, 183934), "a value that a 2dsphere index cannot hold"),
    **dict.fromkeys((16675, 16732, 16733, 17261, 17262), "a value that a text index cannot hold"),
    **dict.fromkeys((16775, 16776), "a value that a haystack index cannot hold"),
    16746: "a field name in an array that an index takes for a position",
    16766: "an array where an index is hashed",
    5930501: "an array in an indexed measurement",
    5743702: "no date in the time field",
    5894900: "an _id that is too large",
    17419: "a document that is too large",
    17420: "a document that is too large",
}
OF_A_DOCUMENT: Mapping[int, str] = {**_NAMED, **_ASSERTED}
"""Codes that blame a document when they are the error of that document in a reply."""
OF_A_DOCUMENT_IN_A_COMMAND = OF_A_DOCUMENT.keys() - {2, 9, 14}
"""Codes that blame a document when they are the error of a whole command. General ones such as BadValue do not."""

_OTHERS = {
    1: "InternalError",
    6: "HostUnreachable",
    8: "UnknownError",
    13: "Unauthorized",
    24: "LockTimeout",
    26: "NamespaceNotFound",
    50: "MaxTimeMSExpired",
    64: "WriteConcernFailed",
    89: "NetworkTimeout",
    91: "ShutdownInProgress",
    112: "WriteConflict",
    117: "ConflictingOperationInProgress",
    146: "ExceededMemoryLimit",
    166: "CommandNotSupportedOnView, as a view stands under the collection's name",
    189: "PrimarySteppedDown",
    215: "DatabaseDropPending",
    262: "ExceededTimeLimit",
    361: "CollectionUUIDMismatch, as the collection was dropped or is another one",
    365: "TemporarilyUnavailable",
    371: "UserWritesBlocked, which setUserWriteBlockMode ends",
    8000: "AtlasError, such as a quota that is used up",
    10107: "NotWritablePrimary",
    11600: "InterruptedAtShutdown",
    11602: "InterruptedDueToReplStateChange",
    13388: "StaleConfig",
    14031: "OutOfDiskSpace",
    16500: "TooManyRequests",
}


def named(code: int | None, name: str = "") -> str:
    """Return a code with its name, if one is known; the server sends no name in the error of one document."""
    known = _OTHERS.get(code or 0) or OF_A_DOCUMENT.get(code or 0) or name
    return f"{known} (code {code})" if known else f"code {code}"


def is_there(error: Mapping[str, Any]) -> bool:
    """Tell whether a write error says that the `_id` is stored already, and not a value of another unique index."""
    return error["code"] == DUPLICATE_KEY and list(error.get("keyPattern", ())) == ["_id"]


def failures(reply: Mapping[str, Any]) -> list[str]:
    """Return the failures in a reply, by name; an `_id` that is stored already counts as stored."""
    codes = {error["code"] for error in reply.get("writeErrors", ()) if not is_there(error)}
    unmet = "writeConcernError" in reply
    return [*(named(code) for code in sorted(codes)), *(["the write concern was not met"] if unmet else [])]
