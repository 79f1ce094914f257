"""Events of a replica as a whole: its start, its connections, its event loop, its own reports, its end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Starting:
    """The service starts, with these effective settings by variable, without secrets."""

    version: str
    settings: Mapping[str, str | int | float]
    ignored: Sequence[str]
    """A sentence for each variable that is set and has no effect."""


@dataclass(frozen=True, slots=True)
class Listening:
    """The endpoint listens for requests."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ConnectionChanged:
    """The connection to NATS or to MongoDB came or went."""

    server: str
    connected: bool
    why: str = ""
    again: bool = False
    """Whether it had been connected before."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The answer of /readyz has changed."""

    ready: bool


@dataclass(frozen=True, slots=True)
class LoopLag:
    """The delay of the event loop."""

    seconds: float


@dataclass(frozen=True, slots=True)
class BatchAgeChanged:
    """The age at which batches leave has changed with the load."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ReplicasChanged:
    """Other replicas live than before."""

    replicas: tuple[str, ...]
    """Those that live, this one among them; none while they are unknown."""


@dataclass(frozen=True, slots=True)
class LogLost:
    """Lines of the log could not be written: standard error is broken, full or not read."""

    lines: int


class Observer(StrEnum):
    """The observers of every event: a closed list, the label of a metric."""

    METRICS = "metrics"
    STATUS = "status"
    LOG = "log"


@dataclass(frozen=True, slots=True)
class ObserverFailed:
    """An observer raised an error at an event, so its figures may be wrong."""

    observer: Observer
    error: str
    """The kind of the error and its place in the code."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The service was asked to stop."""

    signal: str
