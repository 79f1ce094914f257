"""Who waits to be started again, and how often each crashed: the supervision tree as it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collector.events import State

if TYPE_CHECKING:
    from collector.events import Crashed

ROOT_ACTORS = ("owners", "registry", "sampler", "storage", "pipelines")
"""The permanent children of the root: what befalls them is no logger's."""
AT_WORK = frozenset({State.RUNNING, State.STANDBY})
"""States of a pipeline in which it waits for nothing after a crash."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """A crash, and when its actor is started again."""

    attempt: int
    until: float

    def as_json(self, now: float) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"attempt": self.attempt, "restart_in_seconds": round(max(0.0, self.until - now), 1)}


class Restarts:
    """What the supervisors report. An actor of the root says nothing when it runs again: its time is over then."""

    def __init__(self) -> None:
        self._root: dict[str, Backoff] = {}
        self._crashes = dict.fromkeys(ROOT_ACTORS, 0)
        self._loggers: dict[str, Backoff] = {}

    def crashed(self, crash: Crashed, now: float) -> None:
        """Take in a crash."""
        backoff = Backoff(crash.attempt, now + crash.delay)
        if crash.logger is None:
            self._root[crash.actor] = backoff
            self._crashes[crash.actor] = self._crashes.get(crash.actor, 0) + 1
        else:
            self._loggers[crash.logger] = backoff

    def over(self, logger: str) -> None:
        """Take in that a logger's pipeline is at work again, or gone."""
        self._loggers.pop(logger, None)

    def of_logger(self, key: str) -> Backoff | None:
        """Return what a logger's pipeline waits for since its crash; None when it runs, or never crashed."""
        return self._loggers.get(key)

    def of_root(self, now: float) -> dict[str, dict[str, Any]]:
        """Return the permanent actors and their states as JSON values."""
        return {actor: self._actor(actor, crashes, now) for actor, crashes in self._crashes.items()}

    def _actor(self, actor: str, crashes: int, now: float) -> dict[str, Any]:
        backoff = self._root.get(actor)
        waits = backoff is not None and now < backoff.until
        return {
            "state": State.BACKING_OFF.value if waits else State.RUNNING.value,
            "restarts": crashes,
            "backoff": backoff.as_json(now) if backoff is not None and waits else None,
        }
