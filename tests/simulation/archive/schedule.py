"""One schedule of the archive: a world from a seed, a publisher, replicas, a storm, calm, and the verdict."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.archive.model_owner import policy
from tests.simulation.archive.model_replica import ENTRIES, Lease, Replica
from tests.simulation.archive.model_store import Store
from tests.simulation.archive.model_stream import Stream
from tests.simulation.archive.world import Weather, World
from tests.simulation.schedule import Verdict
from tests.simulation.world import Broken

if TYPE_CHECKING:
    from tests.simulation.archive.rules import Rules
    from tests.simulation.world import Line

COUNTED = (
    *("work queues", "limits streams", "messages", "deliveries", "redeliveries", "repeats", "expired"),
    *("take-overs", "resets", "gaps", "counts that were wrong", "records", "records that were taken"),
    *("blocks", "puts of what is there", "late puts", "answers lost", "unknown results", "cuts that were completed"),
    *("freezes", "crashes", "cuts", "nats-server killed", "leader changes", "answers of an old leader"),
    *("streams that went back", "captures that stopped"),
)
"""What the schedules have to contain, or they prove nothing."""
_CALM = 1000.0
"""Seconds after the storm within which everything has to be archived."""


def run_schedule(seed: int, rules: Rules, line: Line | None = None) -> Verdict:
    """Run the schedule of this seed to its end, or to the first broken promise; always the same way."""
    random = Random(seed)  # noqa: S311 - the same again from the same seed
    weather = Weather(random, until=random.choice((60.0, 120.0)))
    cuts = policy(random.randint(2, 9), random.uniform(2, 20))
    world = World(random, weather, line, rules=rules, policy=cuts, reads_on=random.random() < 0.5)
    play = _Play(world, Random(f"back {seed}"))  # noqa: S311 - of its own, so that all other schedules stay as they were
    try:
        play.run()
    except Broken as broken:
        return Verdict(seed, world.tally, broken.promise, str(broken))
    finally:
        play.close()
    return Verdict(seed, world.tally)


class _Play:
    def __init__(self, world: World, apart: Random) -> None:
        self._world = world
        random = world.random
        self._store = Store(world)
        self._stream = Stream(world, queue=random.random() < 0.6, on_removed=self._removed)
        world.tally["work queues" if self._stream.queue else "limits streams"] += 1
        self._lease = Lease(world)
        self._replicas: list[Replica] = []
        self._cluster = random.random() < 0.5
        """Whether there are three servers: then a leader changes, and none forgets what it has confirmed."""
        if not (self._cluster or self._stream.queue) and apart.random() < 0.4:
            self._stream.keeps = True
            at = apart.uniform(0.2, 0.9) * world.weather.until
            world.scheduler.after(at, None, self._go_back, apart.randint(1, 8))

    def run(self) -> None:
        """Go through the storm, and until all is archived in the calm after it."""
        world, random, until = self._world, self._world.random, self._world.weather.until
        self._unpublished = random.randint(10, 35)
        for _ in range(self._unpublished):
            world.scheduler.after(random.uniform(0, until), None, self._publish)
        for number in range(random.choice((2, 2, 3))):
            self._start(chr(ord("A") + number))
        strike = self._change_leader if self._cluster else self._kill_server
        for act, most in ((strike, 3), (self._cut, 5), (self._crash, 3), (self._freeze, 3)):
            for _ in range(random.choice((0, 1, most))):
                world.scheduler.after(random.uniform(0, until), None, act)
        world.scheduler.after(until, None, self._calm)
        world.scheduler.run(self._finished, until + _CALM)
        self._judge()

    def close(self) -> None:
        """End what still runs."""
        for replica in self._replicas:
            replica.process.kill()

    def _start(self, name: str) -> None:
        self._replicas.append(Replica(self._world, name, self._stream, self._store, self._lease, self._end))

    def _publish(self) -> None:
        self._unpublished -= 1
        self._stream.publish()

    # --- faults

    def _crash(self) -> None:
        if self._replicas:
            self._end(self._world.random.choice(self._replicas))

    def _end(self, replica: Replica) -> None:
        if replica in self._replicas:
            self._note("crashes", replica.process.name, "crashes")
            replica.disconnect()
            replica.process.kill()
            self._replicas.remove(replica)
            if len(self._replicas) == 0 or self._world.scheduler.now < self._world.weather.until:
                self._world.scheduler.after(
                    self._world.random.uniform(0.1, 15), None, self._start, replica.process.name
                )

    def _freeze(self) -> None:
        if self._replicas:
            self._world.freeze(self._world.random.choice(self._replicas).process, "")

    def _cut(self) -> None:
        for replica in self._replicas:
            if self._world.random.random() < 0.7:
                self._note("cuts", replica.process.name, "loses NATS")
                replica.disconnect()

    def _kill_server(self) -> None:
        self._note("nats-server killed", "nats-server", "is killed")
        self._stream.kill()
        for replica in self._replicas:
            replica.disconnect()

    def _go_back(self, messages: int) -> None:
        self._note("streams that went back", "the stream", f"forgets its last {messages} messages")
        self._stream.go_back(messages)
        for replica in self._replicas:
            replica.disconnect()

    def _change_leader(self) -> None:
        self._note("leader changes", "JetStream", "changes its leader")
        self._stream.change_leader()

    def _calm(self) -> None:
        for replica in self._replicas:
            replica.process.frozen_until = min(replica.process.frozen_until, self._world.scheduler.now)

    def _note(self, name: str, who: str, text: str) -> None:
        self._world.tally[name] += 1
        self._world.say(who, text)

    # --- verdict

    def _rows(self, sequence: int) -> list[tuple[int, int]]:
        return [(self._stream.times[sequence], position) for position in range(ENTRIES[sequence % len(ENTRIES)])]

    def _removed(self, sequence: int) -> None:
        """Look whether an acked message is in blocks: from now on nobody has it but the store."""
        if missing := [row for row in self._rows(sequence) if row not in self._store.places]:
            raise Broken("lost", f"rows {missing} left the queue and are in no block")

    def _left(self, to: float = math.inf) -> list[tuple[int, int]]:
        """Return the rows up to a message that are in no block."""
        sequences = {one for one in range(1, self._stream.last + 1) if one <= to} - self._stream.expired
        return [row for one in sorted(sequences) for row in self._rows(one) if row not in self._store.places]

    def _finished(self) -> bool:
        if self._world.stopped:
            return True
        if self._unpublished or self._world.scheduler.now < self._world.weather.until:
            return False
        return not (self._stream.queue and self._stream.there) and not self._left()

    def _judge(self) -> None:
        if self._world.stopped:
            if not self._stream.went_back:
                raise Broken("stopped", f"the stream did not go back, and the capture stopped: {self._world.stopped}")
            return
        left, there = self._left(), sorted(self._stream.there) if self._stream.queue else []
        if passed := self._left(self._store.cursor()):
            raise Broken("lost", f"rows {passed} are in no block, and the log says that they are archived")
        if left or there:
            raise Broken("left", f"rows {left} are not archived, messages {there} are in the queue")
