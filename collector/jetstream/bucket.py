"""The KV bucket of loggers as a stream of changes: first all present keys, then each later change."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import msgspec
import nats.errors
from anyio import CancelScope, sleep

from collector.errors import BucketMissing
from transfer.errors import JetStreamError, Refused, Unavailable, UnknownStream
from transfer.jetstream.api import NANOSECONDS, api_prefix, connection_of, request
from transfer.jetstream.streams import bind_bucket, bucket_entries, ensure_bucket, stream_state, stream_states

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription
    from nats.js import JetStreamContext

    from transfer.jetstream.streams import StreamState
    from transfer.names import Names

_DELETED = frozenset({"DEL", "PURGE"})
_HEARTBEAT = 2.0
_INACTIVE = 5.0
"""Seconds without us after which the server deletes the consumer of a watch."""
_FRESH = 2.0
"""Seconds by which a stream may be older than the bucket: somebody else may begin at the same time as this replica."""
_LIST_AGAIN = 3.0
"""Seconds between two lists where NATS refuses a watch; fewer than the shortest reconcile period."""


@dataclass(frozen=True, slots=True)
class Put:
    """A key with its value, which need not be a logger spec."""

    key: str
    value: bytes
    revision: int = 0
    """The sequence in the bucket's stream: another one after every put."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A key that was deleted or purged."""

    key: str


@dataclass(frozen=True, slots=True)
class Listed:
    """All keys of the bucket have been listed; later changes follow."""


Change = Put | Gone | Listed


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the bucket, up to a revision."""

    created: str
    """The time when the bucket was made, as the server wrote it."""
    last: int = 0
    """The last revision that the bucket has given to a key."""

    def continues(self, before: Life) -> bool:
        """Tell whether it is the same bucket as before, and no older state of it, such as a backup."""
        return self.created == before.created and self.last >= before.last


class Watch(Protocol):
    """An open watch."""

    life: Life
    """The life of the bucket when the watch was opened."""

    async def next(self) -> Change:
        """Wait for the next change. Raises Unavailable when the watch has ended."""


class Bucket(Protocol):
    """Declares the loggers."""

    def watch(self) -> AbstractAsyncContextManager[Watch]:
        """Open a watch that begins with all present keys. Raises BucketMissing, or TransferError."""


class KvBucket:
    """The bucket of a namespace in NATS. A bucket that never existed is made.

    A bucket that has vanished is not made anew: an empty bucket would stop all loggers on all replicas.
    """

    def __init__(self, jetstream: JetStreamContext, names: Names) -> None:
        self._jetstream = jetstream
        self._names = names
        self._seen = False
        self._subject = names.bucket_subject("")

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Watch]:
        """See `Bucket`. The watch deletes its consumer in NATS; NATS deletes it too when this replica is gone.

        When NATS refuses a consumer, for example at the limit of an account, the bucket is listed without one.
        """
        with CancelScope(shield=True):  # each request has a deadline of its own; a cut one may leave a consumer behind
            life = await self._life()
            inbox = await self._listen()
        consumer = ""
        try:
            with CancelScope(shield=True):
                made = await self._made_consumer(inbox.subject)
            if isinstance(made, _Made):
                consumer = made.name
                yield KvWatch(inbox, self._subject, life, made.num_pending)
            else:
                yield ListOnly(await self._listed(), life, made)
        finally:
            with CancelScope(shield=True):
                await self._end(inbox, consumer)

    async def _life(self) -> Life:
        """Return when the bucket was made, after making a missing one. Raises BucketMissing."""
        stream = self._names.bucket_stream
        try:
            state = await stream_state(self._jetstream, stream)
        except UnknownStream:
            await self._make()
            state = await stream_state(self._jetstream, stream)
        self._seen = True
        return Life(state.created, state.last_seq)

    async def _make(self) -> None:
        bucket = self._names.bucket
        if self._seen:
            raise BucketMissing(bucket, "it was there before")
        states = await stream_states(self._jetstream, self._names)
        streams = sorted(name for name, state in states.items() if _age(state) > _FRESH)
        if streams:
            raise BucketMissing(bucket, f"{len(streams)} streams of loggers are there, such as {streams[0]}")
        await ensure_bucket(self._jetstream, self._names)

    async def _listen(self) -> Subscription:
        connection = connection_of(self._jetstream)
        try:
            return await connection.subscribe(connection.new_inbox(), pending_msgs_limit=0, pending_bytes_limit=0)
        except nats.errors.Error as exc:
            raise Unavailable(f"expected to watch bucket {self._names.bucket}, got {_summary_of(exc)}") from exc

    async def _made_consumer(self, inbox: str) -> _Made | JetStreamError | Refused:
        """Make the consumer of a watch, or return why NATS refuses it."""
        try:
            return await self._make_consumer(inbox)
        except UnknownStream:
            raise
        except (JetStreamError, Refused) as refusal:
            return refusal

    async def _make_consumer(self, inbox: str) -> _Made:
        stream = self._names.bucket_stream
        config = {
            "deliver_subject": inbox,
            "deliver_policy": "last_per_subject",
            "filter_subject": self._names.bucket_subjects,
            "ack_policy": "none",
            "max_deliver": 1,
            "idle_heartbeat": int(_HEARTBEAT * NANOSECONDS),
            "inactive_threshold": int(_INACTIVE * NANOSECONDS),
            "mem_storage": True,
            "num_replicas": 1,
        }
        body = {"stream_name": stream, "config": config}
        reply = await request(self._jetstream, f"CONSUMER.CREATE.{stream}", body)
        return msgspec.json.decode(reply, type=_Made)

    async def _listed(self) -> list[Put | Gone]:
        bucket = await bind_bucket(self._jetstream, self._names)
        try:
            found = await bucket_entries(self._jetstream, self._names, bucket)
        except (nats.errors.Error, TimeoutError) as exc:
            raise Unavailable(f"expected to list bucket {self._names.bucket}, got {_summary_of(exc)}") from exc
        return [
            Gone(key) if entry is None else Put(key, entry.value or b"", entry.revision or 0)
            for key, entry in found.items()
        ]

    async def _end(self, inbox: Subscription, consumer: str) -> None:
        """Ask NATS to delete the consumer, and do not wait: without us NATS deletes it soon by itself."""
        connection = connection_of(self._jetstream)
        with suppress(nats.errors.Error):  # the connection is closed, and the watch with it
            await inbox.unsubscribe()
            if consumer:
                delete = f"{api_prefix(self._jetstream)}.CONSUMER.DELETE.{self._names.bucket_stream}.{consumer}"
                await connection.publish(delete, reply=connection.new_inbox())


class _Made(msgspec.Struct):
    name: str
    num_pending: int = 0


class KvWatch:
    """The messages of a consumer of the bucket: the last one of every key, and then each change.

    The list ends when the server's count of pending messages is 0. A heartbeat ends it too, for the counted messages
    may have been purged meanwhile. A gap in the sequence, or silence, ends the watch.
    """

    def __init__(self, inbox: Subscription, prefix: str, life: Life, pending: int) -> None:
        self.life = life
        self._inbox = inbox
        self._prefix = prefix
        self._pending = pending
        self._listed = False
        self._received = 0

    async def next(self) -> Change:
        """Return `Listed` once, as soon as no message of the list is pending; else wait for a message."""
        while self._listed or self._pending:
            if (change := self._read(await self._message())) is not None:
                return change
        self._listed = True
        return Listed()

    async def _message(self) -> Msg:
        try:
            return await self._inbox.next_msg(timeout=2.5 * _HEARTBEAT)
        except (nats.errors.Error, TimeoutError) as exc:
            raise Unavailable(f"expected changes of the bucket or heartbeats, got {_summary_of(exc)}") from exc

    def _read(self, message: Msg) -> Change | None:
        headers = message.headers or {}
        if "Status" in headers:
            self._handle_status(headers)
            return None
        try:
            metadata = message.metadata
        except (ValueError, nats.errors.Error):
            return None  # anybody may publish to an inbox
        self._received += 1
        self._check(metadata.sequence.consumer)
        self._pending = metadata.num_pending
        key = message.subject.removeprefix(self._prefix)
        gone = headers.get("KV-Operation") in _DELETED or "Nats-Marker-Reason" in headers
        return Gone(key) if gone else Put(key, message.data, metadata.sequence.stream)

    def _handle_status(self, headers: Mapping[str, str]) -> None:
        """Take in a heartbeat: no message is pending. Every other status ends the watch."""
        if headers["Status"] != "100":
            raise Unavailable(f"expected changes of the bucket, got {headers['Status']} {headers.get('Description')}")
        self._check(int(headers.get("Nats-Last-Consumer", self._received)))
        self._pending = 0

    def _check(self, sent: int) -> None:
        if sent != self._received:
            raise Unavailable(f"expected all {sent} changes of the bucket, got {self._received}")


class ListOnly:
    """One list of all keys, where NATS refuses a watch; after some seconds the list has to be made again."""

    def __init__(self, listed: list[Put | Gone], life: Life, refusal: JetStreamError | Refused) -> None:
        self.life = life
        self._changes: list[Change] = [Listed(), *reversed(listed)]
        self._refusal = refusal

    async def next(self) -> Change:
        """Return the keys, then `Listed`; after a pause raise Unavailable."""
        if self._changes:
            return self._changes.pop()
        await sleep(_LIST_AGAIN)
        raise Unavailable(f"expected to watch the bucket, got {self._refusal}: it is listed every {_LIST_AGAIN:g} s")


def _age(state: StreamState) -> float:
    """Return the age of a stream in seconds."""
    made = datetime.fromisoformat(f"{state.created[:19]}+00:00")
    return (state.server_time - made).total_seconds()


def _summary_of(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"
