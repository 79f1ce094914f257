"""Events of the archives of loggers, or of captures: counts of their work, and their numbers at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Archived(StrEnum):
    """The counters of a capture."""

    BLOCKS = "blocks"
    ROWS = "rows"
    RAW_BYTES = "raw_bytes"
    STORED_BYTES = "stored_bytes"
    CUTS = "cuts"
    STORE_FAILURES = "store_failures"
    REPEATS = "repeats"
    RESETS = "resets"
    TENURES = "tenures"
    COMPLETED_BLOCKS = "completed_blocks"
    EXPIRED_MESSAGES = "expired_messages"
    OVERFLOW_ROWS = "overflow_rows"
    DEAD_LETTERS = "dead_letters"


CUT_TRIGGERS = ("bytes", "messages", "blocks", "age", "window", "shutdown")
"""Why a cut was closed: the closed list of `CutTrigger`, the label of a metric."""
DOUBTS = ("gap", "count", "reconnect", "silence", "refused", "stream", "record")
"""Why an owner begins again: the closed list of `Doubt`, the label of a metric."""
STORE_FAILURES = ("unavailable", "refused")
"""Why a store did not do what it was asked for."""


@dataclass(frozen=True, slots=True)
class ArchiveCounted:
    """A capture has done something: by counter how much, and for `label` where the counter has one."""

    logger: str
    counts: Mapping[Archived, int]
    label: str = ""
    seconds: float | None = None
    """How long an attempt to create a block took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSampled:
    """The numbers of a capture at one moment, as this process has them."""

    logger: str
    is_owner: bool
    """Whether this process reads the stream; what another process reads is not known here."""
    cursor: int = 0
    lag_messages: int = 0
    oldest_message_age: float = 0.0
    open_cut_age: float = 0.0
    open_cut_bytes: int = 0
    keys: int = 0
    unacked_messages: int = 0
    window: float = 0.0


@dataclass(frozen=True, slots=True)
class ArchiveTrouble:
    """Stream or log are not as the archive knows them, so that nothing is archived; or they are again."""

    logger: str
    why: str = ""
    """Empty when they are."""


@dataclass(frozen=True, slots=True)
class ArchiveStored:
    """All blocks of a cut are there."""

    logger: str
    number: int
    to: int
    messages: int
    trigger: str


@dataclass(frozen=True, slots=True)
class ArchiveGone:
    """This process archives the logger no more."""

    logger: str
