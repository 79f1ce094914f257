"""Reading what comes to the inbox of a pull: deliveries, messages without a body, and the status of a request. Pure."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from collector.decoding.headers import field as header
from collector.decoding.headers import headers
from collector.flow.receipts import read_reply
from collector.model import Delivery

if TYPE_CHECKING:
    from collector.jetstream.parser import AnyFrame


class PullStatus(Enum):
    """The meaning of a status message, by its code and text in nats-server (server/consumer.go)."""

    HEARTBEAT = auto()
    REQUEST_DONE = auto()
    REQUEST_EXPIRED = auto()
    NO_MESSAGES = auto()
    MESSAGE_TOO_LARGE = auto()
    DURABLE_DELETED = auto()
    DURABLE_IS_PUSH = auto()
    LEADER_CHANGED = auto()
    SERVER_STOPS = auto()
    LIMIT_EXCEEDED = auto()
    NOBODY_ANSWERS = auto()
    UNKNOWN = auto()


class Signal(Enum):
    """A state of the pull that the consumer has to act on."""

    RECHECK = auto()
    """Stream or durable may be gone or changed: check, re-create or wait."""
    SILENT = auto()
    """Neither a message nor a heartbeat for two heartbeats: the requests may be lost (nats.py#504)."""
    REFUSED = auto()
    """The server refuses our requests, or ends them again and again without a message: ask again later."""
    LOOK = auto()
    """Nobody has answered the first requests of a new connection: a server that stands alone loses its durables with
    its memory when it restarts."""
    CUT = auto()
    """A message came without its body: the durable may deliver headers only."""


_BY_CODE = {
    "100": PullStatus.HEARTBEAT,
    "404": PullStatus.NO_MESSAGES,
    "408": PullStatus.REQUEST_EXPIRED,
    "503": PullStatus.NOBODY_ANSWERS,
}
_CONFLICTS = (
    ("batch completed", PullStatus.REQUEST_DONE),
    ("message size exceeds maxbytes", PullStatus.MESSAGE_TOO_LARGE),
    ("consumer deleted", PullStatus.DURABLE_DELETED),
    ("consumer is push based", PullStatus.DURABLE_IS_PUSH),
    ("leadership change", PullStatus.LEADER_CHANGED),
    ("server shutdown", PullStatus.SERVER_STOPS),
    ("exceeded max", PullStatus.LIMIT_EXCEEDED),
)
_SIGNALS = {
    PullStatus.DURABLE_DELETED: Signal.RECHECK,
    PullStatus.DURABLE_IS_PUSH: Signal.RECHECK,
    PullStatus.NOBODY_ANSWERS: Signal.RECHECK,
    PullStatus.LIMIT_EXCEEDED: Signal.REFUSED,
    PullStatus.UNKNOWN: Signal.REFUSED,
}


def read_status(raw_headers: bytes) -> tuple[PullStatus, str]:
    """Name the status of a header block `NATS/1.0 CODE text`; return it with the server's own line."""
    line = raw_headers.split(b"\r\n", 1)[0].decode("latin-1")
    _, _, words = line.partition(" ")
    code, _, text = words.partition(" ")
    if code == "409":
        text = text.lower()
        return next((status for start, status in _CONFLICTS if text.startswith(start)), PullStatus.UNKNOWN), words
    return _BY_CODE.get(code, PullStatus.UNKNOWN), words


def signal_of(status: PullStatus) -> Signal | None:
    """Return what the consumer has to act on after a status."""
    return _SIGNALS.get(status)


def unused(raw_headers: bytes) -> tuple[int, int]:
    """Return the messages and bytes of an ended request that were not sent; 0 where the server does not tell."""
    values = {b"nats-pending-messages": 0, b"nats-pending-bytes": 0}
    for line in raw_headers.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() in values and value.strip().isdigit():
            values[name.lower()] = int(value)
    return values[b"nats-pending-messages"], values[b"nats-pending-bytes"]


class Bare(Enum):
    """The kind of a message without a body, by its headers."""

    ENTRY = auto()
    """The message was published without a body."""
    CUT = auto()
    """The server has left the body out."""
    MARKER = auto()
    """The server's own note that the last message of a subject is gone; no publisher sent it."""


def read_bare(raw_headers: bytes) -> Bare:
    """Return the kind of a message without a body."""
    fields = headers(raw_headers)
    if header(fields, "Nats-Marker-Reason"):
        return Bare.MARKER
    size = header(fields, "Nats-Msg-Size")
    return Bare.CUT if size.isdecimal() and size.strip("0") else Bare.ENTRY


def read_delivery(frame: AnyFrame, head: str = "", stream: str = "") -> Delivery:
    """Read the reply subject `$JS.ACK.[domain.account.]stream.durable.delivered.sequence.sequence.time.pending[.x]`.

    A reply subject that begins with `head` is of `stream`. Raises ValueError for another kind of subject: then the
    message was not delivered by JetStream.
    """
    subject, encoded, raw_headers, body = frame
    reply = encoded.decode()
    before, *fields = reply.rsplit(".", 5)
    if before != head or not head:
        stream, fields = read_reply(reply)
    return Delivery(subject.decode(), reply, body, raw_headers, stream, int(fields[1]), int(fields[0]), int(fields[3]))


def still_pending(delivery: Delivery) -> int:
    """Return how many messages were not delivered yet at the time of this delivery."""
    return int(read_reply(delivery.reply)[1][4])
