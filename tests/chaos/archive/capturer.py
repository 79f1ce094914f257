"""A process of `collector archive run` that can be struck: killed, stopped, and both in the middle of a create."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from collector.local.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.chaos.archive.captures import Captured
    from tests.chaos.archive.places import Place

_LIMITS = {"--window": "3s", "--max-age": "400ms", "--max-messages": "500"}
"""Of a cut: small ones, so that much is created, but a backlog is cut into few."""
_PROGRAM = Path(__file__).with_name("wrapped.py")
_OURS = ("COLLECTOR_", "NATS_", "AWS_", "AZURE_", "GOOGLE_", "MODE")


class Capturer(Server):
    """One of several replicas that capture the same stream. It has started when it lives."""

    name = "capturer"

    def __init__(self, number: int, captured: Captured, place: Place, folder: Path, nats: str) -> None:
        super().__init__(folder / f"{captured.stream}-{number}", Path(sys.executable), port=None)
        self.captured = captured
        self.log_path = self._output_path
        self._place = place
        self._nats = nats
        self._lives = 0

    @property
    def url(self) -> str:
        """The address of its HTTP endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; its output of an earlier life is kept beside."""
        if self.log_path.exists():
            self._lives += 1
            self.log_path.rename(self.log_path.with_name(f"life-{self._lives}.out"))
        super().start()

    def has_stopped(self) -> bool:
        """Tell whether it has stopped since the last look."""
        try:
            return self.alive and os.waitpid(self.pid, os.WUNTRACED | os.WNOHANG) != (0, 0)
        except ChildProcessError:
            return False

    def _command(self) -> list[str]:
        captured = self.captured
        options = {
            "--stream": captured.stream,
            "--durable": captured.durable,
            "--to": self._place.address,
            "--format": captured.form,
            "--compression": captured.compression,
            **_LIMITS,
            "--path": captured.template,
            "--group-by": captured.key,
            "--decoder": captured.decoder,
        }
        given = [text for option, value in options.items() if value for text in (option, value)]
        return [str(self.program), "-P", str(_PROGRAM), "archive", "run", *given]

    def _environment(self) -> Mapping[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        orders = {"CHAOS_FOLDER": str(self._place.folder), "CHAOS_NAME": self.captured.stream}
        if self._place.proxy is None:
            orders["CHAOS_WEATHER"] = "1"
        ours = {"NATS_HOSTS": self._nats, "COLLECTOR_HTTP": f"127.0.0.1:{self.port}", "MODE": "release"}
        return {**inherited, **ours, **orders, **self._place.environ}

    def _answers(self) -> bool:
        return self.alive
