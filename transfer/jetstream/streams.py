"""Bucket and stream of a logger in JetStream, made exactly as the Go client v1.7 makes them.

Its durable is in `durables.py`, the requests themselves in `api.py`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime  # noqa: TC003 - msgspec reads it when it runs
from typing import TYPE_CHECKING, Any

import msgspec
from nats import errors as nats_errors
from nats.js import errors as js_errors

from transfer.difference import Remedy, with_remedy
from transfer.errors import Conflict, JetStreamError, Misconfigured, Unavailable, UnknownStream
from transfer.jetstream.api import NAME_IN_USE, NANOSECONDS, SUBJECTS_OVERLAP, request
from transfer.jetstream.configurations import Cluster, StreamConfig
from transfer.jetstream.needs import compare_stream

if TYPE_CHECKING:
    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

    from transfer.names import Names
    from transfer.wire import LoggerSpec

_PAGE = 256
"""Streams in one answer of STREAM.LIST."""
_AT_ONCE = 64
"""Values of a bucket that are asked for at once."""


async def ensure_bucket(jetstream: JetStreamContext, names: Names) -> KeyValue:
    """Bind the KV bucket of the loggers; make it, as Go makes it, when there is none."""
    try:
        await request(jetstream, f"STREAM.INFO.{names.bucket_stream}")
    except UnknownStream:
        await _make_bucket(jetstream, names)
    return await bind_bucket(jetstream, names)


async def bind_bucket(jetstream: JetStreamContext, names: Names) -> KeyValue:
    """Bind the KV bucket of the loggers, or raise `UnknownStream`."""
    await request(jetstream, f"STREAM.INFO.{names.bucket_stream}")
    try:
        return await jetstream.key_value(names.bucket)
    except (nats_errors.Error, TimeoutError) as error:
        raise Unavailable(f"bucket {names.bucket!r}: expected to bind it, got {error}") from error


async def bucket_entries(
    jetstream: JetStreamContext, names: Names, bucket: KeyValue
) -> dict[str, KeyValue.Entry | None]:
    """Return the values and revisions of all keys that stay in the bucket meanwhile, None for a deleted one.

    Asks for the keys and then for each of them. nats-py's own list is a watch: its end may come before the first value,
    and it leaves a consumer in the server for five minutes.
    """
    prefix = names.bucket_subject("")
    keys = [subject.removeprefix(prefix) for subject in await _subjects(jetstream, names.bucket_stream, prefix)]
    entries: dict[str, KeyValue.Entry | None] = dict.fromkeys(keys)

    async def read(key: str) -> None:
        with suppress(js_errors.KeyNotFoundError):  # deleted
            entries[key] = await bucket.get(key, validate_keys=False)

    for first in range(0, len(keys), _AT_ONCE):
        await asyncio.gather(*map(read, keys[first : first + _AT_ONCE]))
    return entries


class _Subjects(msgspec.Struct):
    subjects: dict[str, int] | None = None


class _SubjectsPage(msgspec.Struct):
    state: _Subjects
    total: int = 0


async def _subjects(jetstream: JetStreamContext, stream: str, prefix: str) -> list[str]:
    """Return the subjects in a stream that hold a message."""
    subjects: list[str] = []
    while True:
        body = {"subjects_filter": f"{prefix}>", "offset": len(subjects)}
        page = msgspec.json.decode(await request(jetstream, f"STREAM.INFO.{stream}", body), type=_SubjectsPage)
        found = page.state.subjects or {}
        subjects += found
        if not found or len(subjects) >= page.total:
            return subjects


async def _make_bucket(jetstream: JetStreamContext, names: Names) -> None:
    config = {
        "name": names.bucket_stream,
        "subjects": [names.bucket_subjects],
        "max_msgs_per_subject": 1,
        "discard": "new",
        "storage": "file",
        "num_replicas": 1,
        "allow_direct": True,
        "deny_delete": True,
        "allow_rollup_hdrs": True,
    }
    try:
        await request(jetstream, f"STREAM.CREATE.{names.bucket_stream}", config)
    except JetStreamError as error:
        if error.err_code != NAME_IN_USE:  # somebody else was quicker, with limits of their own
            raise


# --- stream


class _Created(msgspec.Struct):
    did_create: bool = False


class _Config(msgspec.Struct):
    config: dict[str, Any]


async def ensure_stream(jetstream: JetStreamContext, names: Names, spec: LoggerSpec) -> bool:
    """Make the work-queue stream of a logger, or bring description and stated limits of the one there up to the spec.

    Returns whether this call made it. A limit that the spec does not state is left as it is. Raises `Conflict` when the
    name or the subject belongs to something else, or when what differs cannot be changed.
    """
    name, subject = names.stream(spec.key), names.subject(spec.key)
    stated = _stated(spec)
    fresh = {"name": name, "subjects": [subject], "retention": "workqueue", "storage": "file", "num_replicas": 1}
    try:
        reply = await request(jetstream, f"STREAM.CREATE.{name}", fresh | stated)
    except JetStreamError as error:
        if error.err_code == SUBJECTS_OVERLAP:
            raise Conflict(f"subject {subject!r}: expected no other stream to take it, but one does") from error
        if error.err_code != NAME_IN_USE:
            raise
        await _update_stream(jetstream, names, spec.key, stated)
        return False
    return msgspec.json.decode(reply, type=_Created).did_create


def _stated(spec: LoggerSpec) -> dict[str, object]:
    """Return what the spec says of the stream, as JetStream's fields."""
    fields: dict[str, object] = {"description": spec.description}
    if spec.stream is not None:
        max_age = spec.stream.max_age
        fields |= {
            "num_replicas": spec.stream.replicas,
            "max_age": None if max_age is None else round(max_age * NANOSECONDS),
            "max_bytes": spec.stream.max_bytes,
            "storage": spec.stream.storage,
        }
    return {field: value for field, value in fields.items() if value is not None}


async def _update_stream(jetstream: JetStreamContext, names: Names, key: str, stated: dict[str, object]) -> None:
    name = names.stream(key)
    config = await _stream_config(jetstream, name)
    found = msgspec.convert(config, StreamConfig)
    if mend := with_remedy(compare_stream(found, names, key), Remedy.MEND):
        raise Misconfigured(*mend)
    wanted = {"description": ""} | config | stated
    if wanted == {"description": ""} | config:
        return
    if 0 < wanted["max_age"] < wanted.get("duplicate_window", 0):
        wanted["duplicate_window"] = wanted["max_age"]  # the server refuses a longer one
    try:
        await request(jetstream, f"STREAM.UPDATE.{name}", wanted)
    except JetStreamError as error:
        raise Conflict(f"stream {name!r}: expected to change it to {stated}, got {error.description}") from error


async def _stream_config(jetstream: JetStreamContext, name: str) -> dict[str, Any]:
    reply = await request(jetstream, f"STREAM.INFO.{name}")
    return msgspec.json.decode(reply, type=_Config).config


async def delete_stream(jetstream: JetStreamContext, name: str) -> None:
    """Delete a stream with its durable and all that waits in it; one that is not there is fine."""
    try:
        await request(jetstream, f"STREAM.DELETE.{name}")
    except UnknownStream:
        return


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as the server that leads it sees it, at `server_time`."""

    created: str
    """Exactly as the server wrote it: which life of the stream this is."""
    server_time: datetime
    messages: int
    bytes: int
    first_seq: int
    last_seq: int
    first_ts: datetime
    """Year 1 in a stream that never had a message."""
    last_ts: datetime
    config: StreamConfig = StreamConfig()
    cluster: Cluster = Cluster()

    @property
    def api_level(self) -> int:
        """The API level of the server that answered; 0 when it is too old to have one."""
        level = self.config.metadata.level
        return int(level) if level.isdecimal() else 0

    @property
    def first(self) -> datetime | None:
        """When the oldest message that waits was published."""
        return self.first_ts if self.messages else None

    @property
    def last(self) -> datetime | None:
        """When the newest message that waits was published."""
        return self.last_ts if self.messages else None

    @property
    def oldest_age(self) -> float:
        """Seconds that the oldest message has waited, 0 when none waits."""
        return (self.server_time - self.first_ts).total_seconds() if self.messages else 0.0


class _State(msgspec.Struct):
    messages: int
    bytes: int
    first_seq: int
    last_seq: int
    first_ts: datetime
    last_ts: datetime


class _Info(msgspec.Struct):
    config: StreamConfig
    created: str
    state: _State
    ts: datetime
    cluster: Cluster = Cluster()

    def as_state(self) -> StreamState:
        state = msgspec.structs.asdict(self.state)
        return StreamState(created=self.created, server_time=self.ts, config=self.config, cluster=self.cluster, **state)


class _Page(msgspec.Struct):
    total: int
    streams: list[_Info] | None = None
    missing: list[str] | None = None
    """Streams of a cluster that no server answers for now."""


async def stream_state(jetstream: JetStreamContext, stream: str) -> StreamState:
    """Return the state of a stream, or raise `UnknownStream`."""
    return msgspec.json.decode(await request(jetstream, f"STREAM.INFO.{stream}"), type=_Info).as_state()


async def stream_states(jetstream: JetStreamContext, names: Names) -> dict[str, StreamState]:
    """Return the state of all streams of the namespace by name, with one request for 256 of them."""
    return {name: state for name, state in (await listed_streams(jetstream, names)).items() if state is not None}


async def listed_streams(jetstream: JetStreamContext, names: Names) -> dict[str, StreamState | None]:
    """Return the same, with None for each stream that is there and has no leader now."""
    states: dict[str, StreamState | None] = {}
    for offset in range(0, 1 << 31, _PAGE):
        reply = await request(jetstream, "STREAM.LIST", {"offset": offset, "subject": names.all_subjects})
        page = msgspec.json.decode(reply, type=_Page)
        states |= dict.fromkeys(page.missing or ())
        states |= {info.config.name: info.as_state() for info in page.streams or ()}
        if offset + _PAGE >= page.total:
            break
    return states
