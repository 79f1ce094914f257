"""Reads the facts of NATS for `collector check`, over the same connection as the service, and changes nothing."""

from __future__ import annotations

import time
from datetime import datetime  # noqa: TC003 - msgspec reads it when it runs
from typing import TYPE_CHECKING, Any

import msgspec
from anyio import CancelScope, move_on_after

from collector.check.clock import ahead
from collector.check.facts import LoggerFacts, Nats, Stream
from collector.events import Event, Failed
from collector.events.lifecycle import ConnectionChanged
from collector.jetstream.bucket import KvBucket, Listed, Put
from collector.jetstream.connection import close, connect
from collector.jetstream.priorities import Priorities
from transfer.errors import Refused, TransferError, UnknownDurable, UnknownStream, UnreadableSpec
from transfer.jetstream.api import request
from transfer.jetstream.configurations import StreamConfig  # noqa: TC001 - msgspec reads it when it runs
from transfer.jetstream.durables import durable_info
from transfer.jetstream.streams import stream_state, stream_states
from transfer.names import Names, check_key
from transfer.nats_settings import without_userinfo
from transfer.wire import decode_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from collector.jetstream.connection import NatsConnection
    from transfer.jetstream.configurations import DurableInfo
    from transfer.nats_settings import NatsSettings

CONNECT_TIMEOUT = 5.0
_NOBODY = "collector-check"
"""The name of a stream and a durable that do not exist: a request to them has no effect, and shows the permission."""
_NO_JSON = b"?"
"""A body that JetStream refuses in every request."""


class _Trouble:
    """The errors of a connection; when there is one for each server, the wait for the connection ends."""

    def __init__(self, servers: int) -> None:
        self.heard: list[str] = []
        self.waiting = CancelScope()
        self._servers = servers

    def observe(self, event: Event) -> None:
        if isinstance(event, Failed) or (isinstance(event, ConnectionChanged) and not event.connected):
            self.heard.append(event.error if isinstance(event, Failed) else event.why)
            if len(self.heard) >= self._servers:
                self.waiting.cancel()


async def read_nats(settings: NatsSettings, names: Names) -> Nats:
    """Connect once and read all facts; a failure is a fact and not an error."""
    hosts = ", ".join(without_userinfo(host) for host in settings.hosts)
    trouble, connection = _Trouble(len(settings.hosts)), None
    with trouble.waiting, move_on_after(CONNECT_TIMEOUT):
        connection = await connect(settings, trouble.observe)
    if connection is None:
        return Nats(hosts=hosts, error=trouble.heard[-1] if trouble.heard else "no answer in time")
    trouble.waiting = CancelScope()  # later errors are no reason to give up
    trouble.heard.clear()
    try:
        return await _Reader(connection, names, trouble).read(hosts)
    finally:
        await close(connection.connection)


class _Reader:
    def __init__(self, connection: NatsConnection, names: Names, trouble: _Trouble) -> None:
        self._connection: Client = connection.connection
        self._jetstream: JetStreamContext = connection.connection.jetstream()
        self._names = names
        self._trouble = trouble
        self._clocks: list[float] = []

    async def read(self, hosts: str) -> Nats:
        version = str(self._connection.connected_server_version).strip("<>").removeprefix("nats server v")
        not_permitted = await self._refused(self._subjects(_NOBODY))
        deaf = any("subscribe" in sentence and self._names.replicas not in sentence for sentence in not_permitted)
        blind = await self._refused([f"$JS.API.STREAM.INFO.{self._bucket}"])
        if deaf or blind:
            return Nats(hosts=hosts, version=version, not_permitted=not_permitted, unheard=True)
        known: dict[str, Any] = {"hosts": hosts, "version": version, "not_permitted": not_permitted}
        try:
            level = None if await self._refused(["$JS.API.INFO"]) else await self._api_level()
            bucket = await self._stream(self._bucket)
            homes = None if bucket is None else await self._homes()
        except TransferError as exc:
            return Nats(**known, jetstream_error=str(exc))
        loggers: list[LoggerFacts] = []
        undeclared: tuple[tuple[str, int], ...] = ()
        error = ""
        try:
            loggers = [logger async for logger in self._loggers()] if bucket is not None else []
            undeclared = await self._undeclared({logger.key for logger in loggers})
        except TransferError as exc:
            error = str(exc)
        nearest = min(self._clocks, key=abs, default=None)
        return Nats(
            **known,
            api_level=level,
            homes=homes,
            bucket=bucket,
            loggers=tuple(loggers),
            loggers_error=error,
            undeclared=undeclared,
            clock_ahead=nearest,
        )

    @property
    def _bucket(self) -> str:
        return self._names.bucket_stream

    def _subjects(self, stream: str) -> list[str]:
        """Return a subject of each kind that the service publishes to."""
        return [
            "$JS.API.INFO",
            f"$JS.API.STREAM.INFO.{stream}",
            "$JS.API.STREAM.LIST",
            f"$JS.API.STREAM.CREATE.{self._bucket}",
            f"$JS.API.CONSUMER.CREATE.{self._bucket}",
            f"$JS.API.DIRECT.GET.{self._bucket}.{self._names.bucket_subject(_NOBODY)}",
            f"$JS.API.CONSUMER.INFO.{stream}.{_NOBODY}",
            f"$JS.API.CONSUMER.CREATE.{stream}.{_NOBODY}",
            f"$JS.API.CONSUMER.DELETE.{stream}.{_NOBODY}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{_NOBODY}",
            f"$JS.ACK.{stream}.{_NOBODY}.1.1.1.1.1",
            self._names.replicas,
        ]

    async def _refused(self, subjects: list[str]) -> tuple[str, ...]:
        """Publish a message without effect to each subject, and return the server's refusals as sentences.

        The server answers in order, so after the second flush every refusal has come. The first flush may overtake
        messages that wait in nats-py's buffer.
        """
        self._trouble.heard.clear()
        heard = [self._connection.new_inbox(), self._names.replicas]
        subscriptions = [await self._connection.subscribe(subject) for subject in heard]
        for subject in subjects:
            await self._connection.publish(subject, _NO_JSON)
        await self._connection.flush()
        await self._connection.flush()
        for subscription in subscriptions:
            await subscription.unsubscribe()
        return tuple(sentence.replace(_NOBODY, "*") for sentence in dict.fromkeys(self._trouble.heard))

    async def _homes(self) -> bool:
        """Return whether durables may have priorities, by the stream of the bucket and the servers."""
        state = await stream_state(self._jetstream, self._bucket)
        return await Priorities(self._connection).look("", state)

    async def _api_level(self) -> int:
        reply = await request(self._jetstream, "INFO")
        return msgspec.json.decode(reply, type=_Account).api.level

    async def _stream(self, name: str) -> Stream | None:
        asked = time.time()
        try:
            reply = await request(self._jetstream, f"STREAM.INFO.{name}")
        except UnknownStream:
            return None
        info = msgspec.json.decode(reply, type=_Info)
        self._clocks.append(ahead(info.ts.timestamp(), asked, time.time()))
        return info.as_stream()

    async def _loggers(self) -> AsyncIterator[LoggerFacts]:
        async with KvBucket(self._jetstream, self._names).watch() as watch:
            declared = []
            while not isinstance(change := await watch.next(), Listed):
                declared += [change] if isinstance(change, Put) else []
        for put in sorted(declared, key=lambda put: put.key):
            yield await self._logger(put)

    async def _undeclared(self, declared: set[str]) -> tuple[tuple[str, int], ...]:
        """Return the streams that hold messages of undeclared loggers; none where listing is not permitted."""
        try:
            states = await stream_states(self._jetstream, self._names)
        except Refused:
            return ()  # the finding about permissions covers it
        held = [(name, state.messages, self._names.key_of(name)) for name, state in sorted(states.items())]
        return tuple((name, messages) for name, messages, key in held if messages and key and key not in declared)

    async def _logger(self, put: Put) -> LoggerFacts:
        try:
            spec = decode_spec(check_key(put.key), put.value)
        except (UnreadableSpec, ValueError) as exc:
            return LoggerFacts(key=put.key, spec=None, unreadable=str(exc))
        try:
            stream = await self._stream(self._names.stream(put.key))
            durable = None if stream is None else await self._durable(put.key)
        except TransferError as exc:
            return LoggerFacts(key=put.key, spec=spec, not_seen=str(exc))
        return LoggerFacts(key=put.key, spec=spec, stream=stream, durable=durable)

    async def _durable(self, key: str) -> DurableInfo | None:
        try:
            return await durable_info(self._jetstream, self._names, key)
        except (UnknownDurable, UnknownStream):
            return None


# --- answers, as JetStream writes them


class _Api(msgspec.Struct):
    level: int = 0


class _Account(msgspec.Struct):
    api: _Api = msgspec.field(default_factory=_Api)


class _State(msgspec.Struct):
    messages: int
    consumer_count: int


class _Info(msgspec.Struct):
    config: StreamConfig
    state: _State
    ts: datetime

    def as_stream(self) -> Stream:
        return Stream(config=self.config, messages=self.state.messages, consumers=self.state.consumer_count)
