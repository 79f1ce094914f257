"""The KV bucket of loggers as a stream of changes: first all that is there, then what happens."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import nats.errors
import nats.js.errors
from anyio import CancelScope

from transfer.errors import Unavailable
from transfer.streams import ensure_bucket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

    from transfer.names import Names

_DELETED = frozenset({"DEL", "PURGE"})


@dataclass(frozen=True, slots=True)
class Put:
    """A logger's value, of an unknown quality."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Gone:
    """A key that was deleted or purged."""

    key: str


@dataclass(frozen=True, slots=True)
class Listed:
    """All that was in the bucket has been said; what follows happens now."""


Change = Put | Gone | Listed


class Watch(Protocol):
    """An open watch."""

    async def next(self) -> Change:
        """Wait for the next change. Raises Unavailable when the watch is dead."""


class Bucket(Protocol):
    """Where the loggers are declared."""

    def watch(self) -> AbstractAsyncContextManager[Watch]:
        """Open a watch that begins with all that is there. Raises Unavailable."""


class KvBucket:
    """The bucket of a namespace in NATS; made as the ancestor makes it when there is none."""

    def __init__(self, jetstream: JetStreamContext, names: Names) -> None:
        self._jetstream = jetstream
        self._names = names

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Watch]:
        """See `Bucket`."""
        try:
            with CancelScope(shield=True):  # bounded by nats-py's own timeout; cut, it leaves a subscription
                bucket = await ensure_bucket(self._jetstream, self._names)
                watcher = await bucket.watchall()
        except (nats.errors.Error, nats.js.errors.Error) as exc:
            bucket_name = self._names.bucket
            raise Unavailable(f"expected to watch bucket {bucket_name}, got {type(exc).__name__}: {exc}") from exc
        try:
            yield _KvWatch(watcher)
        finally:
            with CancelScope(shield=True):
                with suppress(nats.errors.Error):  # the connection is closed, and the watch with it
                    await watcher.stop()


class _KvWatch:
    def __init__(self, watcher: KeyValue.KeyWatcher) -> None:
        self._watcher = watcher

    async def next(self) -> Change:
        while True:
            try:
                update = await self._watcher.updates(timeout=60.0)
            except TimeoutError:
                continue
            except nats.errors.Error as exc:
                raise Unavailable(f"expected changes of the bucket, got {type(exc).__name__}: {exc}") from exc
            if update is None:
                return Listed()
            if update.operation in _DELETED:
                return Gone(update.key)
            return Put(update.key, update.value or b"")
