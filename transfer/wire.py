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

DestinationName: TypeAlias = Literal["mongodb", "stdout", "file", "blackhole", "archive"]
ColumnKind: TypeAlias = Literal["string", "int64", "double", "boolean", "timestamp", "json"]
_Positive = Annotated[int, msgspec.Meta(ge=1)]
_DAY = 86_400.0


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


class ArchiveSpec(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How the messages of a logger are archived. An empty one is enough where the replicas have COLLECTOR_ARCHIVE."""

    to: str | None = None
    """The place: a folder, or the URL of an object store; without one, the first of COLLECTOR_ARCHIVE."""
    format: Literal["ndjson", "csv", "parquet", "raw"] = "ndjson"
    compression: Literal["none", "gzip", "zstd", "snappy"] = "zstd"
    window: Annotated[float, msgspec.Meta(ge=1, le=_DAY)] = 900.0
    """Seconds that the entries of one block span at most; counted from 1970 on."""
    max_bytes: Annotated[int, msgspec.Meta(ge=65_536)] = 64 << 20
    max_messages: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 250_000
    key: str = ""
    """The path of the value by which entries are parted into blocks, like `metadata.host`."""
    path: str = ""
    """The template of the paths of blocks, with `{n}` or `{ulid}`."""
    columns: dict[str, ColumnKind] = {}
    """Of CSV and Parquet only: paths in the data that have a column of their own."""
    metadata: tuple[Literal["_headers", "_deliveries"], ...] = ()
    """Facts of its message that each row has besides the usual ones."""

    def __post_init__(self) -> None:
        if self.to is not None and not (self.to.startswith("/") or "://" in self.to):
            raise ValueError(
                "expected archive.to to be /folder or a URL such as s3://bucket/prefix, got something else"
            )
        if not all(self.key.split(".")) and self.key:
            raise ValueError(f"expected archive.key to be a path of names like metadata.host, got {self.key!r}")
        if self.path and "{n}" not in self.path and "{ulid}" not in self.path:
            raise ValueError(f"expected archive.path to be a template with {{n}} or {{ulid}}, got {self.path!r}")
        if self.columns and self.format not in {"csv", "parquet"}:
            raise ValueError(
                f"expected archive.columns with the formats csv and parquet only, got them with {self.format}"
            )
        if self.metadata and self.format == "raw":
            raise ValueError(
                "expected no archive.metadata with the format raw, which has all facts of a message, got some"
            )


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
    archive: ArchiveSpec | None = None
    """The archive that has all messages too; with the destination `archive` it alone has them."""

    def __post_init__(self) -> None:
        check_key(self.key)
        if self.destination == "archive" and self.archive is None:
            raise ValueError("expected an archive with the destination archive, got none")


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
