"""Lines that Python and its libraries write by themselves, in the form of the service's own log and without values.

The text of an error may quote an entry, so that a line has only its kind and the places in the code that it passed.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from collector.errors import safe_description

if TYPE_CHECKING:
    from types import TracebackType

_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"))


class Others(logging.Handler):
    """Takes the records of all libraries, and the warnings of Python."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the first line of a record: the other lines of asyncio are representations of objects."""
        level = next((name for number, name in _LEVELS if record.levelno >= number), "debug")
        first = record.getMessage().partition("\n")[0]
        facts = _facts(record.exc_info[1]) if record.exc_info and record.exc_info[1] else {}
        getattr(structlog.get_logger(), level)("library", library=record.name, said=first, **facts)


def take_over(*, release: bool) -> None:
    """Have the log write everything that others write to standard error; in readable logs Python shows its errors."""
    root = logging.getLogger()
    if not any(isinstance(handler, Others) for handler in root.handlers):
        root.addHandler(Others(logging.WARNING))
    logging.captureWarnings(capture=True)
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # the service reports its errors as events
    if release:
        sys.excepthook = _uncaught
        sys.unraisablehook = _unraisable
        threading.excepthook = _uncaught_in_thread


def _uncaught(_: type[BaseException], exc: BaseException, __: TracebackType | None) -> None:
    structlog.get_logger().error("uncaught", **_facts(exc), action="ending the process")


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        name = args.thread.name if args.thread else "unknown"
        structlog.get_logger().error("uncaught", thread=name, **_facts(args.exc_value), action="ending the thread")


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    if args.exc_value is not None:
        structlog.get_logger().error("uncaught", **_facts(args.exc_value), action="going on")


def _facts(exc: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(exc.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": safe_description(exc), **({"passed": places} if places else {})}
