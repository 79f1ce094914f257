"""What happens in the service, as values: every stage reports them to one function.

Metrics, log and status are made from them, and tests look at the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from collector.readings import Declared, Sampled, Storage, Waiting
from transfer.errors import Refused

if TYPE_CHECKING:
    from collections import Counter

    from collector.model import Reason, Trigger
    from transfer.errors import TransferError


class Stage(StrEnum):
    """Where a failure happened."""

    PULL = "pull"
    WRITE = "write"
    SETTLE = "settle"
    DEAD_LETTER = "dead_letter"
    CONTROL = "control"


class Failure(StrEnum):
    """Why something failed: a closed list, the label of a metric. The text goes to the log."""

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
    """What a logger's pipeline is doing."""

    RUNNING = "running"
    FAILING = "failing"
    """It runs, and its writes fail and are tried again."""
    STANDBY = "standby"
    BACKING_OFF = "backing_off"
    PARKED = "parked"
    MISCONFIGURED = "misconfigured"
    """Something in NATS or MongoDB is not as needed, and somebody else has to change it; `why` says what and how."""
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class LoggerState:
    """A logger's pipeline has gone over to a state; None: it is gone."""

    logger: str
    state: State | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """Deliveries came from JetStream and were opened."""

    logger: str
    messages: int
    entries: int
    bytes: int
    redelivered: int


@dataclass(frozen=True, slots=True)
class BatchSettled:
    """A batch is written and answered for."""

    logger: str
    batch: int
    trigger: Trigger
    messages: int
    entries: int
    bytes: int
    """Of its entries, inflated."""
    written: int
    duplicates: int
    dead_letters: Counter[Reason]
    write_seconds: float
    """From the first attempt to MongoDB's acknowledgement, retries included."""
    latency_seconds: float
    """From JetStream's storing of the oldest message to MongoDB's acknowledgement."""
    unanswered: int
    """Messages that are not ours to answer any more: those that are there come again and are found to be written."""
    owed: int = 0
    """Answers that are sent when NATS is back: see `Answered`."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A batch was given up before its messages were answered; this much of it is stored, and found when they come."""

    logger: str
    written: int
    duplicates: int
    dead_letters: Counter[Reason]


@dataclass(frozen=True, slots=True)
class Answered:
    """What was owed to JetStream while NATS was away is answered."""

    logger: str
    messages: int


class OwnershipChange(StrEnum):
    """How the ownership of a time-series logger changed: a closed list, the label of a metric."""

    TAKEN = "taken"
    GIVEN_BACK = "given_back"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class OwnershipChanged:
    """This replica has become or is no longer the one that writes a time-series logger's entries."""

    logger: str
    change: OwnershipChange
    epoch: int


class Suspicion(StrEnum):
    """Why an entry may have been written before: a closed list, the label of a metric."""

    BELOW_HORIZON = "below_horizon"
    REPUBLISHED = "republished"


@dataclass(frozen=True, slots=True)
class Suspected:
    """Entries that may have been written before were looked up."""

    logger: str
    suspects: Counter[Suspicion]


@dataclass(frozen=True, slots=True)
class Held:
    """How much of a logger this replica holds."""

    logger: str
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class WritesInProgress:
    """How many batches of a logger are on their way to MongoDB."""

    logger: str
    writes: int


@dataclass(frozen=True, slots=True)
class Returned:
    """Deliveries were given back to JetStream unwritten."""

    logger: str
    messages: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Something failed and is dealt with: `action` says how."""

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
    """An actor ended by something that nobody foresaw; it is started again after `delay` seconds."""

    actor: str
    logger: str | None
    attempt: int
    delay: float
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A permanent actor crashed too often in a short time: the process ends."""

    actor: str
    error: str


@dataclass(frozen=True, slots=True)
class Mended:
    """A durable that somebody else had made or changed was brought in line, or made anew."""

    logger: str
    messages: int
    """At least so many had been given to nobody any more, and are now."""
    what: str


@dataclass(frozen=True, slots=True)
class ConnectionChanged:
    """The connection to NATS or to MongoDB came or went."""

    server: str
    connected: bool
    why: str = ""
    again: bool = False
    """It had been connected before."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What /readyz answers has changed."""

    ready: bool


@dataclass(frozen=True, slots=True)
class LoopLag:
    """How late the event loop was."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Starting:
    """The service begins, with these settings in force, by variable and without secrets."""

    version: str
    settings: Mapping[str, str | int | float]
    ignored: Sequence[str]
    """A sentence for each variable that is set and that nobody reads."""


@dataclass(frozen=True, slots=True)
class LogLost:
    """Lines of the log could not be written: standard error is broken, full or not read."""

    lines: int


class Observer(StrEnum):
    """Who is told of every event: a closed list, the label of a metric."""

    METRICS = "metrics"
    STATUS = "status"
    LOG = "log"


@dataclass(frozen=True, slots=True)
class ObserverFailed:
    """An observer raised an error at an event, so that what it shows may be wrong."""

    observer: Observer
    error: str
    """The kind of the error and its place in the code."""


@dataclass(frozen=True, slots=True)
class Listening:
    """The endpoint answers."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Stopping:
    """The service was asked to stop."""

    signal: str


Event: TypeAlias = (
    LoggerState
    | Received
    | BatchSettled
    | Answered
    | Unsettled
    | OwnershipChanged
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
    | LogLost
    | ObserverFailed
    | Storage
    | Stopping
)
Report: TypeAlias = Callable[[Event], None]
