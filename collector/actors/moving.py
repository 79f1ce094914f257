"""The objects that actors share: all pipelines of a replica, and the stages of one logger while they move entries."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from anyio import Semaphore

from collector.actors.alarms import Alarms
from collector.flow.homes import Home, Homes
from collector.flow.levels import Levels
from collector.jetstream.doubts import Doubts
from collector.rules import no_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collector.actors.requests import Requests
    from collector.actors.upkeep import Kept
    from collector.decoding.codec import Codec
    from collector.events import Report
    from collector.flow.batch_age import BatchAge
    from collector.flow.budget import Accounts, Budget
    from collector.flow.gathering import Gathering
    from collector.flow.in_hand import InHand
    from collector.flow.levels import Level
    from collector.flow.settler import Settler
    from collector.jetstream.connection import NatsConnection
    from collector.jetstream.pull import Pull
    from collector.jetstream.source import Attached, DurableSource, Sources
    from collector.rules import Rule
    from collector.settings import Settings
    from collector.sinks import Destinations, Target
    from transfer.wire import LoggerSpec

_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The objects that all pipelines of a replica share."""

    settings: Settings
    nats: NatsConnection
    sources: Sources
    destinations: Destinations
    budget: Budget
    report: Report
    homes: Homes = field(default_factory=lambda: Homes("alone", frozenset({"alone"})))
    rules_of: Callable[[LoggerSpec], Sequence[Rule]] = no_rules
    batch_age: BatchAge
    turns: Semaphore = field(default_factory=lambda: Semaphore(_AT_ONCE, fast_acquire=True))
    """Limits how many loggers ask for their stream and durable at a time: 10,000 at once would time each other out."""
    doubts: Doubts = field(default_factory=Doubts)
    levels: Levels = field(default_factory=Levels)
    kept: set[Kept] = field(default_factory=set)
    """The loggers that move entries now: `Upkeep` looks after them."""
    clock: Callable[[], float] = time.monotonic
    """It is asked for every message; anyio's clock costs ten times as much."""
    alarms: Alarms = field(default_factory=lambda: Alarms(time.monotonic))
    late_alarms: Alarms = field(default_factory=lambda: Alarms(time.monotonic, 0.25))
    """They wake the event loop four times a second at most."""


class Wakes(Protocol):
    """Wakes the actor that hands deliveries on."""

    def wake(self) -> None:
        """Wake it, for there may be room or released deliveries."""


class Rooms(Protocol):
    """Counts the room of settled messages."""

    def settled(self) -> bool:
        """Give back the room of settled messages; return whether the actor that hands on has to be woken for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storing:
    """The objects that batcher and writer of one logger share, from the opening of its target to the closing."""

    key: str
    shared: Shared
    attached: Attached
    target: Target
    pull: Wakes
    in_hand: InHand
    level: Level
    accounts: Accounts
    gathering: Gathering
    requests: Rooms
    settler: Settler
    codec: Codec
    risks: str = ""
    """The risks for entries as a sentence; operators read it beside the state of the logger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving(Storing):
    """The objects that all stages of one logger share, from the opening of its target to the closing."""

    source: DurableSource
    pull: Pull
    requests: Requests
    home: Home
