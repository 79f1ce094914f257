"""`Transfer`: declare loggers and publish entries to them, on a connection of its own or of the application."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from nats import errors as nats_errors
from nats.js import errors as js_errors

from transfer.background.process import EXIT_TIMEOUT
from transfer.background.sender import Sender, Stats
from transfer.entries.entry import encode_entry, moment_of, new_id
from transfer.errors import (
    Conflict,
    JetStreamError,
    LoggerNotEmpty,
    Refused,
    TransferError,
    Unavailable,
    UnknownLogger,
    UnknownStream,
    UnreadableSpec,
)
from transfer.jetstream.api import connection_of, server_of
from transfer.jetstream.connection import CONNECT_TIMEOUT, open_connection, pause
from transfer.jetstream.permissions import last_refusal
from transfer.jetstream.streams import (
    StreamState,
    bind_bucket,
    bucket_entries,
    delete_stream,
    ensure_bucket,
    ensure_stream,
    stream_state,
    stream_states,
)
from transfer.names import Names
from transfer.options import Options, SendOptions, read_options
from transfer.publishing import Confirmation, Publication, confirm
from transfer.wire import LoggerSpec, decode_spec, encode_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from datetime import datetime
    from typing import Self, Unpack

    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

Logger: TypeAlias = LoggerSpec
"""The declaration: `Logger("system", description=..., collection=CollectionSpec(...), stream=StreamSpec(...))`."""
_DRAIN_POLL = 0.25


@dataclass(frozen=True, slots=True)
class Found:
    """A logger and its stream, which is None while nobody has made it."""

    logger: Logger
    stream: StreamState | None


class Transfer:
    """The loggers of one namespace. Everything it raises on purpose is a `TransferError`."""

    def __init__(self, jetstream: JetStreamContext, *, namespace: str) -> None:
        self.names = Names(namespace)
        self._jetstream = jetstream
        self._sender: Sender | None = None

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        servers: str | Sequence[str] | None = None,
        *,
        namespace: str | None = None,
        timeout: float = CONNECT_TIMEOUT,
        **options: Unpack[Options],
    ) -> AsyncIterator[Self]:
        """Connect for the length of the block, and again after every loss of the connection.

        Options that are not given come from the environment (NATS_HOSTS, NAMESPACE, NATS_NKEY and so on); one way to
        log in that is given hides all of them there. Raises `WrongSettings`, `Refused`, and `Unavailable` after
        `timeout`.
        Entries of `send` are flushed at the end of the block; see `close`.
        """
        settings, name, queue = read_options(servers, namespace, **options)
        async with open_connection(settings, name="transfer", timeout=timeout) as connection:
            transfer = cls(connection.jetstream(), namespace=name)
            transfer._sender = Sender(settings, name, queue)
            try:
                yield transfer
            finally:
                await transfer.close()

    async def set(self, logger: Logger) -> None:
        """Create the logger or bring it up to date: first its stream, then the KV entry, which is the commit.

        When JetStream refuses the entry, a stream that this call made is deleted again, unless it holds something by
        then. When it does not answer, the entry may be there or not, and the stream stays: call again.
        The durable is left to the collector, Go's or ours, because each needs one of its own kind.
        """
        value = encode_spec(logger)
        bucket = await ensure_bucket(self._jetstream, self.names)
        made = await ensure_stream(self._jetstream, self.names, logger)
        with self._translated(f"setting logger {logger.key!r}"):
            try:
                await bucket.put(logger.key, value)
            except (js_errors.APIError, js_errors.NoStreamResponseError):  # surely not written
                if made and not await self._waiting(logger.key):
                    await delete_stream(self._jetstream, self.names.stream(logger.key))
                raise

    async def update(self, logger: Logger) -> None:
        """Bring a logger up to date; raise `UnknownLogger`, and write nothing, when there is none.

        Raises `Conflict` when somebody else changed the entry meanwhile.
        """
        value = encode_spec(logger)
        bucket, entry = await self._entry(logger.key)
        await ensure_stream(self._jetstream, self.names, logger)
        with self._translated(f"updating logger {logger.key!r}"):
            await bucket.update(logger.key, value, last=entry.revision)

    async def get(self, key: str) -> Found:
        """Return a logger and the state of its stream, or raise `UnknownLogger` or `UnreadableSpec`."""
        _, entry = await self._entry(key)
        return Found(decode_spec(key, entry.value or b""), await self._state(key))

    async def list(self) -> list[Found | UnreadableSpec]:
        """Return all loggers by key; one whose entry cannot be read is there as the error that says why."""
        try:
            bucket = await bind_bucket(self._jetstream, self.names)
        except UnknownStream:
            return []
        with self._translated(f"listing bucket {self.names.bucket!r}"):
            entries = await bucket_entries(self._jetstream, self.names, bucket)
        states = await stream_states(self._jetstream, self.names)
        return [
            self._found(key, entry.value or b"", states) for key, entry in sorted(entries.items()) if entry is not None
        ]

    def _found(self, key: str, value: bytes, states: Mapping[str, StreamState]) -> Found | UnreadableSpec:
        try:
            return Found(decode_spec(key, value), states.get(self.names.stream(key)))
        except UnreadableSpec as unreadable:
            return unreadable
        except ValueError as error:  # InvalidKey: another client's entry under a key that is none of ours
            return UnreadableSpec(key, str(error))

    async def remove(self, key: str, *, drain: bool = False, force: bool = False, timeout: float = 60.0) -> None:
        """Remove the logger: first the KV entry, then stream and durable.

        Refuses with `LoggerNotEmpty` while entries wait in the stream. `drain` gives the collector `timeout` seconds to
        store them, `force` discards them. Entries published at the same time may be lost: stop publishing first.
        """
        bucket, entry = await self._entry(key)
        if not force:
            await self._empty(key, timeout if drain else 0.0)
        with self._translated(f"removing logger {key!r}"):
            await bucket.delete(key)
            waiting = 0 if force else await self._waiting(key)
            if waiting:  # published since we looked: the logger comes back, nothing is lost
                await bucket.put(key, entry.value or b"")
                raise LoggerNotEmpty(key, waiting)
        await delete_stream(self._jetstream, self.names.stream(key))

    async def publish(
        self,
        key: str,
        data: Mapping[str, object],
        *,
        metadata: Mapping[str, object] | None = None,
        timestamp: datetime | int | None = None,
        id: bytes | None = None,  # noqa: A002 - the name it has in the entry
        timeout: float = 5.0,
    ) -> Confirmation:
        """Publish one entry and return when JetStream has it.

        The entry keeps its identity through every attempt within `timeout` seconds, so that it is stored once. An `id`
        that is given may have been sent before, and is published as one that was. `PublishUnconfirmed` says that the
        entry may be stored: publish it again with the error's `id` and `timestamp`. After every other error, such as
        `InvalidEntry` and `UnknownLogger`, it is not stored. After a cancellation it may be.
        """
        subject, stream = self.names.subject(key), self.names.stream(key)
        moment = time.time_ns() if timestamp is None else moment_of(timestamp)
        entry_id = new_id() if id is None else id
        body = encode_entry(data, moment, metadata, entry_id)
        publication = Publication(key, subject, stream, entry_id, body, moment, sent_before=id is not None)
        return await confirm(self._jetstream, publication, timeout)

    def send(self, key: str, data: object, **options: Unpack[SendOptions]) -> None:
        """Queue one entry and return at once; see `Sender.send`. Needs `connect`: it has a connection of its own."""
        self._own_sender.send(key, data, **options)

    async def flush(self, timeout: float | None = None) -> bool:
        """Wait until what was given to `send` until now is confirmed or dropped; return whether it is, in time."""
        return await asyncio.to_thread(self._own_sender.flush, timeout)

    async def close(self, timeout: float = EXIT_TIMEOUT) -> None:
        """Flush, and refuse further `send`s. Entries that are still unconfirmed count as dropped, which is reported."""
        if self._sender is not None:
            await asyncio.to_thread(self._sender.close, timeout)

    def stats(self) -> Stats:
        """Return the counters of what was given to `send`."""
        return self._own_sender.stats()

    @property
    def _own_sender(self) -> Sender:
        if self._sender is None:
            raise TransferError(
                "expected a transfer that was opened by Transfer.connect, got one on a connection of yours"
            )
        return self._sender

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """Turn nats-py's errors into ours, except a missing key, which the caller handles."""
        connection = connection_of(self._jetstream)
        before = connection.last_error
        try:
            yield
        except js_errors.KeyNotFoundError:
            raise
        except js_errors.KeyWrongLastSequenceError as error:
            raise Conflict(f"{doing}: expected nobody else to change it meanwhile, but somebody did") from error
        except js_errors.ServiceUnavailableError as error:
            raise Unavailable(f"{doing}: JetStream answered {error.description}") from error
        except js_errors.APIError as error:
            said = error.description or str(error)
            raise JetStreamError(doing, error.code or 0, error.err_code or 0, said) from error
        except (nats_errors.Error, TimeoutError) as error:
            if connection.last_error is not before and (missing := last_refusal(connection)):
                raise Refused(f"{doing}: {missing}") from error
            raise Unavailable(f"{doing}: expected JetStream to answer, got {error}") from error

    async def _entry(self, key: str) -> tuple[KeyValue, KeyValue.Entry]:
        """Return the bucket and the KV entry of a logger, or raise `InvalidKey` or `UnknownLogger`."""
        self.names.stream(key)
        try:
            bucket = await bind_bucket(self._jetstream, self.names)
            with self._translated(f"reading logger {key!r}"):
                return bucket, await bucket.get(key)
        except (UnknownStream, js_errors.KeyNotFoundError) as error:
            raise UnknownLogger(key, self.names.namespace, server_of(self._jetstream)) from error

    async def _state(self, key: str) -> StreamState | None:
        try:
            return await stream_state(self._jetstream, self.names.stream(key))
        except UnknownStream:
            return None

    async def _waiting(self, key: str) -> int:
        state = await self._state(key)
        return state.messages if state else 0

    async def _empty(self, key: str, timeout: float) -> None:
        """Wait until nothing waits in the stream, or raise `LoggerNotEmpty`."""
        deadline = time.monotonic() + timeout
        while waiting := await self._waiting(key):
            if time.monotonic() >= deadline:
                raise LoggerNotEmpty(key, waiting)
            await pause(_DRAIN_POLL)
