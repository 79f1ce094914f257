"""The events of the service, as values: every stage reports them to one function.

Metrics, log and status are made from events, and tests check the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from collector.events.archiving import ArchiveCounted, ArchiveGone, ArchiveSampled, ArchiveStored, ArchiveTrouble
from collector.events.lifecycle import (
    BatchAgeChanged,
    ConnectionChanged,
    Listening,
    LogLost,
    LoopLag,
    ObserverFailed,
    Ready,
    ReplicasChanged,
    Starting,
    Stopping,
)
from collector.events.readings import Declared, Sampled, Storage, Waiting
from transfer.errors import Refused

if TYPE_CHECKING:
    from collections import Counter

    from collector.model import Reason, Trigger
    from transfer.errors import TransferError


class Stage(StrEnum):
    """The step in which a failure happened: a closed list, the label of a metric."""

    PULL = "pull"
    WRITE = "write"
    SETTLE = "settle"
    DEAD_LETTER = "dead_letter"
    CONTROL = "control"


class Failure(StrEnum):
    """The reason of a failure: a closed list, the label of a metric. The text of the error goes to the log."""

    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    """A permission is missing."""
    AMBIGUOUS = "ambiguous"
    DURABLE_LOST = "durable_lost"
    SILENT = "silent"
    CLAIM_REMOVED = "claim_removed"
    """Somebody has removed the document of a claim."""


def failure_of(exc: TransferError) -> Failure:
    """Return the label of an error of NATS for the metric `failures_total`."""
    return Failure.REFUSED if isinstance(exc, Refused) else Failure.UNAVAILABLE


POSSIBLE_FAILURES = (
    (Stage.PULL, Failure.SILENT),
    (Stage.PULL, Failure.DURABLE_LOST),
    (Stage.PULL, Failure.UNAVAILABLE),
    (Stage.PULL, Failure.REFUSED),
    (Stage.WRITE, Failure.UNAVAILABLE),
    (Stage.WRITE, Failure.AMBIGUOUS),
    (Stage.DEAD_LETTER, Failure.UNAVAILABLE),
    (Stage.DEAD_LETTER, Failure.AMBIGUOUS),
    (Stage.SETTLE, Failure.UNAVAILABLE),
    (Stage.CONTROL, Failure.UNAVAILABLE),
    (Stage.CONTROL, Failure.REFUSED),
    (Stage.CONTROL, Failure.CLAIM_REMOVED),
)
"""The failures of each stage: a closed list, so that each is exported as 0 before it happens."""


class State(StrEnum):
    """The state of a logger's pipeline."""

    RUNNING = "running"
    FAILING = "failing"
    """The pipeline runs, and its writes fail and are tried again."""
    STANDBY = "standby"
    BACKING_OFF = "backing_off"
    PARKED = "parked"
    MISCONFIGURED = "misconfigured"
    """NATS or MongoDB is not as needed, and somebody else has to change it; `why` has the difference and the remedy."""
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class LoggerState:
    """A logger's pipeline has changed its state; None: the pipeline has ended."""

    logger: str
    state: State | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """Deliveries came from JetStream and were decoded."""

    logger: str
    messages: int
    entries: int
    bytes: int
    redelivered: int


@dataclass(frozen=True, slots=True)
class BatchSettled:
    """A batch was written and its deliveries were answered."""

    logger: str
    batch: int
    trigger: Trigger
    messages: int
    entries: int
    bytes: int
    """The inflated bytes of its entries."""
    written: int
    duplicates: int
    dead_letters: Counter[Reason]
    write_seconds: float
    """From the first attempt to the sink's confirmation, retries included."""
    latency_seconds: float
    """From the storing of the oldest message in JetStream to the sink's confirmation."""
    unanswered: int
    """Messages that were disowned and are not answered: they come again, and are then found to be written."""
    owed: int = 0
    """Answers that are owed until NATS is back (`Answered`), or until the sink has stored entries (`SettledLater`)."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Entries that rules dropped on purpose, by the name of the rule."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A batch was given up before its messages were answered; these entries are stored, and found when they come."""

    logger: str
    written: int
    duplicates: int
    dead_letters: Counter[Reason]


@dataclass(frozen=True, slots=True)
class SettledLater:
    """Deliveries of earlier batches were written and answered, by a sink that answers later."""

    logger: str
    messages: int
    written: int
    duplicates: int
    dead_letters: Counter[Reason]
    unanswered: int
    owed: int


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers that were owed to JetStream while NATS was away have been sent."""

    logger: str
    messages: int


class OwnershipChange(StrEnum):
    """How the ownership of a time-series logger changed: a closed list, the label of a metric."""

    TAKEN = "taken"
    GIVEN_BACK = "given_back"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class OwnershipChanged:
    """This replica has become the owner of a time-series logger, or is it no longer."""

    logger: str
    change: OwnershipChange
    epoch: int


@dataclass(frozen=True, slots=True)
class HomeChanged:
    """A logger is at home on this replica now, or is it no longer."""

    logger: str
    here: bool


class Suspicion(StrEnum):
    """Why an entry may have been written before: a closed list, the label of a metric."""

    BELOW_HORIZON = "below_horizon"
    REPUBLISHED = "republished"


@dataclass(frozen=True, slots=True)
class Suspected:
    """Entries that may have been written before were looked up in the collection."""

    logger: str
    suspects: Counter[Suspicion]


@dataclass(frozen=True, slots=True)
class Held:
    """The messages of a logger that this replica holds."""

    logger: str
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class WritesInProgress:
    """The batches of a logger that are being written."""

    logger: str
    writes: int


@dataclass(frozen=True, slots=True)
class Returned:
    """Deliveries were given back to JetStream unwritten."""

    logger: str
    messages: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A failure that the service handles; `action` says how."""

    logger: str
    stage: Stage
    failure: Failure
    error: str
    action: str


@dataclass(frozen=True, slots=True)
class Retried:
    """A stage tries again after `delay` seconds."""

    logger: str
    stage: Stage
    failure: Failure
    attempt: int
    delay: float
    error: str


@dataclass(frozen=True, slots=True)
class Crashed:
    """An actor ended with an unforeseen error; it is started again after `delay` seconds."""

    actor: str
    logger: str | None
    attempt: int
    delay: float
    errors: tuple[str, ...]
    state: State | None = None
    """The state of the logger's pipeline until it is started again; None for an actor of the root."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A permanent actor crashed too often in a short time: the process ends."""

    actor: str
    error: str


@dataclass(frozen=True, slots=True)
class Mended:
    """A durable that was not as needed was updated, or made anew."""

    logger: str
    messages: int
    """Messages at least that the durable had stopped to deliver, and delivers again."""
    what: str


Event: TypeAlias = (
    LoggerState
    | Received
    | BatchSettled
    | Answered
    | SettledLater
    | Unsettled
    | OwnershipChanged
    | HomeChanged
    | Suspected
    | Held
    | WritesInProgress
    | Returned
    | Failed
    | Retried
    | Crashed
    | GivenUp
    | Sampled
    | Waiting
    | Mended
    | Declared
    | ConnectionChanged
    | Starting
    | Listening
    | Ready
    | LoopLag
    | BatchAgeChanged
    | ReplicasChanged
    | LogLost
    | ObserverFailed
    | Storage
    | Stopping
    | ArchiveCounted
    | ArchiveSampled
    | ArchiveStored
    | ArchiveTrouble
    | ArchiveGone
)
Report: TypeAlias = Callable[[Event], None]
