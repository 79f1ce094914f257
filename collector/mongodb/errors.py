"""Errors of MongoDB as sentences that may be logged: the server's own text may quote documents of a command."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from collector.mongodb.codes import named

if TYPE_CHECKING:
    from pymongo.errors import OperationFailure

_UNAUTHORIZED = 13
_NO_USER = "requires authentication"
_COMMAND = re.compile(r'not authorized on (\w[\w-]*) to execute command \{ (\w+): (?:"([\w.-]+)"|1[,. ])')


def describe_failure(exc: OperationFailure) -> str:
    """Return the server's error by name and code; where a privilege is missing, also the command and its collection."""
    details = exc.details or {}
    answered = f"MongoDB answered {named(exc.code, str(details.get('codeName', '')))}"
    return answered if exc.code != _UNAUTHORIZED else f"{answered}: {_missing(str(details.get('errmsg', '')))}"


def without_user(exc: OperationFailure) -> bool:
    """Tell whether the server knows no user of the connection: there is no login, or the user was removed since."""
    return exc.code == _UNAUTHORIZED and _NO_USER in str((exc.details or {}).get("errmsg", ""))


def _missing(message: str) -> str:
    if _NO_USER in message:
        return "the DATABASE that is set has no user"
    found = _COMMAND.match(message)
    if found is None:
        return "its user lacks a privilege"
    database, command, collection = found.groups()
    return f"its user may not {command} on {database}{'.' if collection else ''}{collection or ''}"
