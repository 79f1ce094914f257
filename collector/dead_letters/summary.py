"""A dead letter for its operator, as a summary and whole, and a filter of letters. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from bson import ObjectId

    from collector.model import Reason


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects letters; an empty or missing field selects all. With a limit, the letters that failed first."""

    reasons: tuple[Reason, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[ObjectId, ...] = ()
    limit: int | None = None

    def means(self, letter: Summary) -> bool:
        """Tell whether the filter selects a letter, apart from the limit."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.since is None or letter.failed_at >= self.since)
            and (self.until is None or letter.failed_at < self.until)
            and (not self.ids or letter.id in self.ids)
        )

    def query(self) -> dict[str, Any]:
        """Return the filter as a query of MongoDB."""
        times = {"$gte": self.since, "$lt": self.until}
        query = {
            "reason": {"$in": [reason.value for reason in self.reasons]} if self.reasons else None,
            "failed_at": {name: moment for name, moment in times.items() if moment is not None} or None,
            "_id": {"$in": list(self.ids)} if self.ids else None,
        }
        return {name: wanted for name, wanted in query.items() if wanted is not None}


@dataclass(frozen=True, slots=True)
class Summary:
    """A letter without anything that its publisher wrote."""

    id: ObjectId
    failed_at: datetime
    published_at: datetime
    reason: str
    subject: str
    stream: str
    sequence: int
    entry: int | None
    deliveries: int
    attempt: int
    size: int | None
    """Bytes of the body; None when the body is a file."""
    body_file: ObjectId | None


@dataclass(frozen=True, slots=True)
class Letter:
    """A whole letter."""

    summary: Summary
    error: str
    headers: tuple[tuple[bytes, bytes], ...]
    """The original headers, in order."""
    body: bytes | None
    """None when its file is gone, because somebody has removed or replaced the letter meanwhile."""
