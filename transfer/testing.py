"""For tests of applications: they read what would be logged and published, without any network.

`RecordingTransfer` stands in for `Transfer`, `RecordingBlockingTransfer` for `BlockingTransfer`, and `RecordingHandler`
for `TransferHandler`. Each is the real class in front of a recorder in place of JetStream: mapping, encoding, renames,
reasons to drop and errors are those of production. The pytest fixture `recording_transfer` gives a `RecordingTransfer`.
"""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from transfer.background.drops import Dropped
from transfer.background.lane import Limits
from transfer.background.sender import Sender
from transfer.blocking import BlockingTransfer
from transfer.client import Found, Logger, Transfer
from transfer.entries.entry import encode_entry, moment_of, new_id
from transfer.entries.stub import stub_of
from transfer.errors import InvalidEntry, LoggerNotEmpty, TransferError, UnknownLogger
from transfer.handler import TransferHandler
from transfer.jetstream.streams import StreamState
from transfer.names import Names, check_key
from transfer.options import read_options
from transfer.publishing import HEADERS_ROOM, Confirmation, publication_of
from transfer.wire import decode_spec, encode_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
    from typing import Self, Unpack

    from transfer.background.lane import Bundle
    from transfer.errors import UnreadableSpec
    from transfer.nats_settings import NatsSettings
    from transfer.options import Options, QueueSettings

_T = TypeVar("_T")
_NOWHERE = "nats://127.0.0.1:4222"
_NAMESPACE = "test"
_PAYLOAD = 1024 * 1024 - HEADERS_ROOM
"""Bytes of the largest message that a NATS server takes by default."""
_ONE = Limits(bundles=1, entries=1, bytes=_PAYLOAD)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry as MongoDB would get it."""

    key: str
    data: dict[str, Any]
    timestamp: datetime
    metadata: dict[str, Any] | None
    id: bytes


class Recorder:
    """Stands in for JetStream: it has loggers, takes entries, and fails when a test asks for it."""

    def __init__(self, namespace: str, loggers: Sequence[str] = ()) -> None:
        self.names = Names(namespace)
        self.loggers = {check_key(key): Logger(key) for key in loggers}
        self.all: list[Recorded] = []
        self.failures: list[TransferError] = []

    def take(self, key: str, body: bytes) -> Recorded:
        """Record the body of a message with one entry."""
        entry = msgspec.msgpack.decode(body)
        found = Recorded(key, entry["data"], entry["timestamp"], entry["metadata"], entry["id"])
        self.all.append(found)
        return found

    def of(self, key: str | None) -> list[Recorded]:
        """Return the entries of a logger, or of all."""
        return [one for one in self.all if key in {None, one.key}]

    def raise_next(self) -> None:
        """Raise the next error that a test has asked for."""
        if self.failures:
            raise self.failures.pop(0)

    def found(self, key: str) -> Found:
        """Return a logger of which every entry still waits, or raise `UnknownLogger`."""
        if key not in self.loggers:
            raise UnknownLogger(key)
        messages, now = len(self.of(key)), datetime.now(UTC)
        state = StreamState(
            created="",
            server_time=now,
            messages=messages,
            bytes=0,
            first_seq=1,
            last_seq=messages,
            first_ts=now,
            last_ts=now,
        )
        return Found(self.loggers[key], state)


class RecordingSender(Sender):
    """The real `Sender` with its real outbox, which hands each entry to a recorder at once."""

    def __init__(self, settings: NatsSettings, namespace: str, queue: QueueSettings, recorder: Recorder) -> None:
        super().__init__(settings, namespace, queue)
        self._recorder = recorder

    def put(self, key: str, entry_id: bytes, body: bytes, important: bool) -> None:
        """Record an entry."""
        if self._takes(key):
            self._outbox.add(key, entry_id, body, important=important, may_block=False)
        for bundle in self._outbox.take(_ONE):
            self._outbox.finish(bundle, self._record(bundle))
        self._say_new_drops()

    def _record(self, bundle: Bundle) -> Dropped | None:
        """Record the entry of a bundle; return the reason for which JetStream would not take it."""
        key, (entry,) = bundle.lane.key, bundle.entries
        if key not in self._recorder.loggers:
            return Dropped.UNKNOWN_LOGGER
        if len(publication_of(self._recorder.names, key, [entry], compress=True).body) <= _PAYLOAD:
            self._recorder.take(key, entry.body)
            return None
        if stub := stub_of(entry.body):
            self._recorder.take(key, stub)
        return Dropped.TOO_LARGE

    def flush(self, timeout: float | None = None) -> bool:
        """Nothing waits."""
        del timeout
        return True

    @property
    def is_connected(self) -> bool:
        """A recorder is always there."""
        return True


class _Recording:
    """The methods that both faces have for tests."""

    _recorder: Recorder

    def entries(self, key: str | None = None) -> list[Recorded]:
        """Return the entries that were published and sent, in order: of one logger or of all."""
        return self._recorder.of(key)

    def clear(self) -> None:
        """Forget the entries; loggers stay."""
        self._recorder.all.clear()

    def fail(self, *errors: TransferError) -> None:
        """Have the next calls that ask NATS raise these, one after another. `send` never raises."""
        self._recorder.failures += errors


class RecordingTransfer(_Recording, Transfer):
    """Stands in for `Transfer`. Its loggers are those that were set, or named in `loggers`."""

    def __init__(self, *, namespace: str = _NAMESPACE, loggers: Sequence[str] = (), **options: Unpack[Options]) -> None:
        self._recorder = Recorder(namespace, loggers)
        self.names = self._recorder.names
        self._sender = RecordingSender(*read_options(_NOWHERE, namespace, **options), self._recorder)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        servers: str | Sequence[str] | None = None,
        *,
        namespace: str | None = None,
        timeout: float = 0.0,
        **options: Unpack[Options],
    ) -> AsyncIterator[Self]:
        """Give one, with the options of the real one; it connects nowhere."""
        del servers, timeout
        transfer = cls(namespace=_NAMESPACE if namespace is None else namespace, **options)
        try:
            yield transfer
        finally:
            await transfer.close()

    async def set(self, logger: Logger) -> None:
        """See `Transfer.set`."""
        decode_spec(logger.key, encode_spec(logger))
        self._recorder.raise_next()
        self._recorder.loggers[logger.key] = logger

    async def update(self, logger: Logger) -> None:
        """See `Transfer.update`."""
        await self.get(logger.key)
        self._recorder.loggers[logger.key] = logger

    async def get(self, key: str) -> Found:
        """See `Transfer.get`; every entry still waits in the stream."""
        check_key(key)
        self._recorder.raise_next()
        return self._recorder.found(key)

    async def list(self) -> list[Found | UnreadableSpec]:
        """See `Transfer.list`."""
        self._recorder.raise_next()
        return [self._recorder.found(key) for key in sorted(self._recorder.loggers)]

    async def remove(self, key: str, *, drain: bool = False, force: bool = False, timeout: float = 60.0) -> None:
        """See `Transfer.remove`; draining takes no time."""
        del timeout
        await self.get(key)
        waiting = len(self._recorder.of(key))
        if waiting and not (drain or force):
            raise LoggerNotEmpty(key, waiting)
        del self._recorder.loggers[key]

    async def publish(
        self,
        key: str,
        data: Mapping[str, object],
        *,
        metadata: Mapping[str, object] | None = None,
        timestamp: datetime | int | None = None,
        id: bytes | None = None,  # noqa: A002 - as `Transfer.publish` has it
        timeout: float = 5.0,
    ) -> Confirmation:
        """See `Transfer.publish`."""
        del timeout
        stream = self.names.stream(key)
        moment = time.time_ns() if timestamp is None else moment_of(timestamp)
        body = encode_entry(data, moment, metadata, new_id() if id is None else id)
        if len(body) > _PAYLOAD:
            raise InvalidEntry(
                "entry", f"at most {_PAYLOAD} bytes, which is what the server takes", f"{len(body)} bytes"
            )
        await self.get(key)
        known = {one.id for one in self._recorder.of(key)}
        if id is not None and id in known:
            return Confirmation(stream, len(known), id, duplicate=True)
        recorded = self._recorder.take(key, body)
        return Confirmation(stream, len(known) + 1, recorded.id, duplicate=False)

    async def flush(self, timeout: float | None = None) -> bool:
        """Nothing waits."""
        return self._own_sender.flush(timeout)

    async def close(self, timeout: float = 0.0) -> None:
        """Take nothing more, as the real one."""
        self._own_sender.close(timeout)


class RecordingBlockingTransfer(_Recording, BlockingTransfer):
    """Stands in for `BlockingTransfer`."""

    def __init__(self, *, namespace: str = _NAMESPACE, loggers: Sequence[str] = (), **options: Unpack[Options]) -> None:
        self._recording = RecordingTransfer(namespace=namespace, loggers=loggers, **options)
        self._recorder = self._recording._recorder  # noqa: SLF001 - of this file
        self.names = self._recording.names
        super().__init__(self._recording._own_sender, namespace=namespace)  # noqa: SLF001 - of this file

    @classmethod
    @contextmanager
    def connect(
        cls,
        servers: str | Sequence[str] | None = None,
        *,
        namespace: str | None = None,
        timeout: float = 0.0,
        **options: Unpack[Options],
    ) -> Iterator[Self]:
        """See `RecordingTransfer.connect`."""
        del servers, timeout
        transfer = cls(namespace=_NAMESPACE if namespace is None else namespace, **options)
        try:
            yield transfer
        finally:
            transfer.close()

    def _run(self, function: Callable[[Transfer], Coroutine[Any, Any, _T]]) -> _T:
        """Run a coroutine of the recorder, which waits for nothing."""
        try:
            function(self._recording).send(None)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]
        raise TransferError("expected a coroutine that waits for nothing, got one that waits")


class RecordingHandler(TransferHandler):
    """Stands in for `TransferHandler`: `data` has the fields of each record's entry, as MongoDB would get them."""

    def __init__(
        self,
        key: str = "test",
        *,
        url: str | Sequence[str] | None = None,
        namespace: str | None = None,
        level: int | str = logging.NOTSET,
        context: Callable[[], Mapping[str, object]] | None = None,
        **options: Unpack[Options],
    ) -> None:
        namespace = _NAMESPACE if namespace is None else namespace
        super().__init__(key, url=url or _NOWHERE, namespace=namespace, level=level, context=context, **options)
        self._recorder = Recorder(namespace, (key,))
        self._sender = RecordingSender(*read_options(url or _NOWHERE, namespace, **options), self._recorder)

    @property
    def data(self) -> list[dict[str, Any]]:
        """The fields of each entry, in order."""
        return [entry.data for entry in self._recorder.of(self.key)]
