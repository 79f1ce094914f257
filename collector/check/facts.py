"""The facts that `collector check` judges: plain values from the answers of NATS and MongoDB."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collector.mongodb.listed import Collection
    from transfer.jetstream.configurations import DurableInfo, StreamConfig
    from transfer.wire import LoggerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A stream's configuration and content."""

    config: StreamConfig
    messages: int = 0
    consumers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggerFacts:
    """One declaration in the bucket, with its stream and durable."""

    key: str
    spec: LoggerSpec | None
    unreadable: str = ""
    """Why the spec cannot be read."""
    stream: Stream | None = None
    durable: DurableInfo | None = None
    not_seen: str = ""
    """Why stream or durable could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nats:
    """The facts about NATS."""

    hosts: str
    error: str = ""
    """Why there is no connection; then no other fact is known."""
    version: str = ""
    not_permitted: tuple[str, ...] = ()
    """A sentence for each permission that the service needs and does not have."""
    unheard: bool = False
    """Whether the permissions do not suffice to read any other fact."""
    jetstream_error: str = ""
    api_level: int | None = None
    homes: bool | None = None
    """Whether all servers know priorities, so that a logger may have a home; None without a bucket."""
    bucket: Stream | None = None
    loggers: tuple[LoggerFacts, ...] = ()
    loggers_error: str = ""
    undeclared: tuple[tuple[str, int], ...] = ()
    """Streams that hold messages of loggers which are not declared, each with the number of its messages."""
    clock_ahead: float | None = None
    """Seconds by which the server's clock is ahead of ours; None when no answer had a time in it."""


@dataclass(frozen=True, slots=True)
class Members:
    """The members of a replica set."""

    reachable: int
    """Data-bearing members that can be reached."""
    bearing_data: int
    needed: int
    """Data-bearing members that a majority write waits for."""
    confirm: bool
    """Whether the majority follows the primary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoDB:
    """The facts about MongoDB."""

    hosts: str
    database: str
    error: str = ""
    """Why there is no connection; then `replica_set` is the wanted one, unless the real one is known."""
    version: tuple[int, ...] = ()
    replica_set: str | None = None
    """The name of the set; None for a standalone server."""
    wanted_set: str | None = None
    """The name in the URI."""
    sharded: bool = False
    writable: bool = False
    members: Members | None = None
    """None where the members cannot be seen."""
    user: str = ""
    """The user of the login; empty where no login is demanded."""
    granted: frozenset[str] = frozenset()
    """The actions that the user may do on all collections of the database."""
    collections: Mapping[str, Collection] = field(default_factory=dict)
    collections_error: str = ""
    indexes_error: str = ""
    clock_ahead: float | None = None
