"""Replicas that need not be ready to have started: they may lack what they need."""

from __future__ import annotations

from http.client import HTTPException

from collector.local import Replica


class Alive(Replica):
    """A replica that has started when it is alive."""

    def _answers(self) -> bool:
        try:
            return self.alive and self.get("/livez")[0] == 200
        except (OSError, HTTPException):
            return False


class Connected(Alive):
    """A replica that has started when it is connected to NATS and MongoDB."""

    def _answers(self) -> bool:
        return super()._answers() and all(self.status["connected"].values())
