"""What `collector check` knows of NATS and MongoDB before it judges: plain values, as the servers said them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collector.mongodb.needs import Collection
    from transfer.jetstream.configurations import DurableInfo, StreamConfig
    from transfer.wire import LoggerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A stream's configuration and what is in it."""

    config: StreamConfig
    messages: int = 0
    consumers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggerFacts:
    """One entry of the bucket, with what JetStream has for it."""

    key: str
    spec: LoggerSpec | None
    unreadable: str = ""
    """Why there is no spec."""
    stream: Stream | None = None
    durable: DurableInfo | None = None
    not_seen: str = ""
    """Why stream or durable could not be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nats:
    """The NATS side."""

    hosts: str
    error: str = ""
    """Why there is no connection; then nothing else is known."""
    version: str = ""
    not_permitted: tuple[str, ...] = ()
    """What the service will do and may not, each as a sentence."""
    unheard: bool = False
    """Whether too little is permitted to ask for anything else."""
    jetstream_error: str = ""
    api_level: int | None = None
    bucket: Stream | None = None
    loggers: tuple[LoggerFacts, ...] = ()
    loggers_error: str = ""
    undeclared: tuple[tuple[str, int], ...] = ()
    """Streams of loggers that hold messages and are declared nowhere, and how many."""
    clock_ahead: float | None = None
    """Seconds by which the server's clock is ahead of ours; None when no answer had a time in it."""


@dataclass(frozen=True, slots=True)
class Members:
    """The members of a replica set, as far as they can be seen from here."""

    reachable: int
    """Those with data that answer."""
    bearing_data: int
    needed: int
    """How many of them a majority write waits for."""
    confirm: bool
    """Whether the majority has what the primary has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoDB:
    """The MongoDB side."""

    hosts: str
    database: str
    error: str = ""
    """Why nobody answers or lets us in; then only `replica_set` may be known, else it is the one that is wanted."""
    version: tuple[int, ...] = ()
    replica_set: str | None = None
    """Its name; None when it is a standalone server."""
    wanted_set: str | None = None
    """The name in the URI."""
    sharded: bool = False
    writable: bool = False
    members: Members | None = None
    """None where they cannot be seen."""
    user: str = ""
    """Who we are; nobody where no login is demanded."""
    granted: frozenset[str] = frozenset()
    """What the user may do on all collections of the database."""
    collections: Mapping[str, Collection] = field(default_factory=dict)
    collections_error: str = ""
    indexes_error: str = ""
    clock_ahead: float | None = None
