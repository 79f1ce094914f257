"""`TransferSink`: messages of loguru become entries of a logger, in the background."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from transfer.background.source import Emitter
from transfer.entries.fields import add_fields, exception_fields

if TYPE_CHECKING:
    from loguru import Message, Record


class TransferSink(Emitter):
    """Queues messages: `logger.add(TransferSink("system"), format="{message}")`. `logger.remove` closes it."""

    def write(self, message: Message) -> None:
        """Queue a message."""
        record = message.record
        if not self._leaves_out(record["thread"].id, record["process"].id):
            important = record["level"].no >= logging.WARNING
            data = self._fields(message_data, record)
            self._sender.send(self.key, data, timestamp=record["time"], important=important)

    def stop(self) -> None:
        """Close: loguru calls it when the sink is removed, and at the exit of the process."""
        self.close()


def message_data(record: Record) -> dict[str, object]:
    """Return the fields of an entry: `msg`, `level`, `logger`, where it was logged, what was raised, and `extra`."""
    data: dict[str, object] = {
        "msg": record["message"],
        "level": record["level"].name,
        "logger": record["name"],
        "module": record["module"],
        "function": record["function"],
        "line": record["line"],
        "process": record["process"].id,
        "thread": record["thread"].name,
    }
    raised = record["exception"]
    if raised is not None and (exception := exception_fields(tuple(raised))):
        data["exception"] = exception
    add_fields(data, record["extra"])
    return data
