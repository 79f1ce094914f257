"""The KV bucket of loggers as a stream of changes: first all that is there, then what happens."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import nats.errors
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
_IDLE = 60.0
_ON_ITS_WAY = 2.0
"""Seconds in which an entry that the server has sent arrives, or never does: somebody purged it."""


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
        except nats.errors.Error as exc:
            bucket_name = self._names.bucket
            raise Unavailable(f"expected to watch bucket {bucket_name}, got {type(exc).__name__}: {exc}") from exc
        try:
            yield KvWatch(bucket, watcher)
        finally:
            with CancelScope(shield=True):
                with suppress(nats.errors.Error):  # the connection is closed, and the watch with it
                    await watcher.stop()


class KvWatch:
    """nats-py's watch of a bucket, with an end of the list that can be trusted.

    nats-py says the end when the server has nothing more to send and nothing has arrived. What was sent may still be on
    its way, and would come after the end of the list.
    """

    def __init__(self, bucket: KeyValue, watcher: KeyValue.KeyWatcher) -> None:
        self._bucket = bucket
        self._watcher = watcher
        self._arrived = False
        self._early = False
        """nats-py has said the end before anything arrived: it comes behind the entry that no other follows."""
        self._end_next = False

    async def next(self) -> Change:
        """See `Watch`."""
        while not self._end_next:
            try:
                entry = await self._watcher.updates(timeout=_ON_ITS_WAY if self._early else _IDLE)
                if entry is None and not self._arrived and (await self._bucket.status()).values:
                    self._early = True
                    continue
            except nats.errors.TimeoutError:
                self._end_next = self._early and not self._arrived
                continue
            except nats.errors.Error as exc:
                raise Unavailable(f"expected changes of the bucket, got {type(exc).__name__}: {exc}") from exc
            if entry is None:
                return Listed()
            self._arrived = True
            if self._early and not entry.delta:
                self._end_next = True
            return Gone(entry.key) if entry.operation in _DELETED else Put(entry.key, entry.value or b"")
        self._early = self._end_next = False
        return Listed()
