"""Who owns a time-series logger, and what an owner may do: rules 1, 2 and 5 of docs/timeseries.md. Pure.

One replica at a time consumes such a logger, the others stand by. Who it is, is a matter of liveness only: what keeps
an old owner from writing is the fence, and that is the database's.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from collector.decoding.identity import Incarnation

CLAIM_TTL = 10.0
"""Seconds without a sign of life after which a replica's claims are free."""
_PATIENCE = 2.0
"""Seconds for which a claim that is free is left to the replicas that own fewer."""
_EPOCH_BITS = 40
_MARK_STEP = 20_000
_SESSIONS = uuid.UUID("6f1ff6a3-9a5c-5c0e-9f0b-2f4d1f1c8a51")
"""The namespace of the session ids (RFC 9562, version 5), chosen once at random."""


def claim_id(incarnation: Incarnation) -> str:
    """Return the `_id` of the claim document of one life of a stream."""
    return f"{incarnation.stream} {incarnation.created}"


def session_id(claim: str, slot: int) -> uuid.UUID:
    """Return the id of the session through which the owner writes in a slot: every replica knows it."""
    return uuid.uuid5(_SESSIONS, f"{claim} {slot}")


def write_number(epoch: int, count: int) -> int:
    """Return the number of a write in a session; count 0 is the fence. Those of a later epoch are all higher."""
    return epoch << _EPOCH_BITS | count


@dataclass(slots=True)
class Tenure:
    """What an owner was given: its epoch, the slots it may write through, and the mark as it stood after its fence."""

    claim: str
    epoch: int
    slots: int
    mark: int
    """Nobody has ever inserted a sequence above it."""

    def mark_needed(self, sequence: int) -> int | None:
        """Return where the mark has to be raised to before this sequence is inserted, if it has to."""
        return sequence + _MARK_STEP if sequence > self.mark else None

    def raised(self, mark: int) -> None:
        """Take note that the mark is durable there."""
        self.mark = max(self.mark, mark)


@dataclass(frozen=True, slots=True)
class Claim:
    """Who owns a logger now, by the claim document."""

    owner: str | None
    epoch: int


@dataclass(frozen=True, slots=True)
class Board:
    """What a replica sees of all: the claims that it is a candidate for, and who is alive, by the database's clock."""

    claims: Mapping[str, Claim]
    silent: Mapping[str, float]
    """Seconds since the last sign of life of each replica."""
    willing: Mapping[str, int]
    """For how many loggers each replica is a candidate."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about claims."""

    take: list[str] = field(default_factory=list)
    hand_over: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


class Shares:
    """Decides for one replica which claims to take and which to hand over, so that all own about as many."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._free_since: dict[str, float] = {}
        self._owned_since: dict[str, float] = {}
        self._handing_over: frozenset[str] = frozenset()
        self._handed_over = -math.inf

    def decide(self, board: Board, standing_by: Collection[str], owning: Mapping[str, int], now: float) -> Decision:
        """Compare what is with what should be: `owning` has the epochs of what this replica owns.

        `now` is in seconds of any clock that never goes back. A board from before a claim was taken says nothing of it.
        """
        lost = [claim for claim, epoch in owning.items() if self._lost(board.claims[claim], epoch)]
        owned = sorted(set(owning) - set(lost))
        live = {name for name, silent in board.silent.items() if silent < CLAIM_TTL} | {self._me}
        counts = Counter(dict.fromkeys(live, 0))
        free = []
        for name, claim in sorted(board.claims.items()):
            if claim.owner in live and (claim.owner != self._me or name in owned):
                counts[claim.owner] += 1
            elif name in standing_by:
                free.append(name)
        self._owned_since = {claim: self._owned_since.get(claim, now) for claim in owned}
        self._free_since = {claim: self._free_since.get(claim, now) for claim in free}
        take = self._to_take(free, counts, board.willing, now)
        return Decision(take, self._to_hand_over(owned, counts, board.willing, now), lost)

    def _lost(self, claim: Claim, epoch: int) -> bool:
        return claim.epoch > epoch or (claim.epoch == epoch and claim.owner != self._me)

    def _to_take(self, free: list[str], counts: Counter[str], willing: Mapping[str, int], now: float) -> list[str]:
        """Take at once what falls to us, and what nobody else took after a while."""
        mine = self._allotted(free, counts, willing)
        return [claim for claim in free if claim in mine or now - self._free_since[claim] >= _PATIENCE]

    def _allotted(self, free: list[str], counts: Counter[str], willing: Mapping[str, int]) -> set[str]:
        """Deal what is free, each to the one that owns least, as every other replica does: nobody takes another's."""
        mine, counts = set(), counts.copy()
        for claim in free:
            takers = [name for name in counts if name == self._me or counts[name] < willing.get(name, 0)]
            taker = min(takers, key=lambda name: (counts[name], name))
            counts[taker] += 1
            if taker == self._me:
                mine.add(claim)
        return mine

    def _to_hand_over(
        self, owned: list[str], counts: Counter[str], willing: Mapping[str, int], now: float
    ) -> list[str]:
        """Give half of the difference to the one that owns least, if nobody owns more than we do.

        What was decided stands for a while: until the other one has taken it, we would give more and more.
        """
        if now - self._handed_over < CLAIM_TTL:
            return [claim for claim in owned if claim in self._handing_over]
        takers = [count for name, count in counts.items() if count < willing.get(name, 0) and name != self._me]
        most = max(counts, key=lambda name: (counts[name], name))
        if not takers or most != self._me:
            return []
        surplus = (counts[self._me] - min(takers)) // 2
        settled = [claim for claim in owned if now - self._owned_since[claim] >= CLAIM_TTL]
        self._handing_over = frozenset(settled[:surplus])
        if self._handing_over:
            self._handed_over = now
        return settled[:surplus]
