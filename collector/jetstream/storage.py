"""Reads how full JetStream is: the bytes that it stores for this account, and how near each stream is to its limits.

At a limit entries are lost: the stream drops its oldest ones, or JetStream refuses publishers.
"""

from __future__ import annotations

import time
from datetime import datetime  # noqa: TC003 - msgspec reads it when it runs
from typing import TYPE_CHECKING, Protocol

import msgspec

from collector.events.readings import Limit, Storage, Store
from transfer.jetstream.api import NANOSECONDS, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nats.js import JetStreamContext

    from transfer.names import Names


class _Limits(msgspec.Struct):
    max_memory: int = -1
    max_storage: int = -1


class _Tier(msgspec.Struct):
    memory: int = 0
    storage: int = 0
    limits: _Limits = msgspec.field(default_factory=_Limits)


class _Account(_Tier):
    tiers: dict[str, _Tier] | None = None


class _Config(msgspec.Struct):
    name: str
    max_msgs: int = -1
    max_msgs_per_subject: int = -1
    max_bytes: int = -1
    max_age: int = 0


class _State(msgspec.Struct):
    messages: int
    bytes: int
    first_ts: datetime


class StreamUse(msgspec.Struct):
    """A stream: its limits and its content."""

    config: _Config
    state: _State
    ts: datetime


class _Page(msgspec.Struct):
    total: int
    streams: list[StreamUse] | None = None


class Reading(Protocol):
    """Reads how full JetStream is."""

    async def read(self) -> Storage:
        """Read the account and all streams. Raises TransferError."""


class JetStreamStorage:
    """Reads with one request for the account, and one for 256 streams."""

    def __init__(self, jetstream: JetStreamContext, names: Names) -> None:
        self._jetstream = jetstream
        self._names = names

    async def read(self) -> Storage:
        """Read the account, then the streams."""
        account = msgspec.json.decode(await request(self._jetstream, "INFO"), type=_Account)
        streams = {self._names.key_of(use.config.name): use for use in await self._streams()}
        filled = {key: shares for key, use in streams.items() if (shares := fill(use))}
        messages = {key: use.state.messages for key, use in streams.items()}
        return Storage(tuple(stores(account)), filled, messages, time.time())

    async def _streams(self) -> list[StreamUse]:
        streams: list[StreamUse] = []
        total, offset = 1, 0
        while offset < total:
            body = {"offset": offset, "subject": self._names.all_subjects}
            page = msgspec.json.decode(await request(self._jetstream, "STREAM.LIST", body), type=_Page)
            streams += page.streams or ()
            total, offset = page.total, offset + 256
        return streams


def stores(account: _Account) -> Iterator[Store]:
    """Yield the stored bytes by kind and tier; an account has either tiers or limits of its own."""
    for name, tier in (account.tiers or {"": account}).items():
        yield Store("file", name, tier.storage, _limit(tier.limits.max_storage))
        yield Store("memory", name, tier.memory, _limit(tier.limits.max_memory))


def fill(use: StreamUse) -> dict[Limit, float]:
    """Return the share of each limit that is used, for the limits that the stream has."""
    config, state = use.config, use.state
    messages = [most for most in (config.max_msgs, config.max_msgs_per_subject) if most > 0]
    shares = {}
    if config.max_bytes > 0:
        shares[Limit.BYTES] = state.bytes / config.max_bytes
    if messages:
        shares[Limit.MESSAGES] = state.messages / min(messages)
    if config.max_age > 0:
        age = (use.ts - state.first_ts).total_seconds() if state.messages else 0.0
        shares[Limit.AGE] = age * NANOSECONDS / config.max_age
    return shares


def _limit(most: int) -> int | None:
    """Return a limit, or None: -1 is no limit, and 0 permits nothing, so that nothing can become full."""
    return most if most > 0 else None
