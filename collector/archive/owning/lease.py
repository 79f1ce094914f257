"""The lease of a capture: a key with a time to live, so that one replica reads a stream at a time.

It is rule 1 of docs/archive.md: for liveness alone. Two owners at once lose nothing and double nothing.
"""

from __future__ import annotations

import re
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec
import nats.errors
from anyio import CancelScope

from transfer.errors import JetStreamError, Unavailable, UnknownStream
from transfer.jetstream.api import NAME_IN_USE, NANOSECONDS, connection_of, request
from transfer.names import LEASES_STREAM, lease_subject

if TYPE_CHECKING:
    from nats.js import JetStreamContext

LASTS = 8.0
"""Seconds after its last beat for which an owner is taken to live."""
BEAT = 2.0
_TIMEOUT = 3.0
_ANOTHER_REVISION = 10071
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_NOT_THERE = 10037
_COPIES = 3
_TOO_FEW_SERVERS = frozenset({10074, 10005})
"""A lone server; no suitable servers."""


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct):
    seq: int = 0
    error: _Error | None = None


class _Message(msgspec.Struct):
    seq: int
    data: bytes = b""


class _Got(msgspec.Struct):
    message: _Message


class Lease:
    """The lease of one capture. Each method raises Unavailable when JetStream does not answer, or Refused."""

    def __init__(self, jetstream: JetStreamContext, key: str, owner: str) -> None:
        """Claim for `owner`, a name that no other process has or had."""
        self.is_held = False
        self.other = ""
        """The owner, when it is another one."""
        self._jetstream = jetstream
        self._subject = lease_subject(key)
        self._owner = owner.encode()
        self._revision = 0

    async def claim(self) -> bool:
        """Take the lease, or say again that the owner lives; False when another one has it."""
        with CancelScope(shield=True):  # each request has a deadline of its own
            self.is_held = await self._claim()
        return self.is_held

    async def _claim(self) -> bool:
        if await self._put(self._revision):
            return True
        found = await self._read()
        if found is None:
            return await self._put(0)
        if found.data == self._owner:  # an earlier answer got lost
            return await self._put(found.seq)
        self.other, self._revision = found.data.decode(errors="replace"), 0
        return False

    async def release(self) -> None:
        """Give the lease back, if it is held and JetStream answers."""
        with CancelScope(shield=True), suppress(JetStreamError, Unavailable):
            if self._revision:
                await request(self._jetstream, f"STREAM.MSG.DELETE.{LEASES_STREAM}", {"seq": self._revision})
        self._revision = 0

    async def _put(self, revision: int) -> bool:
        """Write the key where it has this revision; 0: where it is not there."""
        connection, headers = connection_of(self._jetstream), {_EXPECTED: str(revision)}
        try:
            answer = await connection.request(self._subject, self._owner, _TIMEOUT, headers=headers)
        except nats.errors.NoRespondersError:
            await self._make_bucket()
            return False
        except (nats.errors.Error, TimeoutError) as exc:
            last = connection.last_error
            raise Unavailable(
                f"{self._subject}: expected JetStream to keep it, got {exc} (last error: {last})"
            ) from exc
        said = msgspec.json.decode(answer.data, type=_PubAck)
        if said.error is None:
            self._revision = said.seq
            return True
        if said.error.err_code == _ANOTHER_REVISION:
            return False
        raise Unavailable(f"{self._subject}: expected JetStream to keep it, got {said.error.description}")

    async def holder(self) -> str:
        """Return the owner that lives now; nothing when there is none."""
        try:
            found = await self._read()
        except UnknownStream:  # nobody has ever captured here
            return ""
        return "" if found is None else found.data.decode(errors="replace")

    async def _read(self) -> _Message | None:
        try:
            answer = await request(self._jetstream, f"STREAM.MSG.GET.{LEASES_STREAM}", {"last_by_subj": self._subject})
        except JetStreamError as exc:
            if exc.err_code == _NOT_THERE:
                return None
            raise
        return msgspec.json.decode(answer, type=_Got).message

    async def _make_bucket(self) -> None:
        """Make the bucket, in three copies where there are so many servers: it must not hang on one of them."""
        for copies in (_COPIES, 1):
            try:
                await request(self._jetstream, f"STREAM.CREATE.{LEASES_STREAM}", _bucket(copies))
            except JetStreamError as exc:
                if exc.err_code in _TOO_FEW_SERVERS and copies > 1:
                    continue
                if exc.err_code != NAME_IN_USE:
                    raise
            return


def _bucket(copies: int) -> dict[str, object]:
    return {
        "name": LEASES_STREAM,
        "subjects": [lease_subject(">")],
        "max_msgs_per_subject": 1,
        "max_age": int(LASTS * NANOSECONDS),
        "storage": "file",
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "num_replicas": copies,
    }


def lease_key(capture: str, stream: str, where: str) -> str:
    """Return the key of a capture's lease: another one for each capture, stream and archive."""
    readable = re.sub(r"[^0-9A-Za-z_-]", "_", capture)[:60]
    digest = blake2b(f"{capture}\0{stream}\0{where}".encode(), digest_size=8).hexdigest()
    return f"{readable}.{digest}"
