"""The client of Transfer & Collector: declares loggers and publishes log entries to them.

The public names load on first use, so that `import transfer` costs an application next to nothing until it logs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transfer.background.sender import Stats
    from transfer.blocking import BlockingTransfer
    from transfer.client import Found, Logger, Transfer
    from transfer.entries.entry import new_id
    from transfer.errors import (
        Conflict,
        DurableInUse,
        InvalidEntry,
        InvalidKey,
        InvalidNamespace,
        JetStreamError,
        LoggerNotEmpty,
        PublishUnconfirmed,
        Refused,
        TransferError,
        Unavailable,
        UnknownLogger,
        UnreadableSpec,
        WrongSettings,
    )
    from transfer.handler import TransferHandler
    from transfer.publishing import Confirmation
    from transfer.wire import ArchiveSpec, CollectionSpec, StreamSpec

__all__ = [
    "ArchiveSpec",
    "BlockingTransfer",
    "CollectionSpec",
    "Confirmation",
    "Conflict",
    "DurableInUse",
    "Found",
    "InvalidEntry",
    "InvalidKey",
    "InvalidNamespace",
    "JetStreamError",
    "Logger",
    "LoggerNotEmpty",
    "PublishUnconfirmed",
    "Refused",
    "Stats",
    "StreamSpec",
    "Transfer",
    "TransferError",
    "TransferHandler",
    "Unavailable",
    "UnknownLogger",
    "UnreadableSpec",
    "WrongSettings",
    "new_id",
]

_ELSEWHERE = dict.fromkeys(("Found", "Logger", "Transfer"), "transfer.client")
_ELSEWHERE |= {
    "BlockingTransfer": "transfer.blocking",
    "TransferHandler": "transfer.handler",
    "Confirmation": "transfer.publishing",
    "Stats": "transfer.background.sender",
    "new_id": "transfer.entries.entry",
}
_ELSEWHERE |= dict.fromkeys(("ArchiveSpec", "CollectionSpec", "StreamSpec"), "transfer.wire")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_ELSEWHERE.get(name, "transfer.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
