"""A logger of the upkeep, in a test."""

from __future__ import annotations

from dataclasses import dataclass, field

from collector.flow.in_hand import InHand


@dataclass
class Kept:
    """See `collector.actors.upkeep.Kept`; counts how often it was asked to give way."""

    in_hand: InHand = field(default_factory=InHand)
    ack_wait: float = 30.0
    keeps_alive: bool = True
    asked: int = 0

    def give_way(self) -> None:
        """See `collector.actors.upkeep.Kept`."""
        self.asked += 1

    def rest(self) -> None:
        """See `collector.actors.upkeep.Kept`."""
