"""The means of one capture, which all tenures of this process share."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from collector.archive.layout import ulid

if TYPE_CHECKING:
    from collector.archive.formats import Format
    from collector.archive.making import Making
    from collector.archive.owning.beside import Beside
    from collector.archive.rows import Key
    from collector.archive.spool import Spool
    from collector.archive.told import Tally, Tell
    from collector.archive.uploads import Uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """The settings of a capture, and the parts that its owner works with."""

    capture: str
    stream: str
    owner: str
    """This process: a name that no other one has or had."""
    template: str
    making: Making
    form: Format
    key: Key | None
    spool: Spool
    uploads: Uploads
    tally: Tally
    tell: Tell
    beside: Beside | None = None
    """Another sink of the same messages, which are acked when both have them."""
    described: dict[str, str] = field(default_factory=dict)
    """The way in which blocks are made, as records have it."""


def new_id() -> str:
    """Return a ULID."""
    return ulid(time.time_ns() // 1_000_000, secrets.token_bytes(10))
