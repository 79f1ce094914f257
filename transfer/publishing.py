"""One message on its way into JetStream: sent until it is confirmed, always under the same message id."""

from __future__ import annotations

import gzip
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec
from nats import errors as nats_errors
from nats.js import errors as js_errors

from transfer.errors import (
    Conflict,
    InvalidEntry,
    JetStreamError,
    PublishUnconfirmed,
    Refused,
    TransferError,
    Unavailable,
    UnknownLogger,
    UnknownStream,
)
from transfer.jetstream.api import connection_of, server_of
from transfer.jetstream.connection import pause
from transfer.jetstream.permissions import refusal
from transfer.jetstream.streams import stream_state
from transfer.wire import BUNDLE, CONTENT_ENCODING, CONTENT_TYPE, MESSAGE_ID, TRANSFER_ATTEMPT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nats.js import JetStreamContext
    from nats.js.api import PubAck

    from transfer.names import Names

ATTEMPT_TIMEOUT = 2.0
"""Seconds to wait for one confirmation: one that a lost connection took along never comes."""
HEADERS_ROOM = 128
"""Bytes our headers may need. The server counts them, nats-py does not, and the server closes the connection for it."""
_COMPRESS_FROM = 4096
"""Bytes of the smallest body that is compressed."""
_PAYS = 0.75
"""A compressed body has this part of its size at most, or it is sent as it is."""
NO_RESPONDERS_RETRIES = 2
NO_RESPONDERS_PAUSE = 0.25


@dataclass(frozen=True, slots=True)
class Confirmation:
    """JetStream has the entry, at `sequence` of `stream`; `duplicate` when it had it before."""

    stream: str
    sequence: int
    id: bytes
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Publication:
    """A message with one entry or a bundle of them. It is sent as often as needed, always with the same bytes."""

    key: str
    subject: str
    stream: str
    id: bytes
    body: bytes
    timestamp: int | None = None
    """Nanoseconds since 1970 of a single entry, for `PublishUnconfirmed`. A bundle has none."""
    sent_before: bool = False
    content: Mapping[str, str] = field(default_factory=dict)
    """Headers that say how to read the body."""

    def headers(self, attempt: int) -> dict[str, str]:
        """Return the headers of an attempt, which are counted from 1."""
        headers = {MESSAGE_ID: self.id.hex(), **self.content}
        total = attempt + self.sent_before
        return headers if total == 1 else headers | {TRANSFER_ATTEMPT: str(total)}


class Encoded(Protocol):
    """An entry as bytes."""

    @property
    def id(self) -> bytes:
        """The identity of the entry."""

    @property
    def body(self) -> bytes:
        """The body of a message with this entry alone."""


def publication_of(names: Names, key: str, entries: Sequence[Encoded], *, compress: bool = False) -> Publication:
    """Return the message of one entry, or the bundle of several; the same bytes for the same entries."""
    first, content = entries[0], dict[str, str]()
    body = first.body
    if len(entries) > 1:
        content[CONTENT_TYPE] = BUNDLE
        body = msgspec.msgpack.encode([msgspec.Raw(entry.body) for entry in entries])
    if compress and len(body) >= _COMPRESS_FROM:
        packed = gzip.compress(body, 1, mtime=0)
        if len(packed) <= _PAYS * len(body):
            content[CONTENT_ENCODING] = "gzip"
            body = packed
    return Publication(key, names.subject(key), names.stream(key), first.id, body, content=content)


async def confirm(jetstream: JetStreamContext, publication: Publication, timeout: float) -> Confirmation:
    """Send the entry until JetStream confirms it; see `Transfer.publish` for what is raised."""
    most = connection_of(jetstream).max_payload - HEADERS_ROOM
    if len(publication.body) > most:
        raise InvalidEntry(
            "entry", f"at most {most} bytes, which is what the server takes", f"{len(publication.body)} bytes"
        )
    sending = _Sending(publication, time.monotonic() + timeout)
    while True:
        try:
            ack = await jetstream.publish(
                publication.subject,
                publication.body,
                timeout=sending.next_timeout(),
                headers=publication.headers(sending.attempt),
            )
        except js_errors.NoStreamResponseError as error:
            await sending.nobody_answered(jetstream, error)
        except js_errors.APIError as error:
            raise sending.failed(_from_jetstream(publication.subject, error)) from error
        except TimeoutError as error:
            missing = refusal(connection_of(jetstream), publication.subject)
            if missing is not None and missing.action == "publish":
                raise sending.failed(Refused(f"logger {publication.key!r}: {missing}")) from error
            sending.not_answered(str(missing or ""))
        except nats_errors.Error as error:
            raise sending.failed(Unavailable(f"publishing to {publication.subject}: {error}")) from error
        else:
            return _checked(publication, ack)


class _Sending:
    """The state of an entry that is not confirmed yet."""

    def __init__(self, publication: Publication, deadline: float) -> None:
        self._publication = publication
        self._deadline = deadline
        self._maybe_stored = False
        self._without_responder = 0
        self.attempt = 1

    def next_timeout(self) -> float:
        """Return the seconds that the next attempt may take."""
        return max(0.001, min(ATTEMPT_TIMEOUT, self._deadline - time.monotonic()))

    def not_answered(self, why: str) -> None:
        """Count an attempt that may have stored the entry; raise `PublishUnconfirmed` when it was the last."""
        self._maybe_stored = True
        if time.monotonic() >= self._deadline:
            raise self._unconfirmed(why)
        self.attempt += 1

    async def nobody_answered(self, jetstream: JetStreamContext, error: Exception) -> None:
        """Pause after an attempt that stored nothing; raise when the stream does not come."""
        self._without_responder += 1
        if self._without_responder <= NO_RESPONDERS_RETRIES:
            await pause(NO_RESPONDERS_PAUSE)
            return
        publication = self._publication
        try:
            await stream_state(jetstream, publication.stream)
        except UnknownStream:
            namespace = publication.subject.partition(".")[0]
            raise self.failed(UnknownLogger(publication.key, namespace, server_of(jetstream))) from error
        except TransferError as unavailable:
            raise self.failed(unavailable) from error
        raise self.failed(
            Unavailable(f"stream {publication.stream!r} is there and does not take entries now")
        ) from error

    def failed(self, error: TransferError) -> TransferError:
        """Return what to raise: the error, or `PublishUnconfirmed` when an earlier attempt may have got through."""
        return self._unconfirmed() if self._maybe_stored else error

    def _unconfirmed(self, why: str = "") -> PublishUnconfirmed:
        publication = self._publication
        return PublishUnconfirmed(publication.key, publication.id, publication.timestamp, self.attempt, why)


def _from_jetstream(subject: str, error: js_errors.APIError) -> TransferError:
    if isinstance(error, js_errors.ServiceUnavailableError):
        return Unavailable(f"publishing to {subject}: JetStream answered {error.description}")
    return JetStreamError(subject, error.code or 0, error.err_code or 0, error.description or "an error")


def _checked(publication: Publication, ack: PubAck) -> Confirmation:
    if ack.stream != publication.stream:
        took = f"but {ack.stream!r}, which nobody collects from, took the entry"
        raise Conflict(f"subject {publication.subject!r}: expected stream {publication.stream!r}, {took}")
    return Confirmation(ack.stream, ack.seq, publication.id, bool(ack.duplicate))
