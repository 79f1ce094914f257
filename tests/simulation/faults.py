"""What goes wrong in a schedule, at random times while the storm lasts."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from tests.simulation.model_replica import Replica

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.model_jetstream import JetStream
    from tests.simulation.model_mongo import Mongo
    from tests.simulation.world import World


_GRACE = 40.0
"""Seconds after which a replica that was asked to stop is killed."""
_AT_OWNER = 0.7
"""How often the owner is struck rather than any replica."""


class Faults:
    """The replicas of a schedule, and what happens to them and to the servers."""

    def __init__(self, world: World, mongo: Mongo, jetstream: JetStream) -> None:
        self.replicas: list[Replica] = []
        self._world = world
        self._mongo = mongo
        self._jetstream = jetstream
        self._names = map(chr, count(ord("A")))
        self._pause = world.random.choice((3.0, 8.0, 20.0))
        kinds: list[Callable[[], None]] = [
            *(self._freeze, self._freeze, self._crash, self._cut_mongo, self._cut_nats),
            *(self._stop, self._crash_nats, self._change_leader, self._restart_mongo, self._stray_nak),
            *(self._stall_majority, self._fail_over, self._restart_nats, self._replace_durable),
        ]
        self._kinds = world.random.sample(kinds, 4)
        self._next()

    def start_replica(self) -> None:
        """Start one more."""
        name = next(self._names)
        self.replicas.append(Replica(self._world, name, self._mongo, self._jetstream, on_end=self._end))

    def thaw(self) -> None:
        """Let all go on: the storm is over."""
        for replica in self.replicas:
            replica.process.frozen_until = min(replica.process.frozen_until, self._world.scheduler.now)

    def close(self) -> None:
        """End all replicas."""
        for replica in self.replicas:
            replica.kill()

    def _next(self) -> None:
        delay = self._world.random.expovariate(1.0) * self._pause
        if self._world.scheduler.now + delay < self._world.weather.until:
            self._world.scheduler.after(delay, None, self._strike)

    def _strike(self) -> None:
        self._world.random.choice(self._kinds)()
        self._next()

    def _victim(self) -> Replica:
        """Choose a replica, the owner rather than another one."""
        owners = [replica for replica in self.replicas if replica.moving is not None]
        return self._world.random.choice(
            owners if owners and self._world.random.random() < _AT_OWNER else self.replicas
        )

    def _freeze(self) -> None:
        self._world.freeze(self._victim().process, "")

    def _crash(self) -> None:
        replica = self._victim()
        self._note("crashes", replica.process.name, "crashes")
        self._end(replica)

    def _stop(self) -> None:
        replica = self._victim()
        self._note("stops", replica.process.name, "is asked to stop")
        self._world.scheduler.after(0.0, replica.process, replica.stop)
        self._world.scheduler.after(_GRACE, None, self._end, replica)

    def _end(self, replica: Replica) -> None:
        """End the process of a replica, at the latest when its grace period is over."""
        if replica in self.replicas:
            replica.kill()
            self.replicas.remove(replica)
            self.start_replica()

    def _cut_mongo(self) -> None:
        replica = self._victim()
        self._note("cuts", replica.process.name, "loses MongoDB")
        replica.client.cut(self._world.random.random() * 5.0)

    def _cut_nats(self) -> None:
        replica = self._victim()
        self._note("cuts", replica.process.name, "loses NATS")
        if replica.moving is not None:
            replica.moving.disconnect()

    def _crash_nats(self) -> None:
        self._note("nats-server killed", "nats-server", "is killed")
        self._jetstream.crash()
        for replica in self.replicas:
            if replica.moving is not None:
                replica.moving.disconnect()

    def _restart_nats(self) -> None:
        """Restart a server that stands alone: the durable goes with its memory; some replicas do not see it at once."""
        self._note("durables lost", "nats-server", "restarts and has lost the durable")
        self._jetstream.lose_durable(acks=self._world.random.random() < 0.5)
        seen = self._world.random.random() < 0.8
        for replica in self.replicas:
            if seen and replica.moving is not None:
                replica.moving.disconnect()

    def _replace_durable(self) -> None:
        """Have a replica of another version make the durable anew; all that ask are told."""
        self._note("durables replaced", "somebody", "makes the durable anew")
        self._jetstream.lose_durable(acks=False)
        for replica in self.replicas:
            if replica.moving is not None:
                self._world.scheduler.after(
                    self._world.travel(), replica.process, replica.moving.hear_that_the_durable_is_gone
                )

    def _change_leader(self) -> None:
        self._note("leader changes", "JetStream", "changes its leader")
        self._jetstream.change_leader()

    def _restart_mongo(self) -> None:
        self._note("mongod killed", "mongod", "is killed")
        self._mongo.restart()
        for replica in self.replicas:
            replica.client.cut(self._world.random.choice((0.0, self._world.random.random() * 5.0)))

    def _stall_majority(self) -> None:
        self._note("majority stalled", "MongoDB", "has secondaries that stop applying")
        self._mongo.stall(self._world.random.choice((2.0, 15.0, 40.0)))

    def _fail_over(self) -> None:
        """Stall the majority for longer than a write waits for it, and then kill the primary."""
        self._stall_majority()
        for _ in range(self._world.random.choice((1, 3))):
            self._world.scheduler.after(self._world.random.random() * 40.0, None, self._restart_mongo)

    def _stray_nak(self) -> None:
        self._world.tally["naks of an old holder"] += 1
        self._jetstream.nak_any()

    def _note(self, name: str, who: str, text: str, *details: object) -> None:
        self._world.tally[name] += 1
        self._world.say(who, text, *details)
