"""Which durables may have priorities: those whose servers all know them.

The policy `prioritized` came with nats-server 2.12. An older server of the same cluster cannot read such a durable: it
stops reading what the cluster decides. So each server of a cluster is asked for its version first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from anyio import Lock, current_time, move_on_after
from nats import errors as nats_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.client import Client

    from transfer.jetstream.streams import StreamState

ASKED_FOR_VERSIONS = "$SYS.REQ.ACCOUNT.PING.STATZ"
"""Every server of a cluster answers it to every account."""
API_LEVEL = 2
"""That of nats-server 2.12."""
_VERSION = (2, 12)
_ANSWERS = 2.0
"""Seconds for all servers to answer."""
_LULL = 0.5
"""Seconds without an answer after which all have answered."""
_KNOWN_FOR = 60.0
"""Seconds for which the answers are used."""
_LEFT_ALONE = 600.0
"""Seconds for which a durable is left as it is found, after priorities were set: a replica of an older version takes
them away, and two replicas must not undo each other's updates all the time."""


class _Server(msgspec.Struct):
    name: str = ""
    ver: str = ""
    jetstream: bool = False


class _Answer(msgspec.Struct):
    server: _Server


class Servers(NamedTuple):
    """The servers that answered."""

    names: frozenset[str] = frozenset()
    all_know: bool = False
    """Whether each of them that has JetStream knows priorities."""


def read_servers(answers: list[bytes]) -> Servers:
    """Return the servers by their answers; one that cannot be read counts as an old one."""
    try:
        servers = [msgspec.json.decode(answer, type=_Answer).server for answer in answers]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Servers()
    names = frozenset(server.name for server in servers)
    return Servers(names, bool(servers) and all(_knows(server.ver) for server in servers if server.jetstream))


def _knows(version: str) -> bool:
    found = re.match(r"(\d+)\.(\d+)\.", version)
    return found is not None and (int(found[1]), int(found[2])) >= _VERSION


class Priorities:
    """Decides which durables get priorities, and when they are set again."""

    def __init__(self, connection: Client, clock: Callable[[], float] = current_time) -> None:
        self._connection = connection
        self._clock = clock
        self._asking = Lock()
        self._servers = Servers()
        self._asked: float | None = None
        self._able: set[str] = set()
        self._set_at: dict[str, float] = {}

    async def look(self, key: str, state: StreamState) -> bool:
        """Return whether the durable of a logger may have priorities, by its stream and the servers."""
        able = state.api_level >= API_LEVEL
        if able and state.cluster.name:
            servers = await self._ask()
            able = servers.all_know and servers.names >= state.cluster.servers
        (self._able.add if able else self._able.discard)(key)
        return able

    def are_due(self, key: str) -> bool:
        """Return whether a durable without priorities is to get them now."""
        set_at = self._set_at.get(key)
        return key in self._able and (set_at is None or self._clock() - set_at >= _LEFT_ALONE)

    def were_set(self, key: str) -> None:
        """Note that priorities were set on a durable that was there."""
        self._set_at[key] = self._clock()

    async def _ask(self) -> Servers:
        async with self._asking:
            if self._asked is None or self._clock() - self._asked >= _KNOWN_FOR:
                self._servers = read_servers(await self._answers())
                self._asked = self._clock()
        return self._servers

    async def _answers(self) -> list[bytes]:
        """Return the answers of all servers; none when the request is not permitted."""
        answers: list[bytes] = []
        try:
            inbox = self._connection.new_inbox()
            subscription = await self._connection.subscribe(inbox)
            try:
                await self._connection.publish(ASKED_FOR_VERSIONS, b'{"include_unused":true}', reply=inbox)
                with move_on_after(_ANSWERS):
                    while True:
                        answers.append((await subscription.next_msg(timeout=_ANSWERS if not answers else _LULL)).data)
            finally:
                await subscription.unsubscribe()
        except (nats_errors.Error, TimeoutError, OSError):
            pass  # without answers no priorities are set
        return answers
