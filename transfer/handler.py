"""`TransferHandler`: records of the standard library's `logging` become entries of a logger, in the background."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from transfer.names import check_key
from transfer.options import Options, read_options
from transfer.record import record_data
from transfer.sender import Sender, Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Unpack

_OURS = ("transfer", "nats")


class TransferHandler(logging.Handler):
    """Queues records and returns at once. It never blocks, unless `overflow` is `block`, and never raises.

    Records of this package and of NATS's client are left out, and all that its own thread logs. `context` returns
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
        super().__init__(level)
        self.key = check_key(key)
        self._context = context
        self._sender = Sender(*read_options(url, namespace, **options))

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record."""
        if record.name.partition(".")[0] in _OURS or self._sender.is_own_thread(threading.get_ident()):
            return
        try:
            data = self.map(record)
        except Exception as error:  # noqa: BLE001 - `context`, and subclasses of ours
            data = {"msg": str(record.msg), "level": record.levelname, "logger": record.name, "mapping": repr(error)}
        moment = int(record.created * 1e9)
        self._sender.send(self.key, data, timestamp=moment, important=record.levelno >= logging.WARNING)

    def map(self, record: logging.LogRecord) -> dict[str, object]:
        """Return the data of the entry; to be overridden by those who want other fields."""
        return record_data(record, self._context)

    def flush(self) -> None:
        """Let what waits go at once. It does not wait: `logging` holds its lock meanwhile. See `wait`."""
        self._sender.hurry()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all that was logged until now is confirmed or dropped; return whether it is, in time."""
        return self._sender.flush(timeout)

    def close(self) -> None:
        """Take no more; what waits is still sent, in the background and, bounded, at the exit of the process."""
        self._sender.close_when_empty()
        super().close()

    def stats(self) -> Stats:
        """Return the counters of this process."""
        return self._sender.stats()
