"""Configurations of durables and streams as JetStream says them: the fields that somebody here looks at."""

from __future__ import annotations

from typing import Any

import msgspec

from transfer.jetstream.api import NANOSECONDS


class DurableConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a durable that is in force; times in nanoseconds, as the server has them."""

    durable_name: str = ""
    ack_policy: str = "explicit"
    deliver_policy: str = "all"
    replay_policy: str = "instant"
    deliver_subject: str = ""
    deliver_group: str = ""
    ack_wait: int = 0
    backoff: tuple[int, ...] = ()
    max_deliver: int = -1
    max_ack_pending: int = 0
    max_waiting: int = 0
    max_batch: int = 0
    max_expires: int = 0
    max_bytes: int = 0
    filter_subject: str = ""
    filter_subjects: tuple[str, ...] = ()
    headers_only: bool = False
    inactive_threshold: int = 0
    priority_policy: str = "none"
    priority_groups: tuple[str, ...] = ()
    priority_timeout: int = 0
    pause_until: str | None = None
    sourcing: bool = False
    mem_storage: bool = False


class Delivered(msgspec.Struct, frozen=True):
    """How far a durable has come in its stream."""

    stream_seq: int = 0


class DurableInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A durable as the server that leads it sees it."""

    stream_name: str
    name: str
    created: str
    config: DurableConfig
    delivered: Delivered = Delivered()
    num_ack_pending: int = 0
    num_redelivered: int = 0
    num_waiting: int = 0
    num_pending: int = 0
    push_bound: bool = False
    paused: bool = False

    @property
    def is_push(self) -> bool:
        """Say whether it is a push consumer, as the Go collector makes it."""
        return bool(self.config.deliver_subject)

    @property
    def ack_wait(self) -> float:
        """Return how many seconds it waits for an answer."""
        return self.config.ack_wait / NANOSECONDS


class ConsumerLimits(msgspec.Struct, frozen=True):
    """The limits that a stream forces upon its durables; 0 is no limit."""

    max_ack_pending: int = 0
    inactive_threshold: int = 0


class Metadata(msgspec.Struct, frozen=True):
    """Metadata that the server itself adds to a configuration."""

    level: str = msgspec.field(default="0", name="_nats.level")


class StreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a stream that is in force; times in nanoseconds, a limit that is not set is 0 or -1."""

    name: str = ""
    subjects: tuple[str, ...] = ()
    retention: str = "workqueue"
    storage: str = "file"
    discard: str = "old"
    discard_new_per_subject: bool = False
    max_age: int = 0
    max_msgs: int = -1
    max_bytes: int = -1
    max_msgs_per_subject: int = -1
    mirror: dict[str, Any] | None = None
    no_ack: bool = False
    persist_mode: str = "default"
    sealed: bool = False
    consumer_limits: ConsumerLimits = ConsumerLimits()
    allow_direct: bool = False
    allow_msg_ttl: bool = False
    metadata: Metadata = Metadata()


class Peer(msgspec.Struct, frozen=True):
    """A server that keeps a copy of a stream."""

    name: str = ""


class Cluster(msgspec.Struct, frozen=True):
    """The servers that keep a stream; the name is empty for a lone server."""

    name: str = ""
    leader: str = ""
    replicas: tuple[Peer, ...] = ()

    @property
    def servers(self) -> frozenset[str]:
        """Return the names of all servers that keep the stream."""
        return frozenset(filter(None, (self.leader, *(peer.name for peer in self.replicas))))
