"""The choice of a replay: which archive, which part, into what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.archive.replaying.replay import Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The archive, the part and the target that a user has chosen."""

    root: str
    capture: str
    logger: str | None
    stream: str | None
    prefix: str
    wanted: Wanted
    rate: float | None
    cursor: Path | None
    dry_run: bool
    as_json: bool

    def described(self, folder: str) -> dict[str, str]:
        """Return the facts that a cursor is for: with others it would be that of another replay."""
        wanted = self.wanted
        return {
            "root": self.root,
            "capture": folder.removeprefix("_archive/"),
            "to": f"logger {self.logger}" if self.logger is not None else f"stream {self.stream} {self.prefix}",
            "since": wanted.since,
            "until": wanted.until,
            "key": "" if wanted.key is None else f"={wanted.key}",
            "cuts": f"{wanted.first}-{wanted.last or ''}",
        }

    def cursor_path(self, folder: str) -> Path:
        """Return the file of the cursor."""
        if self.cursor is not None:
            return self.cursor
        to = self.logger or self.stream
        return Path(f"replay-{folder.removeprefix('_archive/')}-to-{to}.cursor")
