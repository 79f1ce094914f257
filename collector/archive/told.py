"""The events of a capture, and the numbers that it keeps about itself. Who runs it may log, show or measure them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collector.archive.record import BlockKind, CutTrigger


@dataclass(frozen=True, slots=True)
class Waiting:
    """The capture waits until it can go on; the reason is told once."""

    why: str
    owned: bool = False
    """Whether it waits only because another process is the owner."""


@dataclass(frozen=True, slots=True)
class Owning:
    """This process is the owner, and reads from behind the cursor."""

    cursor: int


@dataclass(frozen=True, slots=True)
class Doubted:
    """The owner is not sure of what it holds, and begins again at the end of the log."""

    why: str
    messages: int
    """Messages that it held; they are read again."""


@dataclass(frozen=True, slots=True)
class CutStored:
    """All blocks of a cut are there."""

    number: int
    trigger: CutTrigger
    messages: int
    rows: int
    dead_letters: int
    overflow: int
    """Rows in blocks of `__other__`."""
    blocks: int
    raw_bytes: int
    """Of the bodies of its messages."""
    bytes: int
    """Of its blocks."""
    to: int
    seconds: float
    """From its record to its last block."""


@dataclass(frozen=True, slots=True)
class CutCompleted:
    """Blocks of the last record were missing, and have been made from the stream."""

    number: int
    blocks: int
    rows: int
    expired: int


@dataclass(frozen=True, slots=True)
class MessagesExpired:
    """Messages left the stream before anybody read them."""

    messages: int


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The store did not do what it was asked for, and is asked again."""

    error: str
    reason: str
    """`unavailable` or `refused`."""
    attempt: int
    delay: float


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """An attempt to create a block has ended."""

    path: str
    key: str
    kind: BlockKind
    rows: int
    bytes: int
    seconds: float
    error: str = ""
    """Empty: the block is there."""


Told: TypeAlias = Waiting | Owning | Doubted | CutStored | CutCompleted | MessagesExpired | StoreFailed | StoredBlock
Tell: TypeAlias = Callable[[Told], object]


def nobody(_: object) -> None:
    """Hear an event, and do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The numbers of one capture at one moment; those that are counted begin with the process."""

    is_owner: bool
    """Whether this process reads the stream now."""
    cursor: int
    held_messages: int
    """Messages that were received and are not archived."""
    lag_messages: int
    """Those, and the messages that had not come when the last one came."""
    oldest_message_age: float
    """Seconds that the oldest message in hand has been in the stream, by the clocks of both; 0 without one."""
    open_cut_age: float
    """Seconds of the oldest cut whose blocks are not all there; 0 when there is no message in one."""
    open_cut_bytes: int
    open_cut_blocks: int
    open_cut_keys: int
    fetched: int
    archived: int
    """Messages in cuts whose blocks are all there."""
    blocks: int
    rows: int
    raw_bytes: int
    stored_bytes: int
    cuts: Mapping[CutTrigger, int]
    store_failures: Mapping[str, int]
    store_seconds: float
    """Time that all creations of blocks took."""
    repeats: int
    resets: Mapping[str, int]
    """How often the owner began again, by the doubt."""
    tenures: int
    completed_blocks: int
    expired_messages: int
    overflow_rows: int
    """Rows in blocks of `__other__`."""
    dead_letters: int


@dataclass(slots=True)
class Tally:
    """Counts what a capture does."""

    fetched: int = 0
    archived: int = 0
    blocks: int = 0
    rows: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0
    store_seconds: float = 0.0
    repeats: int = 0
    tenures: int = 0
    completed_blocks: int = 0
    expired_messages: int = 0
    overflow_rows: int = 0
    dead_letters: int = 0
    cuts: Counter[CutTrigger] = field(default_factory=Counter)
    store_failures: Counter[str] = field(default_factory=Counter)
    resets: Counter[str] = field(default_factory=Counter)

    def observe(self, event: Told) -> None:
        """Count an event."""
        match event:
            case StoredBlock():
                self.store_seconds += event.seconds
                if not event.error:
                    self.blocks += 1
                    self.stored_bytes += event.bytes
            case CutStored():
                self.archived += event.messages
                self.rows += event.rows
                self.raw_bytes += event.raw_bytes
                self.dead_letters += event.dead_letters
                self.overflow_rows += event.overflow
                self.cuts[event.trigger] += 1
            case CutCompleted():
                self.completed_blocks += event.blocks
                self.expired_messages += event.expired
            case MessagesExpired():
                self.expired_messages += event.messages
            case StoreFailed():
                self.store_failures[event.reason] += 1
            case Doubted():
                self.resets[event.why] += 1
            case Owning():
                self.tenures += 1
            case _:
                pass
