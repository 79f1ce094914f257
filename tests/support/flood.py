"""Publishing as fast as nats-server takes it: many messages in one write, a confirmation asked for now and then."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from collector.local import NatsServer

_GROUP = 2000
_GROUP_BYTES = 4 * 1024 * 1024
_INBOX = b"_INBOX.flood"


async def flood(nats: NatsServer, subject: str, bodies: Iterable[bytes], raw_headers: bytes = b"") -> int:
    """Publish to the subject of a stream that is empty so far; return how many it has, each of them confirmed."""
    return await anyio.to_thread.run_sync(_flood, nats, subject.encode(), bodies, raw_headers)


async def send(nats: NatsServer, frames: Sequence[bytes]) -> None:
    """Send frames to any subjects, a hundred at a time, and return when nats-server has read them all."""
    await anyio.to_thread.run_sync(_send, nats, frames)


def header_block(**fields: str) -> bytes:
    """Make a header block; an underscore in a name is a hyphen."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items()]
    return f"NATS/1.0\r\n{''.join(lines)}\r\n".encode()


def frame(subject: bytes, body: bytes, raw_headers: bytes = b"", reply: bytes = b"") -> bytes:
    """Write one message as the protocol has it."""
    line = b" ".join(part for part in (subject, reply) if part)
    if raw_headers:
        sizes = b"%d %d" % (len(raw_headers), len(raw_headers) + len(body))
        return b"HPUB %b %b\r\n%b%b\r\n" % (line, sizes, raw_headers, body)
    return b"PUB %b %d\r\n%b\r\n" % (line, len(body), body)


def _flood(nats: NatsServer, subject: bytes, bodies: Iterable[bytes], raw_headers: bytes) -> int:
    published, unconfirmed = 0, 0
    with _connected(nats) as (connection, answers):
        for group in _groups(bodies):
            *most, last = group
            frames = [frame(subject, body, raw_headers) for body in most]
            connection.sendall(b"".join([*frames, frame(subject, last, raw_headers, _INBOX)]))
            published += len(group)
            unconfirmed += 1
            if unconfirmed == 2:  # the server takes one group while the next is on its way, and never more
                _confirmed(connection, answers)
                unconfirmed -= 1
        stored = 0
        for _ in range(unconfirmed):
            stored = _confirmed(connection, answers)
    assert stored == published, f"expected {published} messages in the stream, got {stored}"
    return published


def _send(nats: NatsServer, frames: Sequence[bytes]) -> None:
    with _connected(nats) as (connection, answers):
        for start in range(0, len(frames), 100):
            connection.sendall(b"".join(frames[start : start + 100]) + b"PING\r\n")
            line = answers.readline()
            assert line == b"PONG\r\n", f"expected nats-server to take it, got {line!r}"


def _groups(bodies: Iterable[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for body in bodies:
        group.append(body)
        size += len(body)
        if len(group) == _GROUP or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


@contextmanager
def _connected(nats: NatsServer) -> Iterator[tuple[socket.socket, BinaryIO]]:
    with socket.create_connection(("127.0.0.1", nats.port), 30) as connection, connection.makefile("rb") as answers:
        answers.readline()
        connection.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB %b 1\r\n' % _INBOX)
        yield connection, answers


def _confirmed(connection: socket.socket, answers: BinaryIO) -> int:
    """Return the sequence that the next confirmation says."""
    line = answers.readline()
    while not line.startswith(b"MSG"):
        assert line.startswith(b"PING"), f"expected a confirmation, got {line!r}"
        connection.sendall(b"PONG\r\n")
        line = answers.readline()
    confirmation = json.loads(answers.read(int(line.split()[-1]) + 2))
    assert "error" not in confirmation, confirmation
    return int(confirmation["seq"])
