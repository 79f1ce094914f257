"""What the stages of a pipeline share, made for tests: a scripted link, a sink of the test's, and settings."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anyio import Event, Semaphore, current_time

from collector.actors.moving import Moving, Shared
from collector.actors.requests import PullLimits, Requests
from collector.decoding.codec import Codec
from collector.errors import OwnershipLost
from collector.flow.batch_age import BatchAge, LoggerAge
from collector.flow.budget import Budget
from collector.flow.gathering import Enough, Gathering
from collector.flow.homes import Home
from collector.flow.in_hand import InHand
from collector.flow.settler import Settler
from collector.jetstream.connection import NatsConnection, Reconnects
from collector.jetstream.pace import HEARTBEAT, Pace
from collector.jetstream.pull import Pull
from collector.settings import Settings
from collector.sinks import PASS_ALL, Admission, DeadLetterSink, Sink, Target
from tests.support.fakes import ATTACHED, KEY, FakeLetters, FakeSink, FakeSource, Reports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from collector.jetstream.link import Link
    from collector.jetstream.source import Attached, Sources
    from transfer.wire import LoggerSpec

ENVIRON = {
    "NAMESPACE": "beta",
    "NATS_HOSTS": "nats://127.0.0.1:4222",
    "DATABASE": "mongodb://127.0.0.1:27017",
    "COLLECTOR_BATCH_AGE": "10ms",
    "COLLECTOR_SHUTDOWN_TIMEOUT": "16s",
}
MIB = 1024 * 1024


class FakeClient:
    """What a pipeline takes from nats-py's client."""

    def __init__(self) -> None:
        self._inboxes = 0

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"_INBOX.{self._inboxes}"


@dataclass
class FakeDestination:
    """A destination, and that of all loggers, which gives its sink at once; each opening gives another target."""

    sink: Sink = field(default_factory=FakeSink)
    letters: DeadLetterSink = field(default_factory=FakeLetters)
    keeps_alive: bool = True
    stood_by: bool = False
    admission: Admission = PASS_ALL
    opened_with: list[LoggerSpec] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    """How each opening ended."""

    def of(self, spec: LoggerSpec) -> FakeDestination:
        """See `Destinations`."""
        self.opened_with.append(spec)
        return self

    @asynccontextmanager
    async def opened(self, attached: Attached, stopping: Event) -> AsyncIterator[Target | None]:
        """See `Destination`."""
        del attached, stopping
        changes = {"keeps_alive": self.keeps_alive, "admission": self.admission, "stood_by": self.stood_by}
        self.targets.append(target(self.sink, self.letters, **changes))
        lost = False
        try:
            yield self.targets[-1]
        except* OwnershipLost:
            lost = True
        finally:
            self.ends.append("lost" if lost else "closed")


def target(sink: Sink | None = None, letters: DeadLetterSink | None = None, **changes: Any) -> Target:
    """Make an open target."""
    whole = {"write_slots": Semaphore(64), "letter_slots": Semaphore(64), **changes}
    return Target(sink=sink or FakeSink(), dead_letters=letters or FakeLetters(), **whole)


def shared(
    link: Link, reports: Reports, reconnects: Reconnects | None = None, source: Sources | None = None, **more: Any
) -> Shared:
    """Make what all pipelines of a replica share."""
    client: Any = FakeClient()
    settings = more.get("settings") or Settings.read(ENVIRON)
    whole: dict[str, Any] = {
        "settings": settings,
        "destinations": FakeDestination(),
        "budget": Budget(64 * MIB),
        "batch_age": BatchAge(settings.batch_age, settings.batch_age_limit),
        **more,
    }
    nats = NatsConnection(client, link, reconnects or Reconnects(), Event())
    return Shared(nats=nats, sources=source or FakeSource(), report=reports, **whole)


def pulling(of: Shared, in_hand: InHand, heartbeat: float, clock: Callable[[], float]) -> tuple[Pull, Gathering]:
    """Make a pull, and the gathering that it wakes by."""

    def wake() -> None:
        pull.wake()

    enough = Enough(of.settings.batch_entries, of.settings.batch_bytes)
    gathering = Gathering(LoggerAge(of.batch_age), enough, clock, of.alarms.set, wake)
    pull = Pull(
        of.nats.link,
        ATTACHED,
        inbox="_INBOX.a",
        in_hand=in_hand,
        clock=clock,
        pace=Pace(shortest=heartbeat),
        wakes=gathering.came,
    )
    return pull, gathering


def moving(
    of: Shared,
    *,
    key: str = KEY,
    sink: Sink | None = None,
    letters: DeadLetterSink | None = None,
    admission: Admission = PASS_ALL,
    heartbeat: float = HEARTBEAT,
    write_slots: Semaphore | None = None,
    clock: Callable[[], float] = current_time,
    home: Home | None = None,
) -> Moving:
    """Make what the stages of one logger share; it is at home here, unless a home is given."""
    home = home or Home(key, lambda: None, clock, here=True)
    in_hand, settings = InHand(), of.settings
    pull, gathering = pulling(of, in_hand, heartbeat, clock)
    accounts = of.budget.open(pull.wake)
    limits = PullLimits(settings.most_held, settings.batch_bytes, settings.batch_entries)
    return Moving(
        key=key,
        shared=of,
        source=of.sources.of(KEY),
        attached=ATTACHED,
        target=target(sink, letters, admission=admission, write_slots=write_slots or Semaphore(64)),
        pull=pull,
        in_hand=in_hand,
        level=of.levels.open(key, in_hand),
        accounts=accounts,
        gathering=gathering,
        requests=Requests(pull, in_hand, accounts, limits, home),
        settler=Settler(key, in_hand, pull, of.report),
        codec=Codec(ATTACHED.incarnation),
        home=home,
    )
