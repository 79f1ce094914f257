"""What a fault is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

from tests.chaos.world import World

Strike: TypeAlias = Callable[[World, Random], Coroutine[Any, Any, None]]
"""Break something for a while, and mend it: a fault struck with it may need that. `World.heal` mends what is left."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by its name: `victim: what happens`."""

    name: str
    strike: Strike
    single: bool = True
    """Whether it is struck in the world of single servers."""
    cluster: bool = False
    """Whether it is struck in the world of clusters."""
    arbiter: bool = False
    """Whether it is struck in the world of a primary, a secondary and an arbiter."""
    alone: bool = False
    """Whether no other fault may be struck at the same time: it needs the others to work."""

    def suits(self, world: str) -> bool:
        """Tell whether it is struck in a world."""
        return bool(getattr(self, world, False))

    @property
    def victim(self) -> str:
        """What is struck."""
        return self.name.partition(":")[0]

    @property
    def needs_nats(self) -> bool:
        """Whether no nats-server may be killed meanwhile: it breaks NATS itself, or needs the others to work."""
        return self.alone or self.victim in {"nats", "cluster"}
