"""MongoDB, as far as the protocol needs it: one claim document, numbered sessions, and a collection without unique ids.

A session does one command at a time. A number below the highest that it has seen is refused; of a command under the
same number again only those statements are executed that were not before; when there are none, it is answered at once,
whether or not the majority has them. A command may end half-way, and what it has done is done. What is not written is
forgotten when the primary is killed: that is, the high number of a command that wrote nothing, and what the majority
did not have. Facts: docs/timeseries.md.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from collector.sinks.timeseries.ownership import Board, Claim
from tests.simulation.model_oplog import Oplog
from tests.simulation.world import Broken, Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.world import World

POISON = 1000
"""Entries from this identity on can never be stored."""
VENOM = 2000
"""From here on they make the whole command fail in which they are."""
CLAIM = "stream life"
"""The claim's id: there is one logger."""
Respond: TypeAlias = "Callable[[Any, Exception | None], None]"
Statement: TypeAlias = "Callable[[], Written | None]"
"""Part of a numbered write; returns what it wrote, if it did."""


class TooOld(Exception):
    """225 TransactionTooOld: the session has seen a higher number."""


class HistoryLost(Exception):
    """217 IncompleteTransactionHistory: what this number did is no longer known."""


class NotDurable(Exception):
    """The majority did not have it in time; whether it ever will is not known."""


class Killed(Exception):
    """The command was ended half-way; the connection with it, so that nobody knows how far it came."""


@dataclass(frozen=True, slots=True)
class Written:
    """What makes a write seen by the majority, and what undoes it before that."""

    commit: Callable[[], None]
    undo: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Numbered:
    """A write in a session."""

    slot: int
    number: int
    statements: Sequence[Statement]
    respond: Respond


@dataclass(slots=True)
class Session:
    """What the server knows of a session."""

    highest: int = -1
    done: set[int] = field(default_factory=set)
    """The statements executed under the highest number."""
    written: tuple[int, frozenset[int]] = (-1, frozenset())
    """The same, as far as it is kept when mongod is killed: a number under which nothing was written is not."""
    forgotten: bool = False
    current: Numbered | None = None
    waiting: deque[Numbered] = field(default_factory=deque)


class Mongo:
    """The database of one logger."""

    def __init__(self, world: World) -> None:
        self.claim = Claim(None, 0)
        self.travelling = 0
        """Commands that were sent and are not done."""
        self._slots = 0
        self._mark = 0
        self._majority_mark = 0
        self._collection: Counter[Identity] = Counter()
        self._majority: set[Identity] = set()
        self._dead_letters: set[Identity] = set()
        self._world = world
        self._oplog = Oplog(world)
        self._replicas: dict[str, float] = {}
        self._sessions: dict[int, Session] = {}
        self._life = 0

    # Reads: of what the majority has, but for the board, which is there for liveness only.

    def board(self, name: str) -> Board:
        """Take a sign of life, and show the claim and who is alive."""
        now = self._world.scheduler.now
        self._replicas[name] = now
        silent = {replica: now - seen for replica, seen in self._replicas.items()}
        return Board({CLAIM: self.claim}, silent, dict.fromkeys(silent, 1))

    def read_mark(self, epoch: int) -> int | None:
        """Return the mark, if the claim is still of this epoch."""
        return self._majority_mark if self.claim.epoch == epoch else None

    def find(self, identities: Sequence[Identity]) -> set[Identity]:
        """Return those that are stored."""
        return self._majority.intersection(identities)

    def settled(self, identity: Identity) -> bool:
        """Tell whether an entry is stored or a dead letter."""
        return identity in self._majority or identity in self._dead_letters

    # Writes that are not numbered.

    def take(self, name: str, seen: Claim, slots: int) -> tuple[int, int] | None:
        """Change the owner of a claim that is still as it was seen; return its epoch and slots."""
        if self.claim != seen:
            return None
        self._slots = max(self._slots, slots)  # that more are fenced than need be does no harm
        self._set_claim(Claim(name, seen.epoch + 1))
        self._world.tally["take-overs"] += 1
        return self.claim.epoch, self._slots

    def give_back(self, name: str, epoch: int) -> None:
        """Make the claim free, if it is still this owner's."""
        if self.claim == Claim(name, epoch):
            self._set_claim(Claim(None, epoch))

    def _set_claim(self, claim: Claim) -> None:
        before, self.claim = self.claim, claim
        self._oplog.append(_nothing, partial(setattr, self, "claim", before))

    def raise_mark(self, mark: int) -> None:
        """Make it at least this."""
        before, self._mark = self._mark, max(self._mark, mark)
        commit = partial(setattr, self, "_majority_mark", self._mark)
        self._oplog.append(commit, partial(setattr, self, "_mark", before))

    def barrier(self) -> int:
        """Write something, and return which primary this is: with it all that this one wrote before becomes durable."""
        self._oplog.append(_nothing, _nothing)
        return self._life

    def stall(self, seconds: float) -> None:
        """Let the majority get nothing for so long."""
        self._oplog.stall(seconds)

    def keep_letters(self, identities: Sequence[Identity]) -> None:
        """Store dead letters, each once."""
        self._world.tally["dead letters"] += len(identities)
        self._oplog.append(partial(self._dead_letters.update, identities), _nothing)

    def answer(self, respond: Respond, value: Any) -> None:
        """Answer a write when the majority has it; sometimes the time for that is over before."""
        if not self._oplog.durable and self._world.stormy(self._world.weather.killed):
            self._world.tally["write concern not met"] += 1
            respond(None, NotDurable())
        else:
            self._oplog.when_durable(partial(respond, value, None), partial(respond, None, Killed()))

    # What is numbered waits for its session.

    def insert_one(self, identity: Identity) -> Written | None:
        """Store a document, if it is a good one. Nothing here keeps it from being there twice: that is noticed."""
        if identity >= POISON:
            return None
        self._collection[identity] += 1
        if self._collection[identity] > 1:
            self._world.say("mongod", "stores entry {} AGAIN", identity)
            raise Broken("twice", f"entry {identity} is stored twice")
        return Written(partial(self._majority.add, identity), partial(self._collection.subtract, (identity,)))

    def fence(self, epoch: int, slot: int) -> Written | None:
        """Change the claim, if it is still of this epoch: that makes the number of the fence durable."""
        if self.claim.epoch != epoch:
            return None
        self._world.say("mongod", "fences slot {}, epoch {}", slot, epoch)
        return Written(_nothing, _nothing)

    def write(self, command: Numbered) -> None:
        """Execute a numbered write when its session is free."""
        session = self._sessions.setdefault(command.slot, Session())
        if session.current is not None:
            session.waiting.append(command)
        else:
            self._begin(session, command)

    def _begin(self, session: Session, command: Numbered) -> None:
        world = self._world
        if command.number < session.highest:
            world.tally["refused"] += 1
            world.say("mongod", "refuses {}: slot {} has seen {}", *_names(command, session.highest))
            command.respond(None, TooOld())
            return
        if command.number == session.highest:
            world.tally["same number again"] += 1
            if session.forgotten or world.stormy(world.weather.forgetful):
                session.forgotten = True
                world.tally["histories lost"] += 1
                self._answer_lost(command.respond)
                return
        else:
            session.highest, session.done, session.forgotten = command.number, set(), False
        session.current = command
        news = any(index not in session.done for index in range(len(command.statements)))
        ahead = world.random.randrange(len(command.statements) + 1)
        self._execute(session, command, ahead)
        seconds = world.random.random() * world.weather.longest if world.stormy(world.weather.slow / 2) else 0.002
        world.scheduler.after(seconds, None, self._end, session, command, news, self._life)

    def _answer_lost(self, respond: Respond) -> None:
        """Say that the history is lost; a look-up that follows sees all that the number may have written."""
        if self._world.rules.sees_failed:
            self._oplog.when_durable(partial(respond, None, HistoryLost()), partial(respond, None, Killed()))
        else:
            respond(None, HistoryLost())

    def _execute(self, session: Session, command: Numbered, upto: int) -> None:
        for index, statement in enumerate(command.statements[:upto]):
            if index in session.done or (written := statement()) is None:
                continue
            session.done.add(index)
            before, session.written = session.written, (session.highest, frozenset(session.done))
            self._oplog.append(written.commit, partial(_undo, written, session, before))

    def _end(self, session: Session, command: Numbered, news: bool, life: int) -> None:
        if life != self._life:
            return
        world = self._world
        if world.stormy(world.weather.killed):
            world.tally["killed half-way"] += 1
            world.say("mongod", "ends {} in slot {} half-way", *_names(command)[:2])
            command.respond(None, Killed())
        else:
            self._execute(session, command, len(command.statements))
            world.say("mongod", "has done {} in slot {}", *_names(command)[:2])
            if news:
                self.answer(command.respond, len(session.done))
            else:
                command.respond(len(session.done), None)
                if not self._oplog.durable:
                    world.tally["answered early"] += 1
                    if world.stormy(world.weather.killed):  # before its client has had time for anything
                        world.scheduler.after(world.random.random() * 0.01, None, self.restart)
        session.current = None
        while session.waiting and session.current is None:
            self._begin(session, session.waiting.popleft())

    def restart(self) -> None:
        """Kill the primary: what is under way ends half-way, and another one goes on from what it has."""
        self._life += 1
        undone = self._oplog.roll_back()
        self._world.tally["rolled back"] += undone
        self._world.say("mongod", "undoes the last {} writes", undone)
        for session in self._sessions.values():
            cut = [command for command in (session.current, *session.waiting) if command is not None]
            session.current, session.waiting = None, deque()
            session.highest, done = session.written
            session.done = set(done)
            for command in cut:
                command.respond(None, Killed())


def _undo(written: Written, session: Session, before: tuple[int, frozenset[int]]) -> None:
    """Undo a statement together with the record of it: in the oplog they are one."""
    written.undo()
    session.written = before


def _nothing() -> None:
    pass


def _names(command: Numbered, highest: int = 0) -> tuple[str, int, str]:
    return numbered(command.number), command.slot, numbered(highest)


def numbered(number: int) -> str:
    """Return a number as people read it: epoch and count."""
    return f"#{number >> 40}.{number & (1 << 40) - 1}"
