"""The last error of a replica or of a logger, and whether it is past. Pure: the caller has a clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collector.events import Stage

QUIET_AFTER = 60.0
"""Seconds after which an error that has not come again is past. Everything that fails is tried again sooner."""


@dataclass(slots=True)
class LastError:
    """An error with its time; empty before the first one."""

    text: str = ""
    at: str | None = None
    stage: Stage | None = None
    """Where a try failed; None for a crash or a wait."""
    _seconds: float | None = None
    """When it came, by the caller's clock; None when its cause is gone."""

    def note(self, text: str, now: float, stage: Stage | None = None) -> None:
        """Take in an error."""
        self.text, self.at, self.stage, self._seconds = text, time_of_day(), stage, now

    def recover(self) -> None:
        """Take in that the cause of the error is gone."""
        self._seconds = None

    def is_past(self, now: float) -> bool:
        """Tell whether its cause is gone, or it has not come again for a while."""
        return bool(self.text) and (self._seconds is None or now - self._seconds > QUIET_AFTER)

    def as_json(self, *, past: bool) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"last_error": self.text, "last_error_at": self.at, "last_error_past": past}


def time_of_day() -> str:
    """Return the present time as `/status` shows it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
