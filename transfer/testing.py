"""For tests of applications: what they would log and publish, without any network.

`RecordingTransfer` stands in for `Transfer` and `RecordingBlockingTransfer` for `BlockingTransfer`; `RecordingHandler`
for `TransferHandler`. What is recorded went through the wire's own encoding: data is what MongoDB would get, and what
the real ones refuse is refused here. The pytest fixture `recording_transfer` gives a `RecordingTransfer`.
"""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from transfer.background.drops import Dropped
from transfer.background.sender import Stats
from transfer.client import Found, Logger
from transfer.entries.entry import encode_entry, moment_of, new_id
from transfer.entries.lenient import encode_anything
from transfer.entries.record import record_data
from transfer.errors import InvalidKey, LoggerNotEmpty, TransferError, UnknownLogger
from transfer.jetstream.streams import StreamState
from transfer.names import Names, check_key
from transfer.publishing import Confirmation
from transfer.wire import decode_spec, encode_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from typing import Self, Unpack

    from transfer.options import PublishOptions, SendOptions


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry as MongoDB would get it."""

    key: str
    data: dict[str, Any]
    timestamp: datetime
    metadata: dict[str, Any] | None
    id: bytes


class Recordings:
    """Entries and loggers, and errors to come."""

    def __init__(self, namespace: str) -> None:
        self.names = Names(namespace)
        self.loggers: dict[str, Logger] = {}
        self.all: list[Recorded] = []
        self.dropped: dict[str, int] = {}
        self.failures: list[TransferError] = []

    def take(self, key: str, body: bytes) -> Recorded:
        """Record the body of a message."""
        entry = msgspec.msgpack.decode(body)
        found = Recorded(key, entry["data"], entry["timestamp"], entry["metadata"], entry["id"])
        self.all.append(found)
        return found

    def of(self, key: str | None) -> list[Recorded]:
        """Return what was recorded for a logger, or for all."""
        return [one for one in self.all if key in {None, one.key}]

    def drop(self, why: Dropped) -> None:
        """Count an entry that the real one would drop."""
        self.dropped[why.value] = self.dropped.get(why.value, 0) + 1

    def raise_next(self) -> None:
        """Raise the next error that was ordered."""
        if self.failures:
            raise self.failures.pop(0)


class _Recording:
    """What the two faces have in common."""

    def __init__(self, *, namespace: str = "test", loggers: tuple[str, ...] = ()) -> None:
        self._recordings = Recordings(namespace)
        self.names = self._recordings.names
        for key in loggers:
            self._recordings.loggers[check_key(key)] = Logger(key)

    def entries(self, key: str | None = None) -> list[Recorded]:
        """Return what was published and sent, in order: for one logger or for all."""
        return self._recordings.of(key)

    def clear(self) -> None:
        """Forget the entries; loggers stay."""
        self._recordings.all.clear()

    def fail(self, *errors: TransferError) -> None:
        """Have the next calls that ask NATS raise these, one after another. `send` never raises."""
        self._recordings.failures += errors

    def send(self, key: str, data: object, **options: Unpack[SendOptions]) -> None:
        """Record an entry as `Sender.send` would send it."""
        try:
            check_key(key)
        except InvalidKey:
            self._recordings.drop(Dropped.INVALID_KEY)
            return
        if key not in self._recordings.loggers:
            self._recordings.drop(Dropped.UNKNOWN_LOGGER)
            return
        timestamp = options.get("timestamp")
        moment = time.time_ns() if timestamp is None else timestamp
        self._recordings.take(key, encode_anything(data, moment, options.get("metadata"), new_id()))

    def stats(self) -> Stats:
        """Return the counters of `send`."""
        recordings = self._recordings
        return Stats(0, 0, len(recordings.all), dict(recordings.dropped), 0, True, "")

    # What both publish and manage, without waiting.

    def _set(self, logger: Logger) -> None:
        decode_spec(logger.key, encode_spec(logger))
        self._recordings.raise_next()
        self._recordings.loggers[logger.key] = logger

    def _update(self, logger: Logger) -> None:
        self._get(logger.key)
        self._recordings.loggers[logger.key] = logger

    def _get(self, key: str) -> Found:
        check_key(key)
        self._recordings.raise_next()
        if key not in self._recordings.loggers:
            raise UnknownLogger(key)
        return Found(self._recordings.loggers[key], self._state(key))

    def _list(self) -> list[Found]:
        self._recordings.raise_next()
        return [Found(logger, self._state(key)) for key, logger in sorted(self._recordings.loggers.items())]

    def _remove(self, key: str, *, drain: bool, force: bool) -> None:
        self._get(key)
        waiting = len(self._recordings.of(key))
        if waiting and not (drain or force):
            raise LoggerNotEmpty(key, waiting)
        del self._recordings.loggers[key]

    def _publish(self, key: str, data: Mapping[str, object], options: PublishOptions) -> Confirmation:
        stream = self.names.stream(key)
        timestamp, entry_id = options.get("timestamp"), options.get("id")
        moment = time.time_ns() if timestamp is None else moment_of(timestamp)
        body = encode_entry(data, moment, options.get("metadata"), new_id() if entry_id is None else entry_id)
        self._get(key)
        known = {one.id for one in self._recordings.of(key)}
        if entry_id is not None and entry_id in known:
            return Confirmation(stream, len(known), entry_id, duplicate=True)
        recorded = self._recordings.take(key, body)
        return Confirmation(stream, len(known) + 1, recorded.id, duplicate=False)

    def _state(self, key: str) -> StreamState:
        found = self._recordings.of(key)
        now = datetime.now(UTC)
        return StreamState(
            created="",
            server_time=now,
            messages=len(found),
            bytes=0,
            first_seq=1,
            last_seq=len(found),
            first_ts=now,
            last_ts=now,
        )


class RecordingTransfer(_Recording):
    """Stands in for `Transfer`. Its loggers are those that were set, or named in `loggers`."""

    @classmethod
    @asynccontextmanager
    async def connect(cls, *_: object, namespace: str = "test", **__: object) -> AsyncIterator[Self]:
        """Give one; what the real one takes is taken, and connects nowhere."""
        yield cls(namespace=namespace)

    async def set(self, logger: Logger) -> None:
        """See `Transfer.set`."""
        self._set(logger)

    async def update(self, logger: Logger) -> None:
        """See `Transfer.update`."""
        self._update(logger)

    async def get(self, key: str) -> Found:
        """See `Transfer.get`; every entry still waits in the stream."""
        return self._get(key)

    async def list(self) -> list[Found]:
        """See `Transfer.list`."""
        return self._list()

    async def remove(self, key: str, *, drain: bool = False, force: bool = False, timeout: float = 60.0) -> None:
        """See `Transfer.remove`; draining takes no time."""
        del timeout
        self._remove(key, drain=drain, force=force)

    async def publish(self, key: str, data: Mapping[str, object], **options: Unpack[PublishOptions]) -> Confirmation:
        """See `Transfer.publish`."""
        return self._publish(key, data, options)

    async def flush(self, timeout: float | None = None) -> bool:
        """Nothing waits."""
        del timeout
        return True

    async def close(self, timeout: float = 0.0) -> None:
        """Nothing is open."""


class RecordingBlockingTransfer(_Recording):
    """Stands in for `BlockingTransfer`."""

    @classmethod
    @contextmanager
    def connect(cls, *_: object, namespace: str = "test", **__: object) -> Iterator[Self]:
        """Give one; what the real one takes is taken, and connects nowhere."""
        yield cls(namespace=namespace)

    def set(self, logger: Logger) -> None:
        """See `Transfer.set`."""
        self._set(logger)

    def update(self, logger: Logger) -> None:
        """See `Transfer.update`."""
        self._update(logger)

    def get(self, key: str) -> Found:
        """See `RecordingTransfer.get`."""
        return self._get(key)

    def list(self) -> list[Found]:
        """See `Transfer.list`."""
        return self._list()

    def remove(self, key: str, *, drain: bool = False, force: bool = False, timeout: float = 60.0) -> None:
        """See `RecordingTransfer.remove`."""
        del timeout
        self._remove(key, drain=drain, force=force)

    def publish(self, key: str, data: Mapping[str, object], **options: Unpack[PublishOptions]) -> Confirmation:
        """See `Transfer.publish`."""
        return self._publish(key, data, options)

    def flush(self, timeout: float | None = None) -> bool:
        """Nothing waits."""
        del timeout
        return True

    def close(self, timeout: float = 0.0) -> None:
        """Nothing is open."""


class RecordingHandler(logging.Handler):
    """Stands in for `TransferHandler`: `data` has the fields of each record's entry, as MongoDB would get them."""

    def __init__(
        self,
        key: str = "test",
        *,
        level: int | str = logging.NOTSET,
        context: Callable[[], Mapping[str, object]] | None = None,
        **_: object,
    ) -> None:
        super().__init__(level)
        self._transfer = RecordingBlockingTransfer(loggers=(key,))
        self._context = context
        self.key = key

    def emit(self, record: logging.LogRecord) -> None:
        """Record the entry of a record."""
        self._transfer.send(self.key, record_data(record, self._context), timestamp=int(record.created * 1e9))

    @property
    def data(self) -> list[dict[str, Any]]:
        """The fields of each entry, in order."""
        return [entry.data for entry in self._transfer.entries(self.key)]
