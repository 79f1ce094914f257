"""One schedule: a world from a seed, a publisher, replicas, a storm, calm, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING
from unittest.mock import patch

from tests.simulation.faults import Faults
from tests.simulation.model_jetstream import JetStream, Message
from tests.simulation.model_mongo import POISON, VENOM, Mongo
from tests.simulation.world import Broken, Weather, World

if TYPE_CHECKING:
    from collections import Counter

    from tests.simulation.rules import Rules
    from tests.simulation.world import Line

COUNTED = (
    *("messages", "entries", "published again", "deliveries", "redeliveries", "late on an old connection"),
    *("take-overs", "given back", "refused", "inserts", "suspects", "copies that waited", "dead letters"),
    *(
        "unknown results",
        "same number again",
        "histories lost",
        "killed half-way",
        "write concern not met",
        "answers lost",
    ),
    *("freezes", "crashes", "stops", "cuts", "mongod killed", "rolled back", "nats-server killed", "leader changes"),
    *("majority stalled", "answered early"),
    *("durables lost", "durables replaced", "deliveries of a lost durable"),
    *("forgotten deliveries", "forgotten acks", "naks of an old holder"),
)
"""What the schedules have to contain, or they prove nothing."""
_SAME_IN_MESSAGE = 0.02
"""How often a message holds an entry twice."""
_CALM = 1000.0
"""Seconds after the storm within which everything has to be stored."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one schedule."""

    seed: int
    tally: Counter[str]
    broken: str = ""
    """The promise that was broken: lost, twice, or left (not stored in the end)."""
    what: str = ""


def run_schedule(seed: int, rules: Rules, line: Line | None = None) -> Verdict:
    """Run the schedule of this seed to its end, or to the first broken promise; always the same way."""
    random = Random(seed)  # noqa: S311 - the same again from the same seed
    weather = Weather(random, until=random.choice((30.0, 60.0, 120.0)))
    world = World(random, weather, line, rules=rules)
    with patch("collector.sinks.timeseries.ownership._MARK_STEP", random.choice((0, 1, 4, 20_000))):
        play = _Play(world)
        try:
            play.run()
        except Broken as broken:
            return Verdict(seed, world.tally, broken.promise, str(broken))
        finally:
            play.close()
    return Verdict(seed, world.tally)


class _Play:
    def __init__(self, world: World) -> None:
        self._world = world
        self._mongo = Mongo(world)
        self._jetstream = JetStream(world, self._removed)
        self._faults = Faults(world, self._mongo, self._jetstream)
        self._identities: list[int] = []
        self._unpublished = 0

    def run(self) -> None:
        """Go through the storm, and until all is stored in the calm after it."""
        world = self._world
        for message, at in self._plan(world.random):
            self._unpublished += 1
            world.scheduler.after(at, None, self._publish, message)
        for _ in range(world.random.choice((2, 2, 3))):
            self._faults.start_replica()
        world.scheduler.after(world.weather.until, None, self._faults.thaw)
        world.scheduler.run(self._quiet, world.weather.until + _CALM)
        self._judge()

    def close(self) -> None:
        """End what still runs."""
        self._faults.close()

    def _plan(self, random: Random) -> list[tuple[Message, float]]:
        """Return what is published and when: some of it twice, the second copy later and said to be one."""
        plan = []
        again = random.choice((0.0, 0.1, 0.4))
        end = self._world.weather.until * random.choice((0.3, 1.0))
        for _ in range(random.randrange(4, 25)):
            identities = [self._identity(random) for _ in range(random.choice((1, 1, 1, 2, 3)))]
            if random.random() < _SAME_IN_MESSAGE:
                identities.append(identities[0])
            at = random.random() * end
            plan.append((Message(tuple(identities)), at))
            if random.random() < again:
                self._world.tally["published again"] += 1
                copy = tuple(random.sample(identities, random.randint(1, len(identities))))
                plan.append((Message(copy, attempt=2), at + random.choice((0.01, 1.0, 20.0)) * random.random()))
        return plan

    def _identity(self, random: Random) -> int:
        kind = random.random()
        identity = len(self._identities) + (0 if kind < 0.96 else POISON if kind < 0.98 else VENOM)
        self._identities.append(identity)
        return identity

    def _publish(self, message: Message) -> None:
        self._unpublished -= 1
        self._world.tally["messages"] += 1
        self._jetstream.publish(message)

    def _removed(self, message: Message) -> None:
        """Look whether an acked message was written: from now on nobody has it but MongoDB."""
        for identity in message.identities:
            if not self._mongo.settled(identity):
                raise Broken("lost", f"entry {identity} was acked and is not stored")

    def _quiet(self) -> bool:
        return (
            not self._jetstream.messages
            and not self._unpublished
            and not self._mongo.travelling
            and self._world.scheduler.now > self._world.weather.until
        )

    def _judge(self) -> None:
        world = self._world
        world.tally["entries"] += len(self._identities)
        left = [identity for identity in self._identities if not self._mongo.settled(identity)]
        if left or self._jetstream.messages:
            raise Broken(
                "left", f"entries {left} are not stored, messages {sorted(self._jetstream.messages)} are there"
            )
