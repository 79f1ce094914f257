"""`TransferProcessor`: events of structlog become entries of a logger, in the background."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from structlog import DropEvent

from transfer.background.source import Emitter
from transfer.entries.fields import add_fields, exception_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence
    from typing import Unpack

    from transfer.options import Options

_LEVELS = {"warn": "WARNING", "exception": "ERROR", "fatal": "CRITICAL"}
_IMPORTANT = frozenset({"WARNING", "ERROR", "CRITICAL"})
_MAPPED = frozenset({"event", "level", "exc_info"})
_SAME = 60.0
"""Seconds between the time that a processor has put into an event and ours, which says the same."""


class TransferProcessor(Emitter):
    """Queues the event as an entry and, as the last processor of a chain, drops it: nothing is printed.

    With `last=False` it hands the event on unchanged, to a renderer behind it.
    """

    def __init__(
        self,
        key: str,
        *,
        url: str | Sequence[str] | None = None,
        namespace: str | None = None,
        last: bool = True,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(key, url=url, namespace=namespace, **options)
        self._last = last

    def __call__(self, _logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Queue an event. Raises structlog's `DropEvent` when it is the last."""
        if not self._leaves_out():
            data = self._fields(event_data, method, event)
            self._sender.send(self.key, data, important=data.get("level") in _IMPORTANT)
        if self._last:
            raise DropEvent
        return event


def event_data(method: str, event: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of an entry: `msg`, `level`, what was raised, and all other fields of the event.

    Its `timestamp` is left out where the entry's own says the same, as that of structlog's `TimeStamper` does.
    """
    level: Any = event.get("level")
    name: str = level if issubclass(type(level), str) else method
    data: dict[str, object] = {"msg": event.get("event"), "level": _LEVELS.get(name, name.upper())}
    if exception := exception_fields(event.get("exc_info")):
        data["exception"] = exception
    fields = {name: value for name, value in event.items() if name not in _MAPPED}
    if "timestamp" in fields and _is_now(fields["timestamp"]):
        del fields["timestamp"]
    add_fields(data, fields)
    return data


def _is_now(stamp: object) -> bool:
    try:
        seconds = datetime.fromisoformat(stamp).timestamp() if type(stamp) is str else stamp
        return type(seconds) is float and abs(seconds - time.time()) < _SAME
    except (ValueError, OverflowError, OSError):  # no time, or none that this machine has
        return False
