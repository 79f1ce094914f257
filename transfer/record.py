"""A record of the standard library's `logging` -> the data of an entry."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

from transfer.lenient import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Context = "Callable[[], Mapping[str, object]]"
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""What every record has; everything else came with `extra`."""


def record_data(
    record: logging.LogRecord, context: Callable[[], Mapping[str, object]] | None = None
) -> dict[str, object]:
    """Return the fields of an entry: `msg`, `level`, `logger`, where it was logged, what was raised, and `extra`.

    Where names clash, what the application gave with `extra` stays beside ours, with `_` behind its name. A message
    that cannot be formatted is its template; `template` and `args` are there when there are args.
    """
    data: dict[str, object] = {
        "msg": _message(record),
        "level": record.levelname,
        "logger": record.name,
        "module": record.module,
        "function": record.funcName,
        "line": record.lineno,
        "process": record.process,
        "thread": record.threadName,
    }
    if record.args:
        data["template"] = record.msg
        data["args"] = list(record.args) if isinstance(record.args, tuple) else record.args
    kind, error, where = record.exc_info or (None, None, None)
    if kind is not None:
        data["exception"] = {
            "type": f"{kind.__module__}.{kind.__qualname__}",
            "message": safe_repr(str(error)) if error is not None else "",
            "stack": _stack(record, traceback.format_exception, kind, error, where),
        }
    if record.stack_info:
        data["stack"] = record.stack_info
    more = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
    if context is not None:
        more = {**context(), **more}
    for name, value in more.items():
        data[f"{name}_" if name in data else name] = value
    return data


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not go with the template, or cannot be formatted
        return safe_repr(record.msg)


def _stack(record: logging.LogRecord, format_exception: Callable[..., list[str]], *raised: object) -> str:
    try:
        return record.exc_text or "".join(format_exception(*raised))
    except Exception as error:  # noqa: BLE001 - exceptions of the application say how they are shown
        return f"<stack that could not be formatted: {type(error).__name__}>"
