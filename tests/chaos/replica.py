"""A replica that can be struck: stopped, woken, blocked, and stopped in the middle of a write."""

from __future__ import annotations

import os
import signal
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from collector.local import Replica

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collector.local import Mongod, NatsServer

ACK_WAIT = 3.0
BLOCKED = 4.0
"""Seconds of a blocked event loop: longer than ack wait."""
WRITE_TIMEOUT = 5.0
SETTINGS = {
    "COLLECTOR_ACK_WAIT": f"{ACK_WAIT:.0f}s",
    "COLLECTOR_WRITE_TIMEOUT": f"{WRITE_TIMEOUT:.0f}s",
    "COLLECTOR_SHUTDOWN_TIMEOUT": "12s",
    "CHAOS_BLOCK": str(BLOCKED),
}
_WRITES = "collector_writes_in_progress{"
_WRITTEN = "collector_written_entries_total{"
_PROGRAM = Path(__file__).with_name("wrapped.py")


class Victim(Replica):
    """A replica with a number. It has started when it lives, whether or not NATS and MongoDB do."""

    def __init__(
        self, number: int, folder: Path, namespace: str, nats: NatsServer, mongod: Mongod, settings: Mapping[str, str]
    ) -> None:
        folder = folder / f"replica-{number}"
        self._armed_path = folder / "armed"
        armed = {"CHAOS_ARMED": str(self._armed_path)}
        super().__init__(folder, namespace, nats, mongod, {**SETTINGS, **armed, **settings})
        self._lives = 0

    def start(self) -> None:
        """Start it; what it said in its earlier life is kept beside."""
        if self.log_path.exists():
            self._lives += 1
            self.log_path.rename(self.log_path.with_name(f"life-{self._lives}.out"))
        super().start()

    def block(self) -> None:
        """Block its event loop for BLOCKED seconds."""
        os.kill(self.pid, signal.SIGUSR1)

    def arm(self, collection: str) -> None:
        """Have it stop itself when it is about to send its next insert into a collection."""
        self._armed_path.write_text(collection)
        os.kill(self.pid, signal.SIGUSR2)

    def has_stopped(self) -> bool:
        """Tell whether it has stopped since the last look."""
        return os.waitpid(self.pid, os.WUNTRACED | os.WNOHANG) != (0, 0)

    def is_writing(self, key: str) -> bool:
        """Tell whether a write of a logger is under way here."""
        return self._sum(_WRITES, key) > 0

    def written(self, key: str) -> float:
        """Return how many entries of a logger it has stored; 0 while it does not answer."""
        return self._sum(_WRITTEN, key)

    def _sum(self, metric: str, key: str) -> float:
        try:
            lines = self.get("/metrics")[1].splitlines()
        except (OSError, HTTPException):
            return 0
        own = (line for line in lines if line.startswith(metric) and f'logger="{key}"' in line)
        return sum(float(line.rpartition(" ")[2]) for line in own)

    def _command(self) -> list[str]:
        return [str(self.program), "-P", str(_PROGRAM), "run"]

    def _answers(self) -> bool:
        try:
            return self.alive and self.get("/livez")[0] == 200
        except (OSError, HTTPException):
            return False
