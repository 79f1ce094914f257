"""How a replica reaches MongoDB: a command travels, arrives perhaps much later or never, and so does its answer.

`StoreModel` is the service's `Store` on top of it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pymongo.errors import OperationFailure

from collector.errors import OwnershipLost, SinkUnavailable
from tests.simulation.model_mongo import (
    CLAIM,
    POISON,
    VENOM,
    HistoryLost,
    Killed,
    Mongo,
    NotDurable,
    Numbered,
    TooOld,
    numbered,
)
from tests.simulation.scheduler import Answer, Process, Sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from collector.model import Entry
    from tests.simulation.model_mongo import Respond, Statement
    from tests.simulation.world import World

WRITE_TIMEOUT = 10.0
_TROUBLE = "nothing is known of it"


class Client:
    """The connections of one replica."""

    def __init__(self, world: World, process: Process, mongo: Mongo) -> None:
        self.process = process
        self.world = world
        self.mongo = mongo
        self.cut_until = 0.0
        self._open: dict[Answer, None] = {}

    async def read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Have something read. Raises SinkUnavailable."""

        def arrive(respond: Respond) -> None:
            respond(function(*arguments), None)

        return await self._send(arrive)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Have something written that is not numbered, durably. Raises SinkUnavailable."""

        def arrive(respond: Respond) -> None:
            self.mongo.answer(respond, function(*arguments))

        try:
            return await self._send(arrive)
        except (Killed, NotDurable) as exc:
            raise SinkUnavailable(_TROUBLE, ambiguous=True) from exc

    async def write(self, slot: int, number: int, statements: Sequence[Statement]) -> int:
        """Have statements executed under a number in a session; return how many wrote something.

        Raises OwnershipLost when the number is too old, SinkUnavailable, NotDurable and HistoryLost.
        """

        def arrive(respond: Respond) -> None:
            self.mongo.write(Numbered(slot, number, statements, respond))

        try:
            count: int = await self._send(arrive)
        except TooOld as exc:
            raise OwnershipLost(CLAIM) from exc
        except Killed as exc:
            raise SinkUnavailable(_TROUBLE, ambiguous=True) from exc
        return count

    def cut(self, seconds: float) -> None:
        """Lose all connections for a while: what is under way may arrive all the same."""
        self.cut_until = self.world.scheduler.now + seconds
        for answer in list(self._open):
            self.world.scheduler.after(0.0, self.process, self._fail, answer)

    async def _send(self, arrive: Callable[[Respond], None]) -> Any:
        world = self.world
        if world.stormy(world.weather.freezing):
            world.freeze(self.process, ", before it sends")
            await Sleep(0.0)
        if world.scheduler.now < self.cut_until:
            raise SinkUnavailable("no connection")
        answer = Answer()
        self._open[answer] = None
        world.scheduler.after(WRITE_TIMEOUT, self.process, self._fail, answer)
        if not world.stormy(world.weather.lost / 2):
            self.mongo.travelling += 1
            respond = partial(self._respond, answer, [])
            world.scheduler.after(world.travel(), None, arrive, respond)
        if world.stormy(world.weather.freezing):
            world.freeze(self.process, ", its command under way")
        try:
            return await answer
        finally:
            self._open.pop(answer, None)

    def _respond(self, answer: Answer, said: list[bool], value: Any, error: Exception | None) -> None:
        world = self.world
        self.mongo.travelling -= 1
        assert not said, "a command is answered once"
        said.append(True)
        if not answer.given and not world.stormy(world.weather.lost):
            world.scheduler.after(world.travel(), self.process, answer.give, value, error)

    def _fail(self, answer: Answer) -> None:
        if not answer.given:
            self.world.tally["unknown results"] += 1
            answer.give(error=SinkUnavailable(_TROUBLE, ambiguous=True))


class StoreModel:
    """See `collector.sinks.timeseries.sink.Store`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._election = -1

    async def stored(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """See `Store`."""
        client = self._client
        identities = [entry.document["_id"] for entry in entries]
        client.world.say(client.process.name, "looks up {}", identities)
        found = await client.read(client.mongo.find, identities)
        client.world.say(client.process.name, "learns that {} are stored", sorted(found))
        return [entry for entry in entries if entry.document["_id"] in found]

    async def raise_mark(self, mark: int) -> None:
        """See `Store`."""
        client = self._client
        client.world.say(client.process.name, "raises the mark to {}", mark)
        await client.call(client.mongo.raise_mark, mark)

    async def insert(self, slot: int, number: int, entries: Sequence[Entry], *, again: bool) -> Mapping[str, Any]:
        """See `Store`. The barrier is that of `TimeSeriesStore`."""
        rules, election = self._client.world.rules, self._election
        reply = await self._insert(slot, number, entries)
        if again and rules.has_barrier:
            self._election = await self._client.call(self._client.mongo.barrier)
            if self._election != election and rules.compares_elections:
                raise SinkUnavailable("another primary", ambiguous=True)
        return reply

    async def _insert(self, slot: int, number: int, entries: Sequence[Entry]) -> Mapping[str, Any]:
        client, mongo = self._client, self._client.mongo
        identities = [entry.document["_id"] for entry in entries]
        client.world.say(client.process.name, "sends {} in slot {}: insert {}", numbered(number), slot, identities)
        client.world.tally["inserts"] += 1
        if any(identity >= VENOM for identity in identities):
            await client.read(_refuse)
            raise OperationFailure("a document is at fault", 15)  # Overflow: nested too deep
        try:
            count = await client.write(slot, number, [partial(mongo.insert_one, identity) for identity in identities])
        except HistoryLost as exc:
            raise OperationFailure("the history is lost", 217) from exc
        except NotDurable:
            return {"n": 0, "writeConcernError": {"code": 64}}
        errors = [{"index": index, "code": 2} for index, identity in enumerate(identities) if identity >= POISON]
        return {"n": count, "writeErrors": errors} if errors else {"n": count}


def _refuse() -> None:
    """Refuse a whole command before any of it is executed, as often as it is sent."""
