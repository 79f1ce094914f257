"""What stands in for MongoDB and other replicas in the tests of those who own a time-series logger."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anyio import Event, lowlevel

from collector.actors.owners import Candidacy
from collector.errors import OwnershipLost, SinkUnavailable
from collector.sinks.timeseries.claims import Fenced
from collector.sinks.timeseries.ownership import Board, Claim, Tenure, claim_id
from tests.support.fakes import ATTACHED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set

    from collector.decoding.identity import Incarnation
    from collector.events import Report
    from collector.model import Entry

SLOTS = 2
CLAIM = claim_id(ATTACHED.incarnation)


class FakeSession:
    """A session of pymongo's."""

    def __init__(self) -> None:
        self.ended = False

    async def end_session(self) -> None:
        """End."""
        await lowlevel.checkpoint()
        self.ended = True


class FakeClaims:
    """Claims in a MongoDB that is played by the test: `down` names what it does not answer, `held` what it holds up."""

    me = "me"

    def __init__(self, mark: int = 0) -> None:
        self.claims: dict[str, Claim] = {}
        self.silent: dict[str, float] = {}
        self.willing: dict[str, int] = {}
        self.mark = mark
        self.calls: list[str] = []
        """What was asked; with a full stop when it was answered."""
        self.touched: list[str] = []
        self.sessions: list[FakeSession] = []
        self.down: set[str] = set()
        self.held: dict[str, Event] = {}
        self._changed = Event()

    async def until(self, call: str, times: int = 1) -> None:
        """Wait until that was asked so often."""
        while self.calls.count(call) < times:
            await self._changed.wait()

    async def register(self, claims: Mapping[str, str]) -> None:
        """See `Claims`."""
        await self._answer("register")
        self.claims = {**dict.fromkeys(claims, Claim(None, 0)), **self.claims}

    async def restore(self, logger: str, fenced: Fenced) -> None:
        """See `Claims`."""
        assert logger
        await self._answer("restore")
        self.claims.setdefault(fenced.tenure.claim, Claim(self.me, fenced.tenure.epoch))

    async def announce(self, willing: int) -> None:
        """See `Claims`."""
        await self._answer("announce")
        self.silent[self.me], self.willing[self.me] = 0.0, willing

    async def leave(self) -> None:
        """See `Claims`."""
        await self._answer("leave")
        del self.silent[self.me]

    async def board(self, claims: Collection[str]) -> Board:
        """See `Claims`."""
        await self._answer("board")
        known = {claim: self.claims[claim] for claim in claims if claim in self.claims}
        return Board(known, dict(self.silent), dict(self.willing))

    async def take(self, claim: str, seen: Claim) -> Fenced | None:
        """See `Claims`."""
        await self._answer("take")
        if self.claims[claim] != seen:
            return None
        self.claims[claim] = Claim(self.me, seen.epoch + 1)
        sessions: list[Any] = [FakeSession() for _ in range(SLOTS)]
        self.sessions += sessions
        return Fenced(Tenure(claim, seen.epoch + 1, SLOTS, self.mark), sessions, None, None)

    async def give_back(self, tenure: Tenure) -> None:
        """See `Claims`."""
        await self._answer("give_back")
        if self.claims[tenure.claim] == Claim(self.me, tenure.epoch):
            self.claims[tenure.claim] = Claim(None, tenure.epoch)

    async def touch(self, tenures: Iterable[Fenced]) -> None:
        """See `Claims`."""
        self.touched += [one.tenure.claim for one in tenures]
        await self._answer("touch")

    async def _answer(self, call: str) -> None:
        self._note(call)
        if call in self.held:
            await self.held[call].wait()
        await lowlevel.checkpoint()
        self._note(f"{call}.")
        if call in self.down:
            raise SinkUnavailable(f"no {call}")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self._changed.set()
        self._changed = Event()


class FakeOwners:
    """Candidacies that the test gives their turn, takes away, or wants back."""

    def __init__(self, claims: FakeClaims, report: Report) -> None:
        self.claims = claims
        self.all: list[Candidacy] = []
        self.open = 0
        self._report = report

    @contextmanager
    def candidacy(self, logger: str, incarnation: Incarnation, *, stays: bool = False) -> Iterator[Candidacy]:
        """See `Owners`."""
        del stays
        claims: Any = self.claims
        claim = claim_id(incarnation)
        self.claims.claims.setdefault(claim, Claim(None, 0))
        self.all.append(Candidacy(logger, claim, claims, self._report, lambda _: None))
        self.open += 1
        try:
            yield self.all[-1]
        finally:
            self.open -= 1

    def give_turn(self) -> None:
        """Let the last candidate take the claim as it is."""
        candidacy = self.all[-1]
        candidacy.seen = self.claims.claims[candidacy.claim]
        candidacy.offered.set()


class FakeStore:
    """A time-series collection that is played by the test: each insert gives what is next in `script`, then all fits.

    What an insert gives is a reply, or an error to raise.
    """

    def __init__(self, *script: Mapping[str, Any] | Exception, mark: int = 0) -> None:
        self.script = list(script)
        self.inserts: list[tuple[int, int, list[int]]] = []
        """The slot, the number and the sequences of each."""
        self.looked_up: list[list[int]] = []
        self.there: set[int] = set()
        """The sequences whose entries are stored."""
        self.mark = mark
        self.fenced = False
        self.let_insert = Event()
        self.let_insert.set()
        self.inserting = Event()

    async def stored(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """See `Store`."""
        await lowlevel.checkpoint()
        self.looked_up.append(_sequences(entries))
        return [entry for entry in entries if entry.delivery.sequence in self.there]

    async def raise_mark(self, mark: int) -> None:
        """See `Store`."""
        await lowlevel.checkpoint()
        self.mark = max(self.mark, mark)

    async def insert(self, slot: int, number: int, entries: Sequence[Entry], *, again: bool) -> Mapping[str, Any]:
        """See `Store`."""
        assert again == any((slot, number) == before[:2] for before in self.inserts)
        sequences = _sequences(entries)
        assert max(sequences) <= self.mark, "nobody has ever inserted above the mark"
        self.inserts.append((slot, number, sequences))
        self.inserting.set()
        await self.let_insert.wait()
        if self.fenced:
            raise OwnershipLost("it")
        played = self.script.pop(0) if self.script else {"ok": 1.0}
        if isinstance(played, Exception):
            raise played
        self.there.update(sequences)
        return played


class BucketStore(FakeStore):
    """One that refuses a whole command when a guilty entry is in it, as mongod may do with a bucket."""

    def __init__(self, guilty: Set[int]) -> None:
        super().__init__()
        self.guilty = guilty

    async def insert(self, slot: int, number: int, entries: Sequence[Entry], *, again: bool) -> Mapping[str, Any]:
        """See `Store`."""
        if self.guilty.isdisjoint(_sequences(entries)):
            return await super().insert(slot, number, entries, again=again)
        there = self.there.copy()
        await super().insert(slot, number, entries, again=again)
        self.there = there
        errors = [{"index": index, "code": 183934, "errmsg": "no"} for index in range(len(entries))]
        return {"ok": 1.0, "n": 0, "writeErrors": errors}


def _sequences(entries: Sequence[Entry]) -> list[int]:
    return [entry.delivery.sequence for entry in entries]
