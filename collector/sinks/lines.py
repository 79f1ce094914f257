"""Entries in, lines of NDJSON out, and refusals for entries that no line can hold. Pure.

A line is one JSON object in UTF-8, with the fields of the document in their order: those of `data`, then `_id`,
`timestamp` and `metadata`. Ids are hex text, times RFC 3339 in UTC, bytes base64. The same delivery always has the same
line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collector.model import Reason, Refusal
from transfer.ndjson import json_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.model import Entry

_TOO_DEEP = "expected fewer levels of nesting"
_NO_JSON = "expected a document that JSON can hold, with text as the name of each field"


class Lines:
    """The lines of a batch: `lines[i]` is that of `entries[i]`; the other entries are refused."""

    def __init__(self, entries: Sequence[Entry], logger: str = "") -> None:
        """Make the lines; with a logger each begins with its key, as the field `_logger`."""
        self.entries: list[Entry] = []
        self.lines: list[bytes] = []
        self.refused: list[Refusal] = []
        for entry in entries:
            try:
                line = json_object(_of_logger(logger, entry.document) if logger else entry.document)
            except RecursionError:
                self.refused.append(Refusal(entry, Reason.DOCUMENT_INVALID, _TOO_DEEP))
            except (TypeError, ValueError, OverflowError) as exc:
                self.refused.append(Refusal(entry, Reason.DOCUMENT_INVALID, f"{_NO_JSON}, got {exc}"))
            else:
                self.entries.append(entry)
                self.lines.append(line + b"\n")


def _of_logger(logger: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return a document that begins with its logger, also when its publisher has a field of that name."""
    named = {"_logger": logger, **document}
    named["_logger"] = logger
    return named
