"""A NATS connection of plain blocking sockets, as cheap as Python can be: what is measured is the servers, not us.

It knows one server on loopback, no logins, no reconnects: whatever goes wrong is raised.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_READ = 1 << 20
_TIMEOUT = 60.0
_PLAIN = re.compile(rb"MSG (\S+) \d+ (?:(\S+) )?(\d+)\r\n")
_HEADED = re.compile(rb"HMSG (\S+) \d+ (?:(\S+) )?(\d+) (\d+)\r\n")
_CONNECT = {
    "verbose": False,
    "pedantic": False,
    "headers": True,
    "no_responders": True,
    "lang": "bench",
    "version": "1",
}


class WireBroken(OSError):
    """nats-server said or did what the benchmark has no use for."""


class Message(NamedTuple):
    """One message as it stood on the wire."""

    subject: bytes
    reply: bytes
    headers: bytes
    body: bytes


class Wire:
    """One connection; not for use by two threads."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self.server: dict[str, Any] = {}
        self.inbox = b"_INBOX.%b" % secrets.token_hex(8).encode()
        self._numbers = itertools.count()
        self.send(b"CONNECT %b\r\nSUB %b.* 1\r\n" % (json.dumps(_CONNECT).encode(), self.inbox))

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send protocol bytes."""
        self._socket.sendall(data)

    def receive(self) -> list[Message]:
        """Wait for the next read of the socket and return the messages in it, which may be none."""
        data = self._socket.recv(_READ)
        if not data:
            raise WireBroken("expected nats-server to go on talking, got the end of the connection")
        buffer = self._rest + data
        messages: list[Message] = []
        start = 0
        while start < len(buffer):
            if found := _PLAIN.match(buffer, start):
                subject, reply, size = found.groups()
                headed = 0
            elif found := _HEADED.match(buffer, start):
                subject, reply, headers, size = found.groups()
                headed = int(headers)
            elif (line_end := buffer.find(b"\r\n", start)) >= 0:
                self._obey(buffer[start:line_end])
                start = line_end + 2
                continue
            else:
                break
            body = found.end()
            end = body + int(size)
            if end + 2 > len(buffer):
                break
            message = Message(subject, reply or b"", buffer[body : body + headed], buffer[body + headed : end])
            messages.append(message)
            start = end + 2
        self._rest = buffer[start:]
        return messages

    def _obey(self, line: bytes) -> None:
        if line.startswith(b"PING"):
            self.send(b"PONG\r\n")
        elif line.startswith(b"INFO "):
            self.server = json.loads(line[5:])
        elif line.startswith(b"-ERR"):
            raise WireBroken(f"expected nats-server to be content, got {line.decode()}")

    def next_reply(self) -> bytes:
        """Return a reply subject that is answered to this connection."""
        return b"%b.%d" % (self.inbox, next(self._numbers))

    def request(self, subject: str, payload: bytes = b"") -> dict[str, Any]:
        """Return the JSON answer to one request."""
        return self.requests([subject], [payload])[0]

    def requests(self, subjects: Sequence[str], payloads: Sequence[bytes] = ()) -> list[dict[str, Any]]:
        """Send all at once and return their answers in the same order; without payloads, all are empty."""
        replies = [self.next_reply() for _ in subjects]
        asks = zip(subjects, replies, payloads or itertools.repeat(b""))  # noqa: B905 - the last one has no end
        self.send(b"".join([b"PUB %b %b %d\r\n%b\r\n" % (s.encode(), r, len(p), p) for s, r, p in asks]))
        answers: dict[bytes, bytes] = {}
        while len(answers) < len(replies):
            answers |= {message.subject: message.body for message in self.receive()}
        return [json.loads(answers[reply] or b"{}") for reply in replies]


@contextmanager
def wired(port: int) -> Iterator[Wire]:
    """Connect for the length of the block."""
    wire = Wire(port)
    try:
        yield wire
    finally:
        wire.close()
