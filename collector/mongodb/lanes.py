"""Lanes: connections that are kept for writes, without pymongo's layers around each command.

pymongo takes about three times as long for a command as its work takes: it makes a session, chooses a server, takes
four locks of the connection pool, and makes two tasks and a timer for each answer. A lane is a connection that was
taken from the pool once, after its login. A protocol of its own reads it, and a command is one write and one future.
pymongo still finds the servers, logs in, and is told each error.

That needs private names of pymongo. Only this file uses them, and `tests/mongodb/test_lanes.py` fails when they change.
A command that no lane can take goes the ordinary way.
"""

from __future__ import annotations

import asyncio
from struct import Struct
from time import monotonic
from typing import TYPE_CHECKING, Any

import bson
import pymongo
from bson import DEFAULT_CODEC_OPTIONS
from pymongo import AsyncMongoClient, helpers_shared
from pymongo import message as op_msg
from pymongo.errors import AutoReconnect, DocumentTooLarge, NetworkTimeout, OperationFailure, ProtocolError
from pymongo.server_selectors import writable_server_selector

from collector.mongodb.errors import without_user

if TYPE_CHECKING:
    from collections.abc import Mapping

_PRIVATE_NAMES = frozenset({"_checkout", "_select_server", "_topology", "_encrypter", "_op_msg"})
_OP_MSG = 2013
_HEADER = Struct("<iiiiIB")
"""Length, number, the number that is answered, operation, flags, and the kind of the one section that follows: 0."""
_LARGEST_COMMAND = 16 * 1024 * 1024 + 16 * 1024 - 2
"""Bytes of a command as BSON: the server takes no larger one."""
_REAUTHENTICATE = 391
_LOOK = 0.5
"""Seconds after which pymongo's monitor may have given up the connection of a command that waits."""


class LaneClient(AsyncMongoClient[dict[str, Any]]):
    """A client of pymongo that has lanes."""

    __slots__ = ("lanes",)  # not in `vars`: a renewed client keeps its lanes

    def __init__(self, uri: str, **options: Any) -> None:
        super().__init__(uri, **options)
        self.lanes = Lanes(self)

    async def close(self) -> None:
        """Close all connections, those of the lanes too."""
        await self.lanes.close()
        await super().close()


class Lanes:
    """The lanes of one client: as many as commands were sent at a time, up to two thirds of its pool's connections.

    These are enough for all writes of a replica at a time: see `collector.mongodb.calls.WRITES`.
    """

    def __init__(self, client: AsyncMongoClient[dict[str, Any]]) -> None:
        self._client: Any = client
        self._possible = _PRIVATE_NAMES.issubset([*dir(client), *dir(op_msg)])
        self._free: list[Lane] = []
        self.number = 0
        """Lanes that are open."""
        self._closed = False

    async def send(self, database: str, command: Mapping[str, Any], timeout: float) -> dict[str, Any] | None:
        """Send a command that writes and return the server's reply; None: nothing was sent, as there is no lane for it.

        It has to be shielded from cancellation, and ends within `timeout`. Raises errors of pymongo and of bson as
        `database.command` does.
        """
        if not self._possible:
            return None
        deadline = monotonic() + timeout
        whole = {**command, "maxTimeMS": int(timeout * 1000)}
        # it encodes the documents in C, one after the other, which takes a tenth less than an array of them
        number, message, size, _ = op_msg._op_msg(0, whole, database, None, DEFAULT_CODEC_OPTIONS)  # noqa: SLF001
        if size > _LARGEST_COMMAND:
            raise DocumentTooLarge(f"expected a command of at most {_LARGEST_COMMAND} bytes, got {size}")
        lane = await self._take(timeout)
        if lane is None:
            return None
        try:
            reply = read_reply(await lane.ask(message, max(0.0, deadline - monotonic())), number)
            if not reply["ok"]:
                lane.check(reply)
        except OperationFailure as exc:  # the server has answered
            if exc.code == _REAUTHENTICATE:
                await self._end(lane)
                return None
            await (self._end(lane) if without_user(exc) else self._give_back(lane))  # the next lane logs in anew
            raise
        except BaseException as exc:
            await self._end(lane, exc)
            raise
        # a look-up after the time of this reply tells it to a new primary, which may be behind
        self._client._topology._receive_cluster_time_no_lock(reply.get("$clusterTime"))  # noqa: SLF001
        await self._give_back(lane)
        return reply

    async def sweep(self) -> None:
        """End the free lanes that are not to be used any more."""
        free, self._free = self._free, []
        for lane in free:
            await self._give_back(lane)

    async def close(self) -> None:
        """End all lanes; those that are in use end with their command."""
        self._closed = True
        await self.sweep()

    async def _take(self, timeout: float) -> Lane | None:
        while self._free:
            lane = self._free.pop()
            if lane.is_good(self._client):
                return lane
            await self._end(lane)
            await self.sweep()
        return await self._new(timeout)

    async def _give_back(self, lane: Lane) -> None:
        if self._closed or not lane.is_good(self._client):
            await self._end(lane)
        else:
            self._free.append(lane)

    async def _new(self, timeout: float) -> Lane | None:
        """Take a connection from the pool for a lane; None when it has none to spare, or no plain one."""
        client = self._client
        self.number += 1
        lane = None
        try:
            with pymongo.timeout(timeout):
                server = await client._select_server(writable_server_selector, None, "insert")  # noqa: SLF001
                if self.number <= server.pool.max_pool_size * 2 // 3:
                    checkout = client._checkout(server, None)  # noqa: SLF001
                    connection = await checkout.__aenter__()
                    if _is_plain(client, connection):
                        lane = Lane(client, server, checkout, connection)
                    else:
                        self._possible = False
                        await checkout.__aexit__(None, None, None)
        finally:
            if lane is None:
                self.number -= 1
        return lane

    async def _end(self, lane: Lane, exc: BaseException | None = None) -> None:
        self.number -= 1
        await lane.end(exc)


class Lane(asyncio.Protocol):
    """One connection, for one command at a time."""

    def __init__(self, client: Any, server: Any, checkout: Any, connection: Any) -> None:
        self._topology = client._topology  # noqa: SLF001
        self._server = server
        self._checkout = checkout
        self._connection = connection
        self._transport, self._pymongos = connection.conn.conn
        self._address = "{}:{}".format(*server.description.address)
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bytes] | None = None
        self._timer: asyncio.TimerHandle
        self._deadline = 0.0
        self._rest = bytearray()
        self._transport.pause_reading()  # a transport chooses how it reads when it begins to
        self._transport.set_protocol(self)
        self._transport.resume_reading()

    def is_good(self, client: Any) -> bool:
        """Whether pymongo would still use the connection for a write."""
        connection, server = self._connection, self._server
        return (
            client._topology is self._topology  # noqa: SLF001 - another one has another login
            and server.description.is_writable
            and not server.pool.stale_generation(connection.generation, connection.service_id)
            and not self._transport.is_closing()
            and not connection.cancel_context.cancelled
        )

    async def ask(self, message: bytes, timeout: float) -> bytes:
        """Send a message and return the answer. After an error the connection is of no use."""
        loop = self._loop
        self._answer = answer = loop.create_future()
        now = loop.time()
        self._deadline = now + timeout
        self._timer = loop.call_at(now + min(timeout, _LOOK), self._look)
        try:
            self._transport.write(message)
            data: bytes = await answer
            return data
        finally:
            self._answer = None
            self._timer.cancel()

    def check(self, reply: dict[str, Any]) -> None:
        """Raise pymongo's error for a reply that is none."""
        helpers_shared._check_command_response(reply, self._connection.max_wire_version)  # noqa: SLF001

    async def end(self, exc: BaseException | None) -> None:
        """Close the connection, and tell pymongo the error, so that it looks at the server again if need be."""
        await self._connection.close_conn(None)
        await self._checkout.__aexit__(None if exc is None else type(exc), exc, None)

    def _look(self) -> None:
        if self._answer is None or self._answer.done():
            return
        now = self._loop.time()
        if now >= self._deadline:
            self._answer.set_exception(NetworkTimeout(f"{self._address}: timed out"))
        elif self._connection.cancel_context.cancelled:
            self._answer.set_exception(AutoReconnect(f"{self._address}: the server has stopped to answer"))
        else:
            self._timer = self._loop.call_at(min(self._deadline, now + _LOOK), self._look)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. Take what was read, and answer when a message is whole."""
        if self._rest or len(data) < _HEADER.size or len(data) < _length(data):
            self._rest += data
            if len(self._rest) < _HEADER.size or len(self._rest) < _length(self._rest):
                return
            data, self._rest = bytes(self._rest), bytearray()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(data)
        else:  # nobody asked
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`. pymongo waits for the end of its own protocol."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(AutoReconnect(f"{self._address}: {exc or 'connection closed'}"))
        self._pymongos.connection_lost(exc)


def _is_plain(client: Any, connection: Any) -> bool:
    """Whether commands need nothing on this connection that only pymongo's own layers do."""
    options = connection.opts
    return (
        client._encrypter is None  # noqa: SLF001
        and connection.compression_context is None
        and not connection.is_mongos  # pymongo spreads commands over all of them
        and not options.load_balanced
        and not options.server_api
        and options.max_idle_time_seconds is None
    )


def _length(data: bytes | bytearray) -> int:
    return int.from_bytes(data[:4], "little")


def read_reply(data: bytes, number: int) -> dict[str, Any]:
    """Return the document of a reply to the message of this number."""
    length, _, answered, operation, flags, kind = _HEADER.unpack_from(data)
    if (length, answered, operation, flags, kind) != (len(data), number, _OP_MSG, 0, 0):
        raise ProtocolError(f"expected one reply to {number}, got {length} bytes to {answered}, operation {operation}")
    return bson.decode(data[_HEADER.size :])
