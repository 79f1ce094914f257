"""The ownership of time-series loggers, and the limits of an owner: rules 1, 2 and 5 of docs/timeseries.md. Pure.

One replica at a time consumes a time-series logger, the others stand by. Claims decide about liveness only: the fence
in the database keeps an earlier owner from writing.
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
"""Seconds for which a free claim is left to the replicas that own fewer."""
_EPOCH_BITS = 40
_MARK_STEP = 20_000
_SESSIONS = uuid.UUID("6f1ff6a3-9a5c-5c0e-9f0b-2f4d1f1c8a51")
"""The namespace of the session ids (RFC 9562, version 5), chosen once at random."""


def claim_id(incarnation: Incarnation) -> str:
    """Return the `_id` of the claim document of an incarnation."""
    return f"{incarnation.stream} {incarnation.created}"


def session_id(claim: str, slot: int) -> uuid.UUID:
    """Return the id of the session of a slot; it is the same on every replica."""
    return uuid.uuid5(_SESSIONS, f"{claim} {slot}")


def write_number(epoch: int, count: int) -> int:
    """Return the number of a write in a session; count 0 is the fence. All numbers of a later epoch are higher."""
    return epoch << _EPOCH_BITS | count


@dataclass(slots=True)
class Tenure:
    """One ownership: its epoch, the slots that the owner may write through, and the mark as read after the fence."""

    claim: str
    epoch: int
    slots: int
    mark: int
    """No replica has ever inserted a sequence above it."""

    def mark_needed(self, sequence: int) -> int | None:
        """Return the mark that has to be durable before this sequence is inserted; None when it is high enough."""
        return sequence + _MARK_STEP if sequence > self.mark else None

    def raised(self, mark: int) -> None:
        """Note that this mark is durable."""
        self.mark = max(self.mark, mark)


@dataclass(frozen=True, slots=True)
class Claim:
    """The owner of a logger, by the claim document."""

    owner: str | None
    epoch: int


@dataclass(frozen=True, slots=True)
class Board:
    """The claims that a replica is a candidate for, and the signs of life of all replicas, by the database's clock."""

    claims: Mapping[str, Claim]
    silent: Mapping[str, float]
    """Seconds since the last sign of life of each replica."""
    willing: Mapping[str, int]
    """The number of loggers that each replica is a candidate for."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The claims to take, to hand over, and to give up as lost."""

    take: list[str] = field(default_factory=list)
    hand_over: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


class Shares:
    """Decides for one replica which claims to take and which to hand over, so that all replicas own about as many."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._free_since: dict[str, float] = {}
        self._owned_since: dict[str, float] = {}
        self._handing_over: frozenset[str] = frozenset()
        self._handed_over = -math.inf

    def decide(
        self,
        board: Board,
        standing_by: Collection[str],
        owning: Mapping[str, int],
        now: float,
        staying: Collection[str] = (),
    ) -> Decision:
        """Decide what to do about the claims of a board; `owning` has the epochs of the claims that this replica owns.

        Claims that are `staying` are not handed over, because no other replica could take them.
        `now` is in seconds of any clock that never goes back. A board from before a taking may show an older epoch of
        the claim, which does not mean that the claim was lost.
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
        movable = [claim for claim in owned if claim not in staying]
        return Decision(take, self._to_hand_over(movable, counts, board.willing, now), lost)

    def _lost(self, claim: Claim, epoch: int) -> bool:
        return claim.epoch > epoch or (claim.epoch == epoch and claim.owner != self._me)

    def _to_take(self, free: list[str], counts: Counter[str], willing: Mapping[str, int], now: float) -> list[str]:
        """Take the claims that are allotted to this replica, and after a while those that no other replica took."""
        mine = self._allotted(free, counts, willing)
        return [claim for claim in free if claim in mine or now - self._free_since[claim] >= _PATIENCE]

    def _allotted(self, free: list[str], counts: Counter[str], willing: Mapping[str, int]) -> set[str]:
        """Deal each free claim to the replica that owns least. Every replica deals alike, so none is taken twice."""
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
        """Give half of the difference to the replica that owns least, if no replica owns more than this one.

        A decision stands for a while: until the other replica has taken the claims, this one would give ever more.
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
