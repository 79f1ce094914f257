"""Messages as they come to an inbox: foreign ones, and ones without a body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from tests.support.fakes import delivery

if TYPE_CHECKING:
    from collector.model import Delivery


FOREIGN = [
    b"$JS.ACK.x",
    b"$JS.ACK.a.b.c.d.e.f.g",
    b"$JS.ACK.a.b.1.2.3.4",
    b"$JS.ACK.\xff.b.1.2.3.4.5",
    b"_INBOX.abc",
    b"",
]


def bare(sequence: int, headers: str, delivered: int = 1) -> Delivery:
    block = f"NATS/1.0\r\n{headers}\r\n\r\n".encode()
    return structs.replace(delivery(sequence, b"", delivered), raw_headers=block)
