"""`TransferHandler`: records of the standard library's `logging` become entries of a logger, in the background."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from transfer.background.source import Emitter, Unmapped
from transfer.entries.lenient import safe_repr
from transfer.entries.ordinary import ordinary_entry
from transfer.entries.record import called, record_data
from transfer.system.inside import MAKING, SENDING, Making, is_making

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Unpack

    from transfer.options import Options


class TransferHandler(Emitter, logging.Handler):
    """Queues records and returns at once. It never blocks, unless `overflow` is `block`, and never raises.

    Records that a sending thread of this package logs are left out. `context` returns
    fields that every entry has besides, such as context variables; it is called where the record was made.
    Raises `InvalidKey` and `WrongSettings` when it is made, never later.
    """

    def __init__(
        self,
        key: str,
        *,
        url: str | Sequence[str] | None = None,
        namespace: str | None = None,
        level: int | str = logging.NOTSET,
        context: Callable[[], Mapping[str, object]] | None = None,
        **options: Unpack[Options],
    ) -> None:
        Emitter.__init__(self, key, url=url, namespace=namespace, **options)
        logging.Handler.__init__(self, level)
        self._context = context

    def handle(self, record: logging.LogRecord) -> bool:
        """Queue a record that passes the filters; leave out ours.

        The handler's lock is not taken: a thread that waits for room would hold it, and `dictConfig` and `getLogger`
        wait for it in other threads.
        """
        try:
            is_ours = record.thread in SENDING and record.process in {None, os.getpid()}
        except Exception:  # noqa: BLE001 - a record that was made by hand
            is_ours = False
        # As `_leaves_out` says, without calling it.
        if is_ours or threading.get_ident() in SENDING or (MAKING.get() is not None and is_making()):
            return False
        if not self.filters:
            self.emit(record)
            return True
        kept: object = self.filter(record)
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)  # another one: Python 3.12 and later
        return bool(kept)

    def filter(self, record: logging.LogRecord) -> bool:  # from Python 3.12 on it may be a record too
        """Ask the filters; what they log themselves is left out, and one that fails lets a record pass."""
        if not self.filters:
            return True
        with Making():
            try:
                return super().filter(record)
            except Exception:  # noqa: BLE001 - the application's own: the record counts more
                return True

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record."""
        try:
            moment, important = int(record.created * 1e9), not record.levelno < logging.WARNING
        except Exception:  # noqa: BLE001 - a record that was made by hand
            moment, important = None, True
        if moment is None or getattr(self.map, "__func__", None) is not TransferHandler.map:
            self._emit_mapped(record, self.map, moment, important=important)
            return
        if self._context is None:
            context = None
        elif is_making():
            return
        else:
            context = called(self._context)
        entry = ordinary_entry(record, moment, context)
        if entry is not None:
            self._sender.put(self.key, entry[0], entry[1], important)
        elif context is None:
            self._emit_mapped(record, record_data, moment, important=important)
        else:
            self._emit_mapped(record, lambda record: record_data(record, lambda: context), moment, important=important)

    def _emit_mapped(
        self,
        record: logging.LogRecord,
        mapping: Callable[[logging.LogRecord], dict[str, object]],
        moment: int | None,
        *,
        important: bool,
    ) -> None:
        data = self._fields(mapping, record)
        if isinstance(data, Unmapped):  # of a subclass, or of a record that was made by hand
            known = {"msg": safe_repr(getattr(record, "msg", None)), "level": getattr(record, "levelname", None)}
            data = known | {"logger": getattr(record, "name", None), "mapping_error": data["mapping_error"]}
        self._sender.send(self.key, data, timestamp=moment, important=important)

    def map(self, record: logging.LogRecord) -> dict[str, object]:
        """Return the data of the entry; to be overridden by those who want other fields."""
        return record_data(record, self._context)

    def flush(self) -> None:
        """Let what waits go at once. It does not wait: `logging` holds its lock meanwhile. See `wait`."""
        self._sender.hurry()

    def close(self) -> None:
        """Give up thread and connection once what waits is sent, in the background. The next record begins anew.

        `dictConfig` and many frameworks close handlers that stay attached.
        """
        Emitter.close(self)
        logging.Handler.close(self)
