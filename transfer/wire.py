"""The formats on the wire: logger spec (the KV value) and entry (the body of a message), headers and limits."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from transfer.errors import UnreadableSpec
from transfer.names import check_key

CONTENT_TYPE = "Content-Type"
MSGPACK = "application/msgpack"
JSON = "application/json"
BUNDLE = "application/vnd.transfer.bundle+msgpack"
CONTENT_ENCODING = "Content-Encoding"
MESSAGE_ID = "Nats-Msg-Id"
TRANSFER_ATTEMPT = "Transfer-Attempt"
"""Above 1, or an entry that may have been sent before: the collector looks it up where a duplicate would be stored."""
TRANSFER_CONTENT_ID = "Transfer-Content-Id"
"""The identity, as 24 hex digits, of a lone entry that brings none in its bytes; in a bundle, that of its first place.

A dead letter that is published again keeps its `_id` by it. `Content-` is in the name for the sake of speed: one look
tells the collector whether any header says how to read the body.
"""
TRANSFER_CONTENT_TIME = "Transfer-Content-Time"
"""When the message was first published, in milliseconds since 1970: the time of an entry that brings none."""
MAX_INFLATED = 10 * 1024 * 1024
"""Bytes of a message once it is inflated; what is larger is a dead letter."""

DestinationName: TypeAlias = Literal["mongodb", "stdout", "file", "blackhole"]
_Positive = Annotated[int, msgspec.Meta(ge=1)]


class CollectionSpec(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How the collection is made when it does not exist; one that exists is never altered."""

    kind: Literal["plain", "timeseries"] = "plain"
    expire_after_seconds: _Positive | None = None
    granularity: Literal["seconds", "minutes", "hours"] | None = None
    """Of a time-series collection only."""

    def __post_init__(self) -> None:
        if self.granularity is not None and self.kind != "timeseries":
            raise ValueError(f"expected granularity with kind timeseries only, got it with kind {self.kind}")


class StreamSpec(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The limits of the stream; what is not stated is the ancestor's (none) or stays as it is."""

    replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] | None = None
    max_age: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Seconds after which an entry that nobody stored is discarded."""
    max_bytes: _Positive | None = None
    storage: Literal["file", "memory"] | None = None


class LoggerSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """The declaration of a logger: the value of its key in the bucket, as a msgpack map.

    With key and description only, it is the ancestor's map, byte for byte. Raises `InvalidKey`.
    """

    key: str
    description: str = msgspec.field(default_factory=str)  # a factory, so that omit_defaults leaves it in: Go has it
    collection: CollectionSpec | None = None
    stream: StreamSpec | None = None
    destination: DestinationName | None = None
    """Where the entries go; without one, where the replicas' COLLECTOR_SINK says."""

    def __post_init__(self) -> None:
        check_key(self.key)


_decoder = msgspec.msgpack.Decoder(LoggerSpec)


def encode_spec(spec: LoggerSpec) -> bytes:
    """Return the KV value, or raise `UnreadableSpec` when no reader could read it."""
    try:
        value = msgspec.msgpack.encode(spec)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UnreadableSpec(spec.key, f"it cannot be written ({error})") from error
    decode_spec(spec.key, value)
    return value


def decode_spec(key: str, value: bytes) -> LoggerSpec:
    """Return the spec in a KV value; whatever is wrong with it is an `UnreadableSpec`, nothing else is raised."""
    try:
        spec = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise UnreadableSpec(key, f"it is not ({error})") from error
    if spec.key != key:
        raise UnreadableSpec(key, f"it is that of the logger {spec.key!r}")
    return spec
