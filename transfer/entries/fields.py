"""The fields of an entry that was logged, whichever library logged it. Nothing here raises."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

from transfer.entries.lenient import safe_name, safe_text

if TYPE_CHECKING:
    from collections.abc import Mapping

OF_THE_DOCUMENT = frozenset({"_id", "timestamp", "metadata"})
"""Fields that every document has of its own: the application's would be lost, or taken for the entry's identity."""


def add_fields(data: dict[str, object], more: Mapping[str, object]) -> None:
    """Put the application's fields beside ours; one whose name is taken, by the document too, gets `_` behind it."""
    for given, value in more.items():
        name = given if type(given) is str else safe_name(given)
        while name in data or name in OF_THE_DOCUMENT:
            name += "_"
        data[name] = value


def exception_fields(exc_info: object) -> dict[str, object] | None:
    """Return type, message and stack of what may be given as `exc_info`: an exception, its triple, or True."""
    raised = _triple(exc_info)
    if raised is None:
        return None
    kind, error = raised[:2]
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {"type": name, "message": _said(error), "stack": _stack(*raised)}


def _triple(exc_info: object) -> tuple[type, object, object] | None:
    if not issubclass(type(exc_info), (BaseException, int, tuple)):  # not `isinstance`: a proxy may raise at it
        return None
    if isinstance(exc_info, BaseException):
        return type(exc_info), exc_info, exc_info.__traceback__
    if isinstance(exc_info, int) and exc_info:
        exc_info = sys.exc_info()
    if isinstance(exc_info, tuple) and len(exc_info) == 3 and isinstance(exc_info[0], type):
        return exc_info
    return None


def _said(error: object) -> str:
    try:
        return "" if error is None else safe_text(str(error))
    except Exception as failure:  # noqa: BLE001 - exceptions of the application say how they are shown
        return f"<{type(error).__name__} whose str failed: {type(failure).__name__}>"


def _stack(kind: type, error: object, where: object) -> str:
    try:
        return "".join(traceback.format_exception(kind, error, where))  # type: ignore[call-overload]
    except Exception as failure:  # noqa: BLE001 - as above
        return f"<stack that could not be formatted: {type(failure).__name__}>"
