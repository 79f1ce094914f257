"""A record of the standard library's `logging` -> the data of an entry."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from transfer.entries.fields import add_fields, exception_fields
from transfer.entries.lenient import once, safe_repr
from transfer.entries.plain import SIMPLE
from transfer.system.inside import Making

if TYPE_CHECKING:
    from collections.abc import Callable

ATTRIBUTES = tuple(logging.LogRecord("", 0, "", 0, "", (), None).__dict__)
"""The attributes of every record, in their order."""
STANDARD = frozenset(ATTRIBUTES) | {"message", "asctime", "taskName"}
"""With those that formatters add; all others came with `extra`."""
_get_message = logging.LogRecord.getMessage


def record_data(
    record: logging.LogRecord, context: Callable[[], Mapping[str, object]] | None = None
) -> dict[str, object]:
    """Return the fields of an entry: `msg`, `level`, `logger`, where it was logged, what was raised, and `extra`.

    A message that is a mapping is its fields, beside ours as those of `extra` are; only its `msg` stands as ours does.
    A message that cannot be formatted is its template; `template` and `args` are there when there are args. Behind
    them stand the fields of `context` and, before one of them with the same name, those of `extra`. Never raises.
    """
    template: object = record.msg
    args: object = record.args
    if args and not _is_simple(args) and type(record).getMessage is _get_message:
        template, args = once(template), once(args)
    message, fields = _message(record, template, args)
    data: dict[str, object] = {} if message is None else {"msg": message}
    data |= {
        "level": record.levelname,
        "logger": record.name,
        "module": record.module,
        "function": record.funcName,
        "line": record.lineno,
        "process": record.process,
        "thread": record.threadName,
    }
    if args and isinstance(args, tuple):
        data |= {"template": template, "args": list(args)}
    elif args and isinstance(args, Mapping):
        data |= {"template": template, "args": args}
    if exception := exception_fields(record.exc_info):
        data["exception"] = exception
    elif record.exc_text:  # of a record that came from another process, or through a queue
        data["exception"] = {"stack": record.exc_text}
    if record.stack_info:
        data["stack"] = record.stack_info
    if fields:
        add_fields(data, fields)
    extra = extra_of(record)
    add_fields(data, extra if context is None else {**called(context), **extra})
    return data


def extra_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields that came with `extra`."""
    fields = record.__dict__
    names = tuple(fields)
    if names == ATTRIBUTES:
        return {}
    if names[: len(ATTRIBUTES)] == ATTRIBUTES:
        names = names[len(ATTRIBUTES) :]
    return {name: fields[name] for name in names if name not in STANDARD}


def _is_simple(args: object) -> bool:
    """Return whether the text of all args costs nothing, as it mostly does."""
    return type(args) is tuple and SIMPLE.issuperset(map(type, args))


def _message(record: logging.LogRecord, template: object, args: object) -> tuple[object, dict[str, object]]:
    """Return the message, None when it has none, and the fields that it is besides."""
    try:
        if not args and isinstance(template, Mapping) and (fields := dict(template)):
            return fields.pop("msg", None), fields
        return (record.getMessage() if args is record.args else str(template) % args), {}
    except Exception:  # noqa: BLE001 - arguments that do not go with the template, or cannot be formatted
        return safe_repr(template), {}


def called(context: Callable[[], Mapping[str, object]]) -> dict[str, object]:
    """Return the fields that a function of the application gives; of one that fails, the reason."""
    with Making():
        try:
            return dict(context())
        except Exception as error:  # noqa: BLE001 - the record counts more
            return {"context_error": safe_repr(error)}
