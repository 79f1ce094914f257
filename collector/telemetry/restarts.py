"""The supervision tree as it stands: how often each actor crashed, and which ones wait to be started again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collector.events import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from collector.events import Crashed

ROOT_ACTORS = ("owners", "upkeep", "registry", "sampler", "storage", "presence", "pipelines")
"""The permanent children of the root. Their crashes belong to no logger."""
AT_WORK = frozenset({State.RUNNING, State.STANDBY})
"""States of a pipeline that has nothing to recover from."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """A crash, and when its actor is started again."""

    attempt: int
    until: float

    def as_json(self, now: float) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"attempt": self.attempt, "restart_in_seconds": round(max(0.0, self.until - now), 1)}


@dataclass(slots=True)
class _Life:
    """How often an actor crashed, and the backoff of its last crash."""

    crashes: int = 0
    backoff: Backoff | None = None

    def crashed(self, crash: Crashed, now: float) -> None:
        self.crashes += 1
        self.backoff = Backoff(crash.attempt, now + crash.delay)


class Restarts:
    """The crashes that the supervisors report.

    A pipeline says when it is at work again. An actor of the root does not, so its backoff ends when its delay is over.
    """

    def __init__(self, root: Iterable[str] = ROOT_ACTORS) -> None:
        """Begin without a crash; `root` are the permanent actors that the replica has."""
        self._root = {actor: _Life() for actor in root}
        self._loggers: dict[str, _Life] = {}

    def crashed(self, crash: Crashed, now: float) -> None:
        """Take in a crash."""
        lives, name = (self._root, crash.actor) if crash.logger is None else (self._loggers, crash.logger)
        lives.setdefault(name, _Life()).crashed(crash, now)

    def at_work(self, logger: str) -> None:
        """Take in that a logger's pipeline is at work again."""
        if (life := self._loggers.get(logger)) is not None:
            life.backoff = None

    def backing_off(self) -> list[str]:
        """Return the loggers whose pipelines wait to be started again."""
        return [logger for logger, life in self._loggers.items() if life.backoff is not None]

    def forget(self, logger: str) -> None:
        """Take in that a logger is gone."""
        self._loggers.pop(logger, None)

    def of_logger(self, key: str) -> tuple[int, Backoff | None]:
        """Return how often a logger's pipeline crashed, and its present backoff; None when it has none."""
        life = self._loggers.get(key)
        return (0, None) if life is None else (life.crashes, life.backoff)

    def of_root(self, now: float) -> dict[str, dict[str, Any]]:
        """Return the permanent actors and their states as JSON values."""
        return {actor: _as_json(life, now) for actor, life in self._root.items()}


def _as_json(life: _Life, now: float) -> dict[str, Any]:
    waits = life.backoff is not None and now < life.backoff.until
    return {
        "state": State.BACKING_OFF.value if waits else State.RUNNING.value,
        "restarts": life.crashes,
        "backoff": life.backoff.as_json(now) if life.backoff is not None and waits else None,
    }
