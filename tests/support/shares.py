"""Boards of claims, and a replica that decides by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.sinks.timeseries.ownership import (
    Board,
    Claim,
    Decision,
    Shares,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

FREE = Claim(None, 3)


PATIENCE = 2.0


def names(number: int) -> list[str]:
    return [f"claim{index}" for index in range(number)]


def board(claims: dict[str, Claim], **silent: float) -> Board:
    """Everybody who is heard of is a candidate for all."""
    return Board(claims, silent, dict.fromkeys(silent, len(claims)))


def owned_by(owner: str, *claims: str, epoch: int = 4) -> dict[str, Claim]:
    return dict.fromkeys(claims, Claim(owner, epoch))


class Replica:
    """`Shares` of a replica, and what it owns."""

    def __init__(self, me: str = "me", *owning: str, epoch: int = 4, since: float | None = None) -> None:
        self.me, self.owning, self._shares = me, dict.fromkeys(owning, epoch), Shares(me)
        if since is not None:
            self.decide(board(owned_by(me, *owning, epoch=epoch), **{me: 0.0}), since)

    def decide(self, seen: Board, now: float, staying: Sequence[str] = ()) -> Decision:
        return self._shares.decide(seen, seen.claims.keys() - self.owning, self.owning, now, staying)
