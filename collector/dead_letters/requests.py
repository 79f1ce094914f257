"""The requests of `collector dead-letters`, as values: its command line makes them, `work.py` does them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from bson import ObjectId

    from collector.dead_letters.summary import Filter


@dataclass(frozen=True, slots=True)
class List:
    """List letters."""

    key: str
    wanted: Filter
    as_json: bool


@dataclass(frozen=True, slots=True)
class Show:
    """Show one letter, or write its bytes alone."""

    key: str
    letter_id: ObjectId
    raw: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class Redrive:
    """Publish letters again."""

    key: str
    wanted: Filter
    dry_run: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class Purge:
    """Remove letters; `yes` asks nobody."""

    key: str
    wanted: Filter
    dry_run: bool
    yes: bool
    as_json: bool


Request: TypeAlias = List | Show | Redrive | Purge
