"""Dead letters as lines of a table, as text for a person, and as JSON values. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from collector.dead_letters.readable import readable
from transfer.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collector.dead_letters.summary import Letter, Summary

_ROW = "{:24}  {:24}  {:18}  {:>10}  {:>7}  {:>10}  {:>5}"
HEAD = _ROW.format("ID", "FAILED AT", "REASON", "BYTES", "ATTEMPT", "SEQUENCE", "ENTRY")


def row(letter: Summary) -> str:
    """Return the line of a letter below `HEAD`."""
    failed_at = letter.failed_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    size = "in a file" if letter.size is None else letter.size
    entry = "" if letter.entry is None else letter.entry
    return _ROW.format(str(letter.id), failed_at, letter.reason, size, letter.attempt, letter.sequence, entry).rstrip()


def values(letter: Summary) -> dict[str, object]:
    """Return the summary of a letter as JSON values."""
    return {
        "id": str(letter.id),
        "failed_at": letter.failed_at.isoformat(),
        "published_at": letter.published_at.isoformat(),
        "reason": letter.reason,
        "subject": letter.subject,
        "stream": letter.stream,
        "sequence": letter.sequence,
        "entry": letter.entry,
        "deliveries": letter.deliveries,
        "attempt": letter.attempt,
        "size": letter.size,
    }


def whole(letter: Letter, body: bytes) -> dict[str, object]:
    """Return all of a letter as JSON values."""
    headers = _headers(letter)
    kind, text = _content(letter, body)
    return {
        **values(letter.summary),
        "error": letter.error,
        "size": len(body),
        "headers": headers,
        "kind": kind,
        "text": text,
        "body": base64.b64encode(body).decode(),
    }


def lines(letter: Letter, body: bytes) -> Iterator[str]:
    """Yield all of a letter as text that is safe to print."""
    for name, value in {**values(letter.summary), "size": len(body), "error": letter.error}.items():
        yield f"{name + ':':14}{'-' if value is None else printable(str(value))}"
    for name, header in _headers(letter):
        yield f"{'header:':14}{printable(name)}: {printable(header)}"
    kind, text = _content(letter, body)
    yield f"{'body:':14}{kind}\n\n{text}"


def _headers(letter: Letter) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode(errors="backslashreplace")) for name, value in letter.headers]


def _content(letter: Letter, body: bytes) -> tuple[str, str]:
    """Return kind and text of a body; the headers describe it when the message was one entry."""
    headers = _headers(letter) if letter.summary.entry is None else []
    return readable(body, {name.lower(): value for name, value in headers})
