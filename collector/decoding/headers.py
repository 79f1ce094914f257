"""The header block of a message: bytes in, fields out. Pure; nothing here raises, whatever a publisher sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.wire import TRANSFER_ATTEMPT, TRANSFER_CONTENT_TIME

if TYPE_CHECKING:
    from collector.model import Delivery

_BYTES = "latin-1"
"""The encoding in which every byte is a character, so that any header comes back unchanged, also from MongoDB."""
_CONTENT_TIME = TRANSFER_CONTENT_TIME.lower().encode()
_LAST_MS = 253_402_300_799_999
"""The end of the year 9999."""
MAX_ATTEMPT = 999_999_999
"""The highest Transfer-Attempt that is accepted; a message with a higher one counts as sent for the first time."""


def headers(raw_headers: bytes) -> list[tuple[str, str]]:
    """Return all fields of a header block in order; a field that came twice is there twice.

    A character stands for a byte, see `_BYTES`. A line without a colon is a name without a value.
    """
    fields = []
    for line in raw_headers.decode(_BYTES).split("\r\n")[1:]:
        if line:
            name, _, value = line.partition(":")
            fields.append((name, value.strip(" \t")))
    return fields


def field(fields: list[tuple[str, str]], wanted: str) -> str:
    """Return the value of a field in lower case; the values of a repeated field are joined, as in HTTP."""
    return ", ".join(value.lower() for name, value in fields if name.lower() == wanted.lower())


def attempt(raw_headers: bytes) -> int:
    """Return which sending of the entry this message is: its header Transfer-Attempt, else 1."""
    value = field(headers(raw_headers), TRANSFER_ATTEMPT)
    believed = value.isascii() and value.isdigit() and len(value) <= len(str(MAX_ATTEMPT))
    return max(1, int(value)) if believed else 1


def first_published_ns(delivery: Delivery) -> int:
    """Return when a message was first published, in nanoseconds since 1970; a redrive does not change it."""
    if _CONTENT_TIME not in delivery.raw_headers.lower():
        return delivery.published_ns
    value = field(headers(delivery.raw_headers), TRANSFER_CONTENT_TIME)
    believed = value.isascii() and value.isdigit() and len(value) < 16 and int(value) <= _LAST_MS
    return int(value) * 1_000_000 if believed else delivery.published_ns
